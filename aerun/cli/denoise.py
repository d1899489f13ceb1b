"""``aerun-denoise RUN IN OUT``: clean a picture, or a folder of them, with a trained run."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerun.base.arguments import Parser
from aerun.cli.command import add_run_arguments, run_command
from aerun.errors import ConfigError, DataError
from aerun.use.outputs import add_overwrite_option

if TYPE_CHECKING:
    from aerun.use.denoising.denoise_plan import Plan
    from aerun.use.denoising.filter_baselines import Scores
    from aerun.use.denoising.scan_files import Scan
    from aerun.use.opened_run import OpenedRun

log = logging.getLogger(__name__)
EXAMPLES = """  aerun-denoise outputs/RUN_FOLDER scan.png clean.png
  aerun-denoise outputs/RUN_FOLDER ~/scans ~/clean
  aerun-denoise outputs/RUN_FOLDER dirty cleaned --clean originals --json > scores.json
  aerun-denoise outputs/RUN_FOLDER ~/scans ~/clean --resume          # goes on where it was stopped"""


def parser() -> Parser:
    """Of the command's arguments."""
    arguments = Parser(
        "Cleans pictures at their own resolution, tile by tile. PNG, JPEG, WebP, BMP and TIFF (of several pages "
        "the first) stay what they are, with their names and subfolders, resolution and transparency; a GIF becomes a "
        "PNG. Originals are never replaced. Train a run for it by experiment=denoise_scans.",
        EXAMPLES,
    )
    add_run_arguments(arguments)
    arguments.add_argument("source", metavar="IN", type=Path, help="a picture, or a folder of pictures")
    arguments.add_argument(
        "target", metavar="OUT", type=Path, help="where the cleaned ones go: another file, or folder"
    )
    add_overwrite_option(arguments)
    arguments.add_argument(
        "--resume", action="store_true", help="leave out the pictures whose cleaned files are there: they are whole"
    )
    arguments.add_argument(
        "--clean",
        type=Path,
        metavar="ORIGINALS",
        help="the same pictures without damage, by the same names: PSNR and SSIM of the run beside those of a median, "
        "a bilateral and a non-local means filter, whose settings are the best of a small grid on these pictures",
    )
    arguments.add_argument("--json", action="store_true", help="print JSON in place of a table")
    return arguments


def main() -> None:
    """The console command."""
    run_command(parser, work)


def work(arguments: argparse.Namespace) -> None:
    """Check what can be checked without torch, clean, and say what came of it."""
    from aerun.runs.folder import read_config
    from aerun.use.denoising.denoise_plan import make_plan
    from aerun.use.denoising.filter_baselines import Scores, require_skimage

    read_config(Path(arguments.run).expanduser())
    overwrite, resume = arguments.overwrite, arguments.resume
    if overwrite and resume:
        raise ConfigError("--overwrite --resume: the one cleans again what the other leaves out; use one of them")
    plan = make_plan(arguments.source, arguments.target, arguments.clean, overwrite=overwrite, resume=resume)
    if plan.originals:
        require_skimage()

    from aerun.use.denoising.tiling import check_denoiser
    from aerun.use.opened_run import open_run

    run = open_run(arguments.run, arguments.device, arguments.trust)
    check_denoiser(run)
    if str(run.config["noise"].get("_target_")).endswith(".NoNoise"):
        log.warning("%s was trained without noise: it has not learned to clean anything", run.folder)
    scores = Scores()
    done = clean_files(run, plan, scores)
    if arguments.json:
        print(json.dumps(plain(plan, done, scores), indent=2, ensure_ascii=False))
    else:
        print(text(plan, done, scores, arguments.target))


def plain(plan: Plan, done: list[str], scores: Scores) -> dict[str, Any]:
    """Plain values: the files that were written by picture, those that were there, what did not decode, and scores."""
    files = {name: str(target) for name, _, target in plan.pairs}
    return {
        "cleaned": {name: files[name] for name in done},
        "there": {name: file for name, file in files.items() if name in plan.there},
        "not_decoded": [name for name in files if name not in plan.there and name not in done],
        **(scores.plain() if scores.of else {}),
    }


def text(plan: Plan, done: list[str], scores: Scores, target: Path) -> str:
    """The same in words, and as tables."""
    there = f", {len(plan.there)} were there" if plan.there else ""
    said = f"{len(done)} of {len(plan.pairs)} pictures cleaned{there}: {target}"
    return f"{said}\n\n{scores.by_picture()}\n\n{scores.table()}\n\n{scores.verdict()}" if scores.of else said


def clean_files(run: OpenedRun, plan: Plan, scores: Scores) -> list[str]:
    """Clean and write each picture; the names of those that could be decoded. DataError if none could, and none was
    there."""
    from aerun.base.progress_bar import progress_bar
    from aerun.dataset.decoder import failure_reason
    from aerun.use.denoising.scan_files import read_scan, write_scan
    from aerun.use.denoising.tiling import denoise

    done, last, only = list[str](), "", len(plan.pairs) == 1
    with progress_bar("pictures", len(plan.pairs)) as bar:
        for name, path, target in plan.pairs:
            scan = None
            if name not in plan.there or name in plan.originals:
                try:
                    scan = read_scan(path)
                except Exception as error:  # damaged metadata make Pillow raise nearly anything
                    last = f"{path}: cannot be decoded ({failure_reason(error)})"
                    if not only:  # it is the command's error
                        log.warning("%s; left out", last)
            if scan is not None and name not in plan.there:
                write_scan(target, scan.with_values(denoise(run, scan.visible_values())))
                done.append(name)
            if scan is not None and name in plan.originals:  # what counts is what is in the file
                compare(scores, name, scan, read_scan(target), read_scan(plan.originals[name]))
            bar.update()
    if not done and not plan.there:
        raise DataError(last)
    return done


def compare(scores: Scores, name: str, dirty: Scan, cleaned: Scan, clean: Scan) -> None:
    """Add what is reached on one picture, as it looks over white. DataError if the sizes differ."""
    from aerun.use.denoising.filter_baselines import make_filters, match_channels, score_all

    images = [scan.over_white() for scan in (dirty, cleaned, clean)]
    if images[0].shape[1:] != images[2].shape[1:]:
        sizes = " and ".join(f"{image.shape[2]}x{image.shape[1]}" for image in (images[0], images[2]))
        raise DataError(f"{name}: the picture and its clean original differ in size, {sizes}")
    before, after, wanted = match_channels(images)
    score_all(scores, name, before, after, wanted, make_filters())
