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


def recall(collection: np.ndarray, queries: np.ndarray, rows: np.ndarray, metric: str) -> tuple[float, float]:
    """How many find their original first, and among the first five."""
    from aerun.use.search import Index

    found = Index(collection, metric).query(queries, AMONG).rows == rows[:, None]
    return float(found[:, 0].mean()), float(found.any(1).mean())


def descriptions(run, folder: Path, wanted: int, views: int):
    """What is searched: name -> (collection [N,...], queries [Q,D]), and the rows that are right."""
    import torch
    from sklearn.decomposition import PCA

    from aerun.use.pictures import folder_inputs
    from aerun.use.views import crops

    chunks = list(folder_inputs(run, folder))
    names = [name for part, _ in chunks for name in part]
    images = torch.cat([part for _, part in chunks])
    random = np.random.default_rng(0)
    rows = np.sort(random.choice(len(names), min(wanted, len(names)), replace=False))
    parts = torch.from_numpy(np.stack([cropped(folder / names[row], run.decoder(), random) for row in rows]))
    coded = [run.encode(images[i : i + 1024]).flatten(1).numpy() for i in range(0, len(images), 1024)]
    codes, asked = np.concatenate(coded), run.encode(parts).flatten(1).numpy()
    yield "codes", codes, asked, rows
    if views > 1:
        seen = [
            np.stack([run.encode(view).flatten(1).numpy() for view in crops(images[i : i + 1024], views)], 1)
            for i in range(0, len(images), 1024)
        ]
        yield f"codes of {views} views", np.concatenate(seen), asked, rows
    pixels = images.flatten(1).numpy().astype(np.float32) / 255
    cut = parts.flatten(1).numpy().astype(np.float32) / 255
    yield "pixels", pixels, cut, rows
    size = min(codes.shape[1], *pixels.shape)
    pca = PCA(size, svd_solver="randomized", random_state=0).fit(pixels)
    yield f"PCA, {size} components", pca.transform(pixels), pca.transform(cut), rows


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
    columns = ["searched by", "numbers", "cosine @1", "cosine @5", "Euclidean @1", "Euclidean @5"]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for name, collection, queries, rows in descriptions(run, asked.folder, asked.queries, asked.views):
        both = [recall(collection, queries, rows, metric) for metric in ("cosine", "euclidean")]
        numbers = " | ".join(f"{share:.1%}" for pair in both for share in pair)
        lines.append(f"| {name} | {collection[0].size:,} | {numbers} |")
        print(lines[-1], flush=True)
    shape = "x".join(map(str, run.shape))
    head = (
        f"{len(queries)} of {len(collection):,} drawings, each cropped by {CUT:.0%} of its width and of its height at "
        f"a random place ({1 - (1 - CUT) ** 2:.0%} of its area) and fitted to {shape} anew (`{run.fit}`), find their "
        f"original first (@1) or among the first {AMONG} (@{AMONG}). `codes of N views`: the collection's pictures are "
        "also encoded as crops of nine tenths, and the nearest of a picture's codes counts (`aerun-embed --views N`)."
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
