"""``aerun-denoise RUN IN OUT``: clean an image, or a folder of images, with a trained run."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerun.base.arguments import Parser, share
from aerun.cli.command import add_overwrite_option, add_run_arguments, run_command
from aerun.errors import ConfigError

if TYPE_CHECKING:
    from aerun.use.denoising.cleaning import Cleaned
    from aerun.use.denoising.denoise_plan import Plan
    from aerun.use.denoising.filter_baselines import Scores

log = logging.getLogger(__name__)
EXAMPLES = """\
  %(prog)s outputs/RUN_FOLDER scan.png clean.png
  %(prog)s outputs/RUN_FOLDER ~/scans ~/clean
  %(prog)s outputs/RUN_FOLDER ~/scans ~/clean --page --difference ~/removed
  %(prog)s outputs/RUN_FOLDER dirty cleaned --clean originals --json > scores.json
  %(prog)s outputs/RUN_FOLDER ~/scans ~/clean --resume          # continue after an interruption"""


def build_parser() -> Parser:
    """All options."""
    parser = Parser(
        "Clean images at their own resolution, tile by tile. PNG, JPEG, WebP, BMP and TIFF (only the first page) keep "
        "format, name, subfolder, resolution and transparency; other formats become PNG. What is lost is named. "
        "Originals are never replaced. "
        "To train a suitable run: experiment=denoise_scans.",
        EXAMPLES,
    )
    add_run_arguments(parser)
    parser.add_argument("source", metavar="IN", type=Path, help="an image, or a folder of images")
    parser.add_argument("target", metavar="OUT", type=Path, help="another file or folder, for the cleaned images")
    add_overwrite_option(parser)
    parser.add_argument("--resume", action="store_true", help="skip images whose cleaned file exists")
    parser.add_argument("--page", action="store_true", help="before, make the paper white: tint, light, grain")
    parser.add_argument("--strength", type=share, default=1.0, help="share of each change that is made (1)")
    parser.add_argument("--mask", type=Path, metavar="MASKS", help="images of the same names, white where to clean")
    parser.add_argument(
        "--difference", type=Path, metavar="FOLDER", help="also write pictures of the marks that were taken away"
    )
    parser.add_argument(
        "--all-changes",
        action="store_true",
        help="make every change of the run; otherwise, if it has learned to remove marks, only those of which it is "
        "sure, and pictures that would change in many places are left as they are",
    )
    parser.add_argument(
        "--clean",
        type=Path,
        metavar="ORIGINALS",
        help="undamaged images of the same names: print PSNR and SSIM of the run and of three filters (median, "
        "bilateral, non-local means), each with its best setting on these images",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def main() -> int:
    """The console command."""
    return run_command(build_parser, execute)


def execute(arguments: argparse.Namespace) -> None:
    """Check everything that needs no torch, clean, print."""
    from aerun.runs.folder import read_config
    from aerun.use.denoising.denoise_plan import make_plan
    from aerun.use.denoising.filter_baselines import Scores, require_skimage

    read_config(Path(arguments.run).expanduser())
    overwrite, resume = arguments.overwrite, arguments.resume
    if overwrite and resume:
        raise ConfigError("--overwrite --resume: --overwrite replaces the files that --resume skips; use one of them")
    plan = make_plan(
        arguments.source,
        arguments.target,
        arguments.clean,
        masks=arguments.mask,
        differences=arguments.difference,
        overwrite=overwrite,
        resume=resume,
    )
    if plan.originals:
        require_skimage()

    from aerun.use.denoising.cleaning import Care, clean_files, removes_marks
    from aerun.use.denoising.tiling import check_denoiser
    from aerun.use.opened_run import open_run

    run = open_run(arguments.run, arguments.device, arguments.trust)
    check_denoiser(run)
    if run.config["noise"].get("_target_", "").endswith(".NoNoise"):
        log.warning("%s: was trained without noise and has not learned to clean", run.folder)
    scores = Scores()
    only_sure = removes_marks(run) and not arguments.all_changes
    cleaned = clean_files(run, plan, scores, Care(arguments.page, only_sure, arguments.strength))
    if arguments.json:
        print(json.dumps(as_json(plan, cleaned, scores), indent=2, ensure_ascii=False))
    else:
        print(format_report(plan, cleaned, scores, arguments.target))


def as_json(plan: Plan, cleaned: Cleaned, scores: Scores) -> dict[str, Any]:
    """Written files by image, files that existed before, images that could not be decoded, and scores."""
    files = {name: str(target) for name, _, target in plan.files}
    return {
        "cleaned": {name: files[name] for name in cleaned.shares},
        "changed": cleaned.shares,
        "left": cleaned.left,
        "there": {name: file for name, file in files.items() if name in plan.existing},
        "not_decoded": [name for name in files if name not in plan.existing and name not in cleaned.shares],
        **(scores.as_json() if scores.of else {}),
    }


def format_report(plan: Plan, cleaned: Cleaned, scores: Scores, target: Path) -> str:
    """One line, followed by tables and a verdict if the images were scored."""
    skipped = f", {len(plan.existing)} existed before" if plan.existing else ""
    line = f"{len(cleaned.shares)} of {len(plan.files)} images cleaned{skipped}: {target}"
    line = "\n".join(filter(None, [line, cleaned.report()]))
    return f"{line}\n\n{scores.by_image()}\n\n{scores.table()}\n\n{scores.verdict()}" if scores.of else line
