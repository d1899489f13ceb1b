"""Does a changed copy find its original? ``python benchmarks/finding.py RUN FOLDER [--queries 200] [--seed 0]``

Of each of 200 pictures of a folder a copy is made: half as large, cropped, with other hues, in sepia, mirrored, turned
by 5 degrees, as a scan with dust and hairs on tinted paper, and as a photo of a page on a table. It is looked for in
the whole folder, by aerun-search and by rivals of a few lines each, which see pictures at their own size. The copies
are made by this file alone; nothing is trained on them. Settings were chosen with seed 5 on openclipart-png.
"""

from __future__ import annotations

import hashlib
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from aerun.base.arguments import Parser, count
from aerun.cli.command import add_run_arguments, run_command
from benchmarks.machine import circumstances
from benchmarks.page import write_section

PAGE = Path(__file__).resolve().parent.parent / "docs" / "search.md"
LARGEST, AMONG = 512, 5
Random = np.random.Generator
Array = np.ndarray


def as_image(values: Array) -> Image.Image:
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def crop(picture: Image.Image, random: Random, cut: float) -> Image.Image:
    width, height = (max(8, round(side * (1 - cut))) for side in picture.size)
    left, top = (int(random.integers(0, room + 1)) for room in (picture.width - width, picture.height - height))
    return picture.crop((left, top, left + width, top + height))


def turn_hues(picture: Image.Image, random: Random) -> Image.Image:
    values = np.array(picture.convert("HSV"))
    values[..., 0] = (values[..., 0].astype(int) + int(random.integers(40, 216))) % 256
    return Image.fromarray(values, "HSV").convert("RGB")


def sepia(picture: Image.Image, random: Random) -> Image.Image:
    mixed = np.array([[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]])
    return as_image(np.asarray(picture, float) @ mixed.T)


def on_paper(picture: Image.Image, margin: float) -> Image.Image:
    """With a white margin, a share of the longer side."""
    return ImageOps.expand(picture, int(margin * max(picture.size)), "white")


def shaded(values: Array, random: Random, amount: float) -> Array:
    """Light that fades across values[H,W,3] in a direction."""
    rows, columns = np.mgrid[0 : values.shape[0], 0 : values.shape[1]]
    angle = random.uniform(0, 2 * np.pi)
    fall = np.cos(angle) * columns / values.shape[1] + np.sin(angle) * rows / values.shape[0]
    return values * (1 - amount * (fall - fall.min()) / (np.ptp(fall) + 1e-9))[..., None]


def scan(picture: Image.Image, random: Random) -> Image.Image:
    page = on_paper(picture, 0.03).rotate(random.uniform(-1, 1), Image.Resampling.BICUBIC, fillcolor="white")
    tint = np.array([1, random.uniform(0.95, 1), random.uniform(0.85, 0.95)]) * random.uniform(0.9, 1)
    values = np.asarray(page, float) * tint
    page = as_image(shaded(values + random.normal(0, 5, values.shape[:2])[..., None], random, 0.12))
    draw, (width, height) = ImageDraw.Draw(page), page.size
    for _ in range(int(random.integers(8, 25))):
        x, y, radius = random.uniform(0, width), random.uniform(0, height), random.uniform(0.5, 3)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(int(random.integers(20, 120)),) * 3)
    for _ in range(int(random.integers(1, 5))):
        points, angle = [(random.uniform(0, width), random.uniform(0, height))], random.uniform(0, 2 * np.pi)
        for _ in range(12):
            angle += random.normal(0, 0.4)
            points.append((points[-1][0] + 6 * np.cos(angle), points[-1][1] + 6 * np.sin(angle)))
        draw.line(points, fill=(50, 45, 40), width=1)
    return page


def photo(picture: Image.Image, random: Random) -> Image.Image:
    page = on_paper(picture, random.uniform(0.02, 0.08))
    width, height = page.size
    size = int(1.3 * width), int(1.3 * height)
    wood = np.array([random.uniform(60, 150), random.uniform(45, 120), random.uniform(30, 100)])
    grain = random.normal(0, 10, (size[1], 1, 1)) + random.normal(0, 4, (size[1], size[0], 1))
    table = as_image(wood + grain)
    left, top, shift = (size[0] - width) / 2, (size[1] - height) / 2, 0.06 * min(width, height)
    flat = [(0, 0), (width, 0), (width, height), (0, height)]
    seen = [(left + x + random.uniform(-shift, shift), top + y + random.uniform(-shift, shift)) for x, y in flat]
    rows, wanted = list[list[float]](), list[float]()
    for (x, y), (u, v) in zip(seen, flat, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        wanted += [u, v]
    data = np.linalg.solve(np.array(rows), np.array(wanted)).tolist()
    seen_page, mask = (
        each.transform(size, Image.Transform.PERSPECTIVE, data, Image.Resampling.BICUBIC)
        for each in (page, Image.new("L", page.size, 255))
    )
    table.paste(seen_page, (0, 0), mask)
    color = np.array([random.uniform(0.85, 1.05), random.uniform(0.85, 1), random.uniform(0.75, 0.95)])
    taken = as_image(shaded(np.asarray(table, float) * color, random, 0.35))
    content = io.BytesIO()
    taken.filter(ImageFilter.GaussianBlur(random.uniform(0.3, 1.2))).save(
        content, "JPEG", quality=int(random.integers(50, 80))
    )
    return Image.open(content).convert("RGB")


COPIES: dict[str, Callable[[Image.Image, Random], Image.Image]] = {
    "half size": lambda picture, random: picture.resize(
        (max(8, picture.width // 2), max(8, picture.height // 2)), Image.Resampling.LANCZOS
    ),
    "cropped 10 %": lambda picture, random: crop(picture, random, 0.1),
    "cropped 25 %": lambda picture, random: crop(picture, random, 0.25),
    "hue": turn_hues,
    "sepia": sepia,
    "mirrored": lambda picture, random: ImageOps.mirror(picture),
    "turned by 5 degrees": lambda picture, random: picture.rotate(
        5 if random.random() < 0.5 else -5, Image.Resampling.BICUBIC, expand=True, fillcolor="white"
    ),
    "scan with marks": scan,
    "photo of a page": photo,
}


def thumbnail(picture: Image.Image) -> Array:
    """16 x 16 colors."""
    return np.asarray(picture.resize((16, 16), Image.Resampling.BILINEAR), np.float32).ravel() / 255


def perceptual_hash(picture: Image.Image) -> Array:
    """64 signs of the lowest cosine frequencies (pHash)."""
    from scipy.fft import dctn

    low = dctn(np.asarray(picture.convert("L").resize((32, 32), Image.Resampling.LANCZOS), float))[:8, :8].ravel()
    signs: Array = low > np.median(low[1:])
    return signs


def histogram(picture: Image.Image) -> Array:
    """Square roots of the shares of 4 x 4 x 4 colors."""
    levels = np.asarray(picture.resize((64, 64))).astype(int) // 64
    counts = np.bincount((levels @ np.array([16, 4, 1])).ravel(), minlength=64)
    return np.sqrt(counts / counts.sum()).astype(np.float32)


RIVALS: dict[str, tuple[Callable[[Image.Image], Array], Callable[[Array, Array], Array]]] = {
    "thumbnail, 16 x 16": (thumbnail, lambda known, asked: np.abs(known - asked).mean(1)),
    "pHash": (perceptual_hash, lambda known, asked: (known != asked).sum(1)),
    "color histogram": (histogram, lambda known, asked: 1 - known @ asked),
}


def opened(path: Path) -> Image.Image:
    """The picture on white, its longer side at most 512 pixels."""
    from aerun.dataset.decoder import flatten
    from aerun.dataset.picture_files import open_picture, pillow_settings

    with pillow_settings(), open_picture(path) as file:
        picture = flatten(ImageOps.exif_transpose(file)).convert("RGB")
    picture.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    return picture


def as_query(picture: Image.Image) -> Array:
    """As aerun-search --by reads a file: uint8 [3,H,W]."""
    from aerun.use.search.queries import QUERY_PIXELS

    picture = picture.copy()
    picture.thumbnail((QUERY_PIXELS, QUERY_PIXELS), Image.Resampling.LANCZOS)
    return np.asarray(picture).transpose(2, 0, 1)


def shares(found: Array, rows: Array, same: Array) -> str:
    """``first / first five`` in %: how many of the queries have a picture with the pixels of their original there."""
    hits = same[found[:, :AMONG]] == same[rows][:, None]
    return f"{hits[:, 0].mean():.0%} / {hits.any(1).mean():.0%}".replace("%", "")


def parser() -> Parser:
    result = Parser("Search for changed copies.", "  python %(prog)s outputs/RUN outputs/styles --write styles")
    add_run_arguments(result)
    result.add_argument("folder", type=Path, help="of pictures")
    result.add_argument("--queries", type=count, default=200, help="pictures that are copied (200)")
    result.add_argument("--seed", type=int, default=0, help="of the pictures and their changes (0)")
    result.add_argument("--write", metavar="NAME", help=f"write the section copies NAME of {PAGE.name}")
    return result


def seen_once(paths: list[Path]) -> tuple[Array, dict[str, Array]]:
    """A number for each picture, equal for the same pixels, and what each rival sees; pictures are opened one by one,
    since a large collection does not fit into memory."""
    numbers: dict[bytes, int] = {}
    same, known = np.empty(len(paths), int), {name: list[Array]() for name in RIVALS}
    for row, path in enumerate(paths):
        picture = opened(path)
        digest = hashlib.sha256(str(picture.size).encode() + picture.tobytes()).digest()
        same[row] = numbers.setdefault(digest, len(numbers))
        for name, (see, _) in RIVALS.items():
            known[name].append(see(picture))
    return same, {name: np.stack(seen) for name, seen in known.items()}


def work(asked) -> int:
    import torch

    import aerun
    from aerun.use.opened_run import open_run
    from aerun.use.search.code_search import open_index
    from aerun.use.search.copy_search import CANDIDATES
    from aerun.use.search.fused_search import calibrate, fuse, search_each

    run = open_run(asked.run, asked.device, asked.trust)
    decoder = run.decoder()
    codes = aerun.embed(run, asked.folder)
    assert codes.looks is not None and run.summary is not None
    paths = [Path(codes.root) / name for name in codes.names]
    same, stacked = seen_once(paths)
    random = np.random.default_rng(asked.seed)
    alike = np.setdiff1d(np.arange(len(paths)), codes.blank)
    rows = np.sort(random.choice(alike, min(asked.queries, len(alike)), replace=False))
    originals = [opened(paths[row]) for row in rows]
    methods = ["codes", "`--by copy`", "`--by color`", "`--by all`", *RIVALS]
    lines = [f"| copy | {' | '.join(methods)} |", f"|---|{'---|' * len(methods)}"]
    index, seconds = open_index(codes), 0.0
    scales = calibrate(codes, index)
    for kind, change in COPIES.items():
        copies = [change(each, np.random.default_rng([asked.seed, number])) for number, each in enumerate(originals)]
        inputs = np.stack([decoder.fit_picture(copy) for copy in copies])
        coded = run.encode(torch.from_numpy(inputs)).flatten(1).numpy()
        start = time.perf_counter()
        each = search_each(codes, index, coded, [as_query(copy) for copy in copies], CANDIDATES, [()] * len(copies))
        seconds += time.perf_counter() - start
        found = [
            each["likeness"].rows,
            each["copy"].rows,
            each["color"].rows,
            fuse(each, scales, AMONG).rows,
        ]
        for name, (see, distance) in RIVALS.items():
            order = [np.argsort(distance(stacked[name], see(copy)), kind="stable")[:AMONG] for copy in copies]
            found.append(np.stack(order))
        lines.append(f"| {kind} | {' | '.join(shares(each, rows, same) for each in found)} |")
        print(lines[-1], flush=True)
    where = circumstances("finding.py", asked.device, "one process", ("torch", "numpy", "pillow"))
    title = f"## Changed copies in {asked.write or asked.folder.name}"
    head = (
        f"{len(rows)} of {len(paths):,} pictures, in % first / first {AMONG}; any picture with the same pixels is "
        f"the original. `codes` are those of a run of {'x'.join(map(str, run.shape))} "
        f"({run.summary['epochs']} epochs, test MSE {run.summary['test']['mse']:.4f}); `--by copy` and `color` need no "
        f"training. A query takes {seconds / len(rows) / len(COPIES):.2f} s by code, copy and color together. "
        "Settings were chosen on copies of pictures of openclipart-png, with another seed."
    )
    text = "\n".join([title, "", head, "", *lines, "", where])
    print(text)
    if asked.write:
        write_section(f"copies {asked.write}", text, PAGE)
    return 0


def main() -> int:
    return run_command(parser, work)


if __name__ == "__main__":
    sys.exit(main())
