"""Does cleaning help, and does it harm? ``python benchmarks/cleaning.py RUN FOLDER [--pictures 30] [--seed 0]``

Pictures of a folder that the run has not seen, and pages of text and stippling, get the damage of scan_damage.py, which
no training uses: marks alone, and whole scans on tinted paper of uneven light. They are cleaned as aerun-denoise does
it, with and without --page, and by filters of a few lines. Settings were chosen with seed 5 on openclipart-png.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from PIL import Image, ImageDraw

from aerun.base.arguments import Parser, count
from aerun.base.progress_bar import progress_bar
from aerun.cli.command import add_run_arguments, run_command
from benchmarks.finding import opened
from benchmarks.ink_pages import stippling, text
from benchmarks.machine import circumstances
from benchmarks.page import write_section
from benchmarks.scan_damage import marked, scanned

PAGE = Path(__file__).resolve().parent.parent / "docs" / "denoising.md"
SMALLEST = 96  # pixels of a picture's shorter side
SHOWN = 8  # pictures in the figure
Array = np.ndarray
Way = Callable[[Array], Array]


def psnr(image: Array, clean: Array) -> float:
    return float(-10 * np.log10(max(np.mean((image - clean) ** 2), 1e-10)))


def white_point(image: Array) -> Array:
    """One white point for the page: the 95th percentile of each color becomes white."""
    return (image / np.quantile(image, 0.95, (1, 2), keepdims=True).clip(0.05)).clip(0, 1)


def median(image: Array) -> Array:
    from scipy import ndimage

    return ndimage.median_filter(image, (1, 3, 3))


def means(image: Array) -> Array:
    from skimage.restoration import denoise_nl_means

    return denoise_nl_means(image, h=0.08, fast_mode=True, patch_size=5, patch_distance=6, channel_axis=0)


def ink(kind: Callable, random: np.random.Generator, side: int = 384) -> Image.Image:
    """A page of nine fields of text, in fonts that no training page has, or of stippling."""
    picture = Image.new("RGB", (side, side), "white")
    for left in range(0, side, 128):
        for top in range(0, side, 128):
            field = Image.new("RGB", (128, 128), "white")
            more = ("STIX*General*.ttf",) if kind is text else ()
            kind(ImageDraw.Draw(field), (20, 20, 30), random, *more)
            picture.paste(field, (left, top))
    return picture


def chosen(folder: Path, number: int, seed: int) -> list[Image.Image]:
    """Pictures spread over the folders of the folder, none of them small."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    random = np.random.default_rng(seed)
    by_style: dict[Path, list[Path]] = {}
    for path in random.permutation(np.array(found, object)):
        by_style.setdefault(path.parent, []).append(path)
    result: list[Image.Image] = []
    turn = 0
    longest = max((len(paths) for paths in by_style.values()), default=0)
    while len(result) < number and turn < longest:
        for paths in by_style.values():
            if turn < len(paths) and len(result) < number:
                picture = opened(paths[turn])
                if min(picture.size) >= SMALLEST:
                    result.append(picture)
        turn += 1
    return result


def lines_of(name: str, damaged: list, cleans: list[Array], ways: dict[str, Way], bar) -> tuple[list[str], dict]:
    """Rows of the table, and the results by way."""
    rows, results = [], {}
    nothing = [psnr(each.page, clean) for each, clean in zip(damaged, cleans, strict=True)]
    spoiled = []
    for each, clean in zip(damaged, cleans, strict=True):
        spoiled.append(np.abs(each.page - clean)[:, ~each.touched].mean())
    for way, clean_by in ways.items():
        outputs = []
        for each in damaged:
            outputs.append(clean_by(each.page))
            bar.update()
        gains = np.array([psnr(out, clean) for out, clean in zip(outputs, cleans, strict=True)]) - nothing
        outside = np.mean(
            [np.abs(o - c)[:, ~d.touched].mean() for o, c, d in zip(outputs, cleans, damaged, strict=True)]
        )
        worse = int((gains < -0.005).sum())
        rows.append(
            f"| {name} | {way} | {np.mean(nothing) + gains.mean():.2f} | {gains.mean():+.2f} | {gains.min():+.2f} "
            f"| {worse} of {len(gains)} | {outside / np.mean(spoiled):.2f} |"
        )
        print(rows[-1], flush=True)
        results[way] = outputs
    return rows, results


def parser() -> Parser:
    result = Parser("Clean what was damaged.", "  python %(prog)s outputs/RUN outputs/styles --write")
    add_run_arguments(result)
    result.add_argument("folder", type=Path, help="of pictures in folders")
    result.add_argument("--pictures", type=count, default=30, help="of the folder (30)")
    result.add_argument("--seed", type=int, default=0, help="of the pictures and their damage (0)")
    result.add_argument("--figure", type=Path, help="where to draw the first pictures")
    result.add_argument("--write", action="store_true", help=f"write its section of {PAGE.name}")
    return result


def work(asked) -> int:
    import torch

    from aerun.use.denoising.cleaning import Care, clean_values
    from aerun.use.opened_run import open_run

    run = open_run(asked.run, asked.device, asked.trust)
    random = np.random.default_rng([asked.seed, 1])
    sets = {
        "pictures": chosen(asked.folder, asked.pictures, asked.seed),
        "text": [ink(text, random) for _ in range(6)],
        "stippling": [ink(stippling, random) for _ in range(6)],
    }
    ways: dict[str, Way] = {
        "aerun-denoise": lambda image: clean_values(run, image, Care()).values,
        "aerun-denoise --page": lambda image: clean_values(run, image, Care(page=True)).values,
        "white point": white_point,
        "median, 3 x 3": median,
        "non-local means": means,
    }
    lines = ["| pages | cleaned by | PSNR, dB | gain, dB | least gain | worse | change outside marks / nothing's |"]
    lines.append("|---|---|---|---|---|---|---|")
    total = len(ways) * 2 * sum(map(len, sets.values()))
    with progress_bar("pages", total) as bar:
        for kind, pictures in sets.items():
            for damage in (marked, scanned):
                pages, cleans = [], []
                for number, picture in enumerate(pictures):
                    done = damage(np.asarray(picture), np.random.default_rng([asked.seed, number]))
                    pages.append(done._replace(page=(done.page.transpose(2, 0, 1) / 255).astype(np.float32)))
                    cleans.append((np.asarray(picture).transpose(2, 0, 1) / 255).astype(np.float32))
                name = f"{kind}, {'marks' if damage is marked else 'whole scans'}"
                rows, results = lines_of(name, pages, cleans, ways, bar)
                lines += rows
                if asked.figure:
                    draw(asked.figure / f"{kind}_{damage.__name__}.png", pages, results, cleans)
    took = seconds(ways["aerun-denoise --page"])
    lines += ["", f"A page of 12 megapixels takes {took:.0f} s with `--page`, {torch.get_num_threads()} thread(s)."]
    where = circumstances("cleaning.py", asked.device, "one process", ("torch", "numpy", "pillow"))
    again = f" {asked.seed}" if asked.seed else ""
    title = "## Scans that no training has seen" + (f", again with seed{again}" if again else "")
    head = (
        f"{len(sets['pictures'])} pictures of a collection in {len({p for p in asked.folder.iterdir() if p.is_dir()})} "
        "styles, six pages of text and six of stippling, with damage by another generator than in training; settings "
        "were chosen on openclipart-png. Gains are over doing nothing; the last column is the mean change of pixels "
        "outside of all marks, against the clean page, relative to that of doing nothing."
    )
    body = "\n".join([title, "", head, "", *lines, "", where])
    if asked.write:
        write_section(f"cleaning{again}", body, PAGE)
    return 0


def seconds(clean_by: Way, height: int = 4000, width: int = 3000) -> float:
    """How long a page of 12 megapixels takes."""
    side = 500
    random = np.random.default_rng(0)
    field = scanned(np.asarray(ink(text, random).resize((side, side))), random).page
    page = np.tile(field.transpose(2, 0, 1), (1, height // side, width // side)).astype(np.float32) / 255
    start = time.perf_counter()
    clean_by(page)
    return time.perf_counter() - start


def draw(path: Path, pages: list, results: dict, cleans: list[Array]) -> None:
    """Rows: damaged, cleaned by each way, clean."""
    rows = [[page.page for page in pages], *list(results.values())[:2], cleans]
    sheet = Image.new("RGB", (SHOWN * 260, len(rows) * 260), "gray")
    for y, row in enumerate(rows):
        for x, image in enumerate(row[:SHOWN]):
            tile = Image.fromarray((image.transpose(1, 2, 0) * 255).round().astype(np.uint8))
            tile.thumbnail((256, 256))
            sheet.paste(tile, (x * 260, y * 260))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def main() -> int:
    return run_command(parser, work)


if __name__ == "__main__":
    sys.exit(main())
