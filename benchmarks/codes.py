"""What are codes of pictures worth? ``python benchmarks/codes.py FOLDER NAME=RUN … [--write NAME]``

The subfolders of FOLDER are styles. For the codes of each run, and for rivals of a few lines each: the error and the
colors of reconstructions of test images, how many pictures are of the style that most of their five nearest neighbors
have, how well k-means finds the styles, and how many changed copies, those of finding.py, find their original.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from PIL import Image

from aerun.base.arguments import Parser, count
from aerun.cli.command import run_command
from benchmarks.finding import COPIES, histogram, opened, seen_once, shares, thumbnail
from benchmarks.machine import circumstances
from benchmarks.organising import agreement, rival
from benchmarks.page import write_section

PAGE = Path(__file__).resolve().parent.parent / "docs" / "codes.md"
HEAD = "# Codes of pictures\n\nEvery table is written by the command that it names.\n"
NEIGHBORS, AMONG = 5, 5
MOST_COMPONENTS = 64
SHOWN = ("cropped 25 %", "hue", "sepia", "mirrored", "turned by 5 degrees", "scan with marks", "photo of a page")
Array = np.ndarray
See = Callable[[list[Image.Image]], Array]  # pictures -> vectors [N,D]


def nearest(known: Array, asked: Array, most: int) -> Array:
    """The rows of the nearest vectors [N,D], for each of asked[Q,D], nearest first."""
    squares = (known**2).sum(1)
    return np.argsort(squares - 2 * asked @ known.T, axis=1, kind="stable")[:, :most]


def neighbors_agree(vectors: Array, styles: Array) -> float:
    """The share of pictures whose five nearest other pictures have, by majority, their style."""
    found = nearest(vectors, vectors, NEIGHBORS + 1)
    others = np.array([row[row != number][:NEIGHBORS] for number, row in enumerate(found)])
    votes = np.stack([np.bincount(styles[row], minlength=styles.max() + 1) for row in others])
    return float((votes.argmax(1) == styles).mean())


def components(train: Array, size: int) -> tuple[Array, Array]:
    """Mean and principal components [P,size] of training images [N,P]."""
    mean = train.mean(0)
    return mean, np.linalg.svd(train - mean, full_matrices=False)[2][:size].T


def coded(run, pictures: list[Image.Image]) -> Array:
    """Codes, as aerun-embed makes them."""
    import torch

    decoder, batches = run.decoder(), range(0, len(pictures), 256)
    parts = [np.stack([decoder.fit_picture(each) for each in pictures[start : start + 256]]) for start in batches]
    return np.concatenate([run.encode(torch.from_numpy(part)).flatten(1).numpy() for part in parts])


def inputs(run, pictures: list[Image.Image]) -> Array:
    """The images that the model sees, as vectors."""
    decoder = run.decoder()
    return np.stack([decoder.fit_picture(each).reshape(-1) for each in pictures]).astype(np.float32) / 255


def parser() -> Parser:
    result = Parser("Compare codes of pictures.", "  python %(prog)s outputs/styles two=outputs/RUN --write styles")
    result.add_argument("folder", type=Path, help="of pictures, whose subfolders are styles")
    result.add_argument("runs", nargs="+", metavar="NAME=RUN", help="run folders, and what to call them")
    result.add_argument("--queries", type=count, default=200, help="pictures that are copied (200)")
    result.add_argument("--seed", type=int, default=7, help="of the pictures and their changes (7)")
    result.add_argument("--device", default="cpu")
    result.add_argument("--write", metavar="NAME", help=f"write the section codes NAME of {PAGE.name}")
    return result


def work(asked) -> int:
    from aerun.use.opened_run import open_run

    runs = {
        name: open_run(Path(folder), asked.device) for name, _, folder in (each.partition("=") for each in asked.runs)
    }
    paths = sorted(path for path in asked.folder.rglob("*") if path.is_file())
    folders = [path.relative_to(asked.folder).parts[0] for path in paths]
    classes, styles = np.unique(folders, return_inverse=True)
    same, _ = seen_once(paths)
    pictures = [opened(path) for path in paths]
    first = next(iter(runs.values()))
    summaries = {name: run.summary or {} for name, run in runs.items()}
    of_first = next(iter(summaries.values()))
    images = first.data.train.inputs[:].flatten(1).numpy().astype(np.float32) / 255
    mean, directions = components(images, min(first.code_size, MOST_COMPONENTS))
    ways: dict[str, See] = {name: (lambda seen, run=run: coded(run, seen)) for name, run in runs.items()} | {
        f"PCA, {directions.shape[1]} components": lambda seen: (inputs(first, seen) - mean) @ directions,
        "thumbnail, 16 x 16": lambda seen: np.stack([thumbnail(each) for each in seen]),
        "color histogram": lambda seen: np.stack([histogram(each) for each in seen]),
    }
    rows = np.sort(np.random.default_rng(asked.seed).choice(len(paths), min(asked.queries, len(paths)), replace=False))
    copies = {
        kind: [COPIES[kind](pictures[row], np.random.default_rng([asked.seed, n])) for n, row in enumerate(rows)]
        for kind in SHOWN
    }
    head = ["codes", "numbers", "test MSE", "color kept", "SSIM", "style of neighbors", "NMI", *SHOWN]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name, see in ways.items():
        known = see(pictures)
        scale = known.std(0) if name in runs else np.ones(known.shape[1])
        scale = np.where(scale > 1e-6 * scale.max(), scale, np.inf)
        known = known / scale
        errors = reconstruction(summaries[name]["test"]) if name in runs else ["", "", ""]
        if name.startswith("PCA"):
            errors = reconstruction(of_first["test"], "pca_", of_first["baselines"]["pca/mse"])
        agree = agreement(rival(known), len(classes), styles, 3)
        found = [shares(nearest(known, see(each) / scale, AMONG), rows, same) for each in copies.values()]
        values = [f"{neighbors_agree(known, styles):.0%}".replace("%", " %"), f"{agree.nmi:.2f}", *found]
        lines.append(f"| {' | '.join([name, str(known.shape[1]), *errors, *values])} |")
        print(lines[-1], flush=True)
    where = circumstances("codes.py", asked.device, "one process", ("torch", "numpy", "scikit-learn"))
    title = f"## Codes of the pictures in {asked.write or asked.folder.name}"
    text = (
        f"{len(paths):,} pictures in {len(classes)} folders, each a style. Distances are Euclidean; each unit of a "
        f"code is divided by its standard deviation. Style of neighbors: of the majority of the {NEIGHBORS} nearest "
        f"other pictures. NMI: k-means with as many clusters as styles, mean of 3 seeds. Copies: {len(rows)} pictures, "
        f"found first / among the first {AMONG}, in %."
    )
    page = "\n".join([title, "", text, "", *lines, "", where])
    print(page)
    if asked.write:
        write_section(f"codes {asked.write}", page, PAGE, HEAD)
    return 0


def reconstruction(test: dict[str, float], prefix: str = "", mse: float | None = None) -> list[str]:
    """Error, colors and SSIM of test images, as a table shows them."""
    values = [f"{test['mse'] if mse is None else mse:.4f}"]
    color, ssim = test.get(f"{prefix}color"), test.get(f"{prefix}ssim")
    return [*values, "" if color is None else f"{color:.0%}".replace("%", " %"), "" if ssim is None else f"{ssim:.3f}"]


def main() -> int:
    return run_command(parser, work)


if __name__ == "__main__":
    sys.exit(main())
