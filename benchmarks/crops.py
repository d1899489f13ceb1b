"""Does a cropped drawing find its original? ``python benchmarks/crops.py RUN [--queries 500]``

Of each of 500 pictures of a folder (fixed seed) a tenth of its width and of its height is cut off, at a random place,
and the rest is brought to the run's size as the run does it. It is looked for in the whole folder, by the run's codes,
by the pixels of the same size, and by as many principal components as a code has numbers. Most of the pictures have
been trained on: a collection is searched by the model that was trained on it.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from aerun.arguments import Parser, count
from aerun.use.command import run_command, takes_run
from benchmarks.machine import circumstances
from benchmarks.page import write_section

FOLDER = Path("/usr/share/openclipart/png")  # of Debian's openclipart-png
PAGE = Path(__file__).resolve().parent.parent / "docs" / "search.md"
HEAD = "# Search\n\nEvery section is written by the command that it names, never by hand.\n"
CUT, AMONG = 0.1, 5
SHARE = 0.9


def cropped(path: Path, decoder, random: np.random.Generator) -> np.ndarray:
    """The picture without a tenth of its sides, as the run takes it, uint8 [C,H,W]."""
    from PIL import Image, ImageOps

    from aerun.dataset.pictures import over_white

    with Image.open(path) as opened:
        picture = over_white(ImageOps.exif_transpose(opened))
    width, height = (max(1, round(side * (1 - CUT))) for side in picture.size)
    left = int(random.integers(0, picture.width - width + 1))
    top = int(random.integers(0, picture.height - height + 1))
    return decoder.fitted(picture.crop((left, top, left + width, top + height)))


def recall(collection: np.ndarray, queries: np.ndarray, rows: np.ndarray, same: np.ndarray, metric: str) -> list[float]:
    """How many find their original first, and among the first five, and the very file among the first five."""
    from aerun.use.search.index import Index

    found = Index(collection, metric).query(queries, AMONG).rows
    hits = same[found] == same[rows][:, None]
    return [float(hits[:, 0].mean()), float(hits.any(1).mean()), float((found == rows[:, None]).any(1).mean())]


def numbered(images) -> np.ndarray:
    """A number [N] for each image that equal ones share."""
    known: dict[bytes, int] = {}
    return np.array([known.setdefault(image.numpy().tobytes(), len(known)) for image in images])


def pictures(run, folder: Path, wanted: int):
    """All pictures of the folder [N,C,H,W], rows of some of them, and these cropped [Q,C,H,W]; uint8 all."""
    import torch

    from aerun.use.pictures import folder_inputs

    chunks = list(folder_inputs(run, folder))
    names = [name for part, _ in chunks for name in part]
    random = np.random.default_rng(0)
    rows = np.sort(random.choice(len(names), min(wanted, len(names)), replace=False))
    parts = torch.from_numpy(np.stack([cropped(folder / names[row], run.decoder(), random) for row in rows]))
    return torch.cat([part for _, part in chunks]), rows, parts


def described(describe, images, views: int = 1, share: float = SHARE) -> np.ndarray:
    """``describe`` [n,C,H,W] -> [n,D] of all images, in chunks: [N,D], or of several views of each [N,V,D]."""
    from aerun.use.collection.views import codes_of_views

    found = np.concatenate([codes_of_views(describe, chunk, views, share) for chunk in images.split(1024)])
    return found[:, 0] if views == 1 else found


def as_pixels(images) -> np.ndarray:
    values = images.flatten(1).numpy().astype(np.float32)
    return values / 255 if not images.dtype.is_floating_point else values


def ways(run, images, parts, views: int):
    """What is compared: a name, the collection [N,D] or [N,V,D], and the queries [Q,D] or [Q,V,D]."""
    import torch
    from sklearn.decomposition import PCA

    pixels = as_pixels(images)
    size = min(run.code_size, *pixels.shape)
    pca = PCA(size, svd_solver="randomized", random_state=0).fit(pixels)

    def project(shown):
        return torch.from_numpy(pca.transform(as_pixels(shown)).astype(np.float32))

    for name, describe in (("codes", run.encode), (f"PCA, {size} components", project)):
        whole, asked = described(describe, images), described(describe, parts)
        yield name, whole, asked
        if views > 1:
            yield f"{name}, {views} views of the query", whole, described(describe, parts, views, 1 / SHARE)
            yield f"{name}, {views} views of the collection", described(describe, images, views), asked
    yield "pixels", pixels, as_pixels(parts)


def parser() -> Parser:
    result = Parser("Search a collection for cropped pictures of it.", "  python %(prog)s outputs/RUN --views 10")
    takes_run(result)
    result.add_argument("--queries", type=count, default=500, help="how many (500)")
    result.add_argument("--views", type=count, default=10, help="also codes of so many views of each picture (10)")
    result.add_argument("--folder", type=Path, default=FOLDER, help=f"the collection ({FOLDER})")
    result.add_argument("--write", action="store_true", help=f"write the section of {PAGE.name}")
    return result


def work(asked) -> None:
    from aerun.use.opened import open_run

    run = open_run(asked.run, asked.device, asked.trust)
    images, rows, parts = pictures(run, asked.folder, asked.queries)
    same = numbered(images)
    columns = [
        "searched by",
        "numbers",
        *(f"{m} {c}" for m in ("cosine", "Euclidean") for c in ("@1", "@5", "file @5")),
    ]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for name, collection, queries in ways(run, images, parts, asked.views):
        both = [recall(collection, queries, rows, same, metric) for metric in ("cosine", "euclidean")]
        numbers = " | ".join(f"{share:.1%}" for pair in both for share in pair)
        lines.append(f"| {name} | {collection[0].size:,} | {numbers} |")
        print(lines[-1], flush=True)
    shape = "x".join(map(str, run.shape))
    area = 1 - (1 - CUT) ** 2
    copies = np.bincount(same)[same] > 1
    head = (
        f"{len(rows)} of {len(images):,} drawings, each cropped by {CUT:.0%} of its width and of its height at a "
        f"random place ({area:.0%} of its area) and fitted to {shape} anew (`{run.fit}`), find their original first "
        f"(@1) or among the first {AMONG} (@{AMONG}). {copies.sum():,} files are in the folder more than once, with "
        f"the same pixels, and any of those is the original; `file @{AMONG}` counts only the very file. `numbers`: "
        "kept of each picture of the collection. `views of the query`: it is also shown with a tenth of margin, at "
        "several places (`aerun-search --views N`); `views of the collection`: its pictures are also encoded as crops "
        "of nine tenths (`aerun-embed --views N`); the nearest counts."
    )
    where = circumstances("crops.py", asked.device, "one process", ("torch", "numpy", "scikit-learn", "pillow"))
    text = "\n".join(["## Cropped drawings", "", head, "", *lines, "", where])
    print(text)
    if asked.write:
        if not PAGE.exists():
            PAGE.write_text(HEAD)
        write_section("crops", text, PAGE)


if __name__ == "__main__":
    run_command(parser, work)
