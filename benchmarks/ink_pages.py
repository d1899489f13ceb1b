"""Small pages of ink for training a denoiser that leaves ink alone: ``python benchmarks/ink_pages.py FOLDER``

Text of 7 to 16 pixels, stippling, hatching, line drawings and pixel art, of any ink on any paper, 128 x 128
pixels each: what marks of dust and hairs are easily confused with. A folder of drawings has little of it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from aerun.base.arguments import Parser, count
from aerun.base.progress_bar import progress_bar
from aerun.cli.command import run_command

SIDE = 128
Random = np.random.Generator
Color = tuple[int, int, int]
LETTERS = "etaoinshrdlucmfwypvbgkETAOINSHRDLU0123456789.,;:-'"
PROSE = LETTERS[:22] * 6 + LETTERS


def fonts(families: str) -> list[Path]:
    """The font files of these families, which come with matplotlib."""
    import matplotlib

    return sorted((Path(matplotlib.get_data_path()) / "fonts" / "ttf").glob(families))


def words(random: Random, length: int) -> str:
    letters = random.choice(list(PROSE), length)
    letters[random.random(length) < 0.16] = " "
    return "".join(letters)


def text(draw: ImageDraw.ImageDraw, ink: Color, random: Random, families: str = "DejaVu*.ttf") -> None:
    path = random.choice(np.array([str(path) for path in fonts(families)]))
    size = int(random.integers(7, 17))
    font = ImageFont.truetype(path, size)
    for line in range(int(random.integers(3, SIDE // size + 1))):
        start = int(random.integers(0, 20))
        draw.text((start, (line + 0.5) * size * 1.2), words(random, int(random.integers(1, 40))), ink, font)


def stippling(draw: ImageDraw.ImageDraw, ink: Color, random: Random) -> None:
    """Dots of one size, dense where a smooth shade is dark."""
    radius = random.uniform(0.4, 1.8)
    x, y, slope = random.uniform(0, SIDE, 3)
    for left, top in random.uniform(0, SIDE, (int(random.integers(50, 900)), 2)):
        if random.random() < np.exp(-((left - x) ** 2 + (top - y) ** 2) / (2 * (20 + slope / 3) ** 2)):
            draw.ellipse((left - radius, top - radius, left + radius, top + radius), ink)


def hatching(draw: ImageDraw.ImageDraw, ink: Color, random: Random) -> None:
    for _ in range(int(random.integers(1, 3))):
        angle, step, length = random.uniform(0, np.pi), random.uniform(3, 9), random.uniform(15, 60)
        along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
        middle = random.uniform(0, SIDE, 2)
        for number in range(int(random.integers(5, 20))):
            start = middle + across * number * step + random.normal(0, 1.5, 2)
            draw.line([*(start - along * length / 2), *(start + along * length / 2)], ink, int(random.integers(1, 3)))


def lines(draw: ImageDraw.ImageDraw, ink: Color, random: Random) -> None:
    """Curves of a pen, several of which meet."""
    for _ in range(int(random.integers(3, 12))):
        steps = np.cumsum(np.cumsum(random.normal(0, 0.6, (60, 2)), 0), 0) * 0.15
        points = random.uniform(0, SIDE, 2) + np.arange(60)[:, None] * random.normal(0, 1, 2) + steps
        draw.line([tuple(point) for point in points], ink, int(random.integers(2, 5)))


def pixels(draw: ImageDraw.ImageDraw, ink: Color, random: Random) -> None:
    """Figures of large pixels, symmetrical as the sprites of games are."""
    for _ in range(int(random.integers(1, 6))):
        scale, size = int(random.integers(1, 5)), int(random.integers(6, 17))
        half = random.random((size, size // 2)) < random.uniform(0.3, 0.6)
        colors = [ink, *(tuple(random.integers(0, 256, 3).tolist()) for _ in range(2))]
        left, top = random.integers(0, SIDE - 20, 2)
        for y, x in zip(*np.nonzero(np.concatenate([half, half[:, ::-1]], 1)), strict=True):
            box = left + x * scale, top + y * scale, left + (x + 1) * scale - 1, top + (y + 1) * scale - 1
            draw.rectangle(box, colors[int(random.integers(0, 3))])


KINDS: dict[str, Callable[[ImageDraw.ImageDraw, Color, Random], None]] = {
    "text": text,
    "stippling": stippling,
    "hatching": hatching,
    "lines": lines,
    "pixels": pixels,
}


def page(kind: str, random: Random) -> Image.Image:
    """Half of the pages are dark ink on white; pens have soft edges on most."""
    paper: Color = (255, 255, 255)
    ink: Color = tuple(random.integers(0, 100, 3).tolist())
    if random.random() < 0.5:
        paper = tuple(random.integers(0, 256, 3).tolist())
        ink = tuple(((np.array(paper) + random.integers(90, 166, 3)) % 256).tolist())
    picture = Image.new("RGB", (SIDE, SIDE), paper)
    KINDS[kind](ImageDraw.Draw(picture), ink, random)
    is_soft = kind not in ("text", "pixels") and random.random() < 0.6
    return picture.filter(ImageFilter.GaussianBlur(random.uniform(0.4, 0.8))) if is_soft else picture


def parser() -> Parser:
    result = Parser("Draw small pages of ink.", "  python %(prog)s outputs/drawings/ink")
    result.add_argument("folder", type=Path, help="new, for the pages")
    result.add_argument("--count", type=count, default=4000, help="number of pages (4000)")
    result.add_argument("--seed", type=int, default=0, help="of all that is random (0)")
    return result


def work(asked) -> int:
    asked.folder.mkdir(parents=True)
    kinds = list(KINDS)
    with progress_bar("pages", asked.count) as bar:
        for number in range(asked.count):
            kind = kinds[number % len(kinds)]
            page(kind, np.random.default_rng([asked.seed, number])).save(asked.folder / f"{kind}_{number:05}.png")
            bar.update()
    print(f"{asked.folder}: {asked.count} pages")
    return 0


def main() -> int:
    return run_command(parser, work)


if __name__ == "__main__":
    sys.exit(main())
