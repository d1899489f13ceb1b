"""``aerun-anomalies RUN PICTURES``: which pictures are unusual for a run, and from which score on."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from aerun.base.arguments import Parser, count, png_file, share
from aerun.cli.command import add_overwrite_option, add_run_arguments, run_command
from aerun.errors import ConfigError
from aerun.use.outputs import require_absent

EXAMPLES = """\
  %(prog)s outputs/RUN_FOLDER ~/new                             # a folder; the run has seen normal pictures only
  %(prog)s outputs/RUN_FOLDER ~/new --false-alarms 0.01 --sheet worst.png --csv scores.csv
  %(prog)s outputs/RUN_FOLDER ~/new --by ssim --maps maps.npz   # scores of single pixels
  %(prog)s outputs/RUN_FOLDER vectors.npy --by knn --json"""
SCORES = ("fused", "error", "error_peak", "ssim", "ssim_peak", "mahalanobis", "knn", "likelihood", "pca", "pca_peak")
OUTPUTS = {"csv": (".csv",), "maps": (".npz",)}


def build_parser() -> Parser:
    """All options."""
    parser = Parser(
        "Score pictures or vectors by how unusual they are for a run that was trained on normal ones. Scores are "
        "fitted to the run's training images, and the threshold is chosen on its validation images, so the run's data "
        "are needed.",
        EXAMPLES,
    )
    add_run_arguments(parser)
    add = parser.add_argument
    add("pictures", metavar="PICTURES", type=Path, help="a folder, an image file, or a .npy or .npz file")
    add(
        "--by",
        choices=SCORES,
        default="fused",
        help="error of the reconstruction (mean, or largest in a window), 1 - SSIM of it (mean, worst window), "
        "distance of the code to training codes (Mahalanobis, nearest neighbors), -log p(x) of a Gaussian latent, "
        "error of principal components; fused: several of them (fused)",
    )
    add(
        "--false-alarms",
        type=share,
        default=0.01,
        metavar="SHARE",
        help="share of normal pictures that may be above the threshold (0.01, which needs 99 validation images)",
    )
    add("-k", type=count, default=12, metavar="N", help="pictures to print and to draw (12)")
    add("--neighbors", type=count, default=5, metavar="N", help="nearest training codes, for --by knn (5)")
    add("--json", action="store_true", help="print JSON with all pictures and all scores")
    add("--csv", type=Path, metavar="FILE", help="write all scores of all pictures")
    add("--sheet", type=png_file, metavar="PNG", help="draw the least normal pictures with maps of their errors")
    add("--maps", type=Path, metavar="FILE.npz", help="write the scores of all pixels of all pictures")
    add_overwrite_option(parser)
    return parser


def main() -> int:
    """The console command."""
    return run_command(build_parser, execute)


def execute(arguments: argparse.Namespace) -> None:
    """Fit, score, print, write."""
    from aerun.runs.folder import read_config

    read_config(Path(arguments.run).expanduser())
    for option, ends in OUTPUTS.items():
        path = vars(arguments)[option]
        if path is not None and path.suffix not in ends:
            raise ConfigError(f"--{option} {path}: must end in {ends[0]}")
    outputs = [arguments.csv, arguments.sheet, arguments.maps]
    require_absent([path for path in outputs if path is not None], arguments.overwrite)
    pictures = arguments.pictures.expanduser()
    if not pictures.exists():
        raise ConfigError(f"{pictures}: there is no such file or folder")

    from aerun.use.anomalies import anomaly_report as report
    from aerun.use.anomalies.finding import fit_run, score_pictures
    from aerun.use.opened_run import open_run

    has_maps = arguments.maps is not None
    run = open_run(arguments.run, arguments.device, arguments.trust)
    if arguments.sheet is not None or has_maps:
        run.require_images()
    rate = arguments.false_alarms
    detector = fit_run(run, rate, arguments.neighbors, key="--false-alarms")
    found = score_pictures(run, detector, pictures, arguments.by, rate, key="--by", maps=has_maps)
    if arguments.csv is not None:
        report.write_csv(arguments.csv, found)
    if has_maps:
        report.write_maps(arguments.maps, found)
    if arguments.sheet is not None:
        report.draw_anomalies(arguments.sheet, run, detector, found, pictures, arguments.k)
    if arguments.json:
        print(json.dumps(report.anomalies_as_json(found), indent=2, ensure_ascii=False))
    else:
        print(report.format_anomalies(found, arguments.k))
