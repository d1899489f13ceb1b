"""``aerun-denoise RUN IN OUT``: clean a picture, or a folder of them, with a trained run."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from aerun.arguments import Parser
from aerun.errors import DataError
from aerun.use.command import run_command, takes_run

if TYPE_CHECKING:
    from aerun.use.denoising.rivals import Scores
    from aerun.use.denoising.scans import Scan
    from aerun.use.opened import Opened

log = logging.getLogger(__name__)
EXAMPLES = """  aerun-denoise outputs/RUN_FOLDER scan.png clean.png
  aerun-denoise outputs/RUN_FOLDER ~/scans ~/clean
  aerun-denoise outputs/RUN_FOLDER dirty cleaned --clean originals --json scores.json"""


def parser() -> Parser:
    """Of the command's arguments."""
    arguments = Parser(
        "Cleans pictures at their own resolution, tile by tile. Names and subfolders are kept, transparency too; a GIF "
        "becomes a PNG. Train a run for it by experiment=denoise_scans.",
        EXAMPLES,
    )
    takes_run(arguments)
    arguments.add_argument("source", metavar="IN", type=Path, help="a picture, or a folder of pictures")
    arguments.add_argument("target", metavar="OUT", type=Path, help="where the cleaned ones go")
    arguments.add_argument("--overwrite", action="store_true", help="replace files that are there, IN itself included")
    arguments.add_argument(
        "--clean",
        type=Path,
        metavar="ORIGINALS",
        help="the same pictures without damage, by the same names: PSNR and SSIM of the run beside those of a median, "
        "a bilateral and a non-local means filter, whose settings are the best of a small grid on these pictures",
    )
    arguments.add_argument("--json", type=Path, metavar="FILE", help="write what --clean finds there, too")
    return arguments


def main() -> None:
    """The console command."""
    run_command(parser, work)


def work(arguments: argparse.Namespace) -> None:
    """Check what can be checked without torch, clean, and say what came of it."""
    from aerun.runfolder import read_config
    from aerun.use.denoising.rivals import Scores, need_filters

    read_config(Path(arguments.run).expanduser())
    if arguments.json and not arguments.clean:
        raise DataError("--json: writes what --clean finds, which is not given")
    pairs = planned(arguments.source, arguments.target, arguments.overwrite)
    originals = originals_of(pairs, arguments.clean) if arguments.clean else {}
    if originals:
        need_filters()

    from aerun.use.denoising.clean import check_run
    from aerun.use.opened import open_run

    run = open_run(arguments.run, arguments.device, arguments.trust)
    check_run(run)
    if str(run.config["noise"].get("_target_")).endswith(".NoNoise"):
        log.warning("%s was trained without noise: it has not learned to clean anything", run.folder)
    scores = Scores()
    done = clean_files(run, pairs, originals, scores)
    print(f"{done} of {len(pairs)} pictures cleaned: {arguments.target}")
    if scores.of:
        print(f"\n{scores.by_picture()}\n\n{scores.table()}\n\n{scores.verdict()}")
        if arguments.json:
            from aerun.files import write_text

            write_text(arguments.json, json.dumps(scores.plain(), indent=2) + "\n")


def planned(source: Path, target: Path, overwrite: bool) -> list[tuple[str, Path, Path]]:
    """Names, pictures and the files to write. DataError if there is none, or one would be lost."""
    from aerun.use.denoising.scans import WAYS, name_for
    from aerun.use.pictures import find

    source, target = source.expanduser(), target.expanduser()
    found = find(source)
    if source.is_file():
        is_file = target.suffix.lower() in WAYS and not target.is_dir()
        if target.suffix and not is_file and not target.is_dir():
            raise DataError(f"{target}: cleaned pictures are written as {', '.join(sorted(WAYS))}")
        pairs = [(name, path, target if is_file else target / name_for(name)) for name, path in found]
    else:
        if target.is_file():
            raise DataError(f"{target}: is a file, {source} a folder")
        apart = target.resolve() != source.resolve()
        within = [path for _, path in found if apart and path.resolve().is_relative_to(target.resolve())]
        pairs = [(name, path, target / name_for(name)) for name, path in found if path not in within]
    existing = [path for _, _, path in pairs if path.exists()]
    if existing and not overwrite:
        more = f", and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise DataError(f"{existing[0]}: is there already{more}; --overwrite replaces it")
    return pairs


def originals_of(pairs: list[tuple[str, Path, Path]], folder: Path) -> dict[str, Path]:
    """The clean original of each picture that has one: of the same name, whatever its ending."""
    from aerun.use.pictures import find

    folder = folder.expanduser()
    found = find(folder)
    if folder.is_file():
        return {pairs[0][0]: folder} if len(pairs) == 1 else _none(folder)
    by_stem = {str(Path(name).with_suffix("")): path for name, path in reversed(found)}
    exact = dict(found)
    matched = {name: exact.get(name) or by_stem.get(str(Path(name).with_suffix(""))) for name, _, _ in pairs}
    originals = {name: path for name, path in matched.items() if path is not None}
    missing = [name for name in matched if name not in originals]
    if missing and originals:
        log.warning(
            "%s has no original of %s%s", folder, missing[0], f" and {len(missing) - 1} more" * (len(missing) > 1)
        )
    return originals or _none(folder)


def _none(folder: Path) -> dict[str, Path]:
    raise DataError(f"--clean {folder}: has no original of any of the pictures; they go by their names")


def clean_files(run: Opened, pairs: list[tuple[str, Path, Path]], originals: dict[str, Path], scores: Scores) -> int:
    """Clean and write each picture; the number of those that could be decoded. DataError if none could."""
    from aerun.progress import counting
    from aerun.use.denoising.clean import denoise
    from aerun.use.denoising.scans import read_scan, write_scan

    done, last = 0, ""
    with counting("pictures", len(pairs)) as bar:
        for name, path, target in pairs:
            try:
                scan = read_scan(path)
            except Exception as error:  # damaged metadata make Pillow raise nearly anything
                last = f"{path}: cannot be decoded ({' '.join(str(error).split()) or type(error).__name__})"
                log.warning("%s; left out", last)
                continue
            finally:
                bar.update()
            cleaned = scan.with_values(denoise(run, scan.seen()))
            write_scan(target, cleaned)
            done += 1
            if name in originals:
                compare(scores, name, scan, cleaned, read_scan(originals[name]))
    if not done:
        raise DataError(last)
    return done


def compare(scores: Scores, name: str, dirty: Scan, cleaned: Scan, clean: Scan) -> None:
    """Add what is reached on one picture, as it looks over white. DataError if the sizes differ."""
    from aerun.use.denoising.rivals import add_all, filters, same_channels

    images = [scan.over_white() for scan in (dirty, cleaned, clean)]
    if images[0].shape[1:] != images[2].shape[1:]:
        sizes = " and ".join(f"{image.shape[2]}x{image.shape[1]}" for image in (images[0], images[2]))
        raise DataError(f"{name}: the picture and its clean original differ in size, {sizes}")
    before, after, wanted = same_channels(images)
    add_all(scores, name, before, after, wanted, filters())
