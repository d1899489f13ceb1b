"""Does a cropped drawing find its original? ``python benchmarks/crops.py RUN [--queries 500] [--queries-seed 1]``

Of each of 500 pictures of a folder (fixed seed) a tenth of its width and of its height is cut off, at a random place,
and the rest is brought to the run's size as the run does it. It is looked for in the whole folder, by the run's codes,
by the pixels of the same size, and by as many principal components as a code has numbers; each with its first
candidates put in order by their pixels, too. Most of the pictures have been trained on: a collection is searched by the
model that was trained on it. With another ``--queries-seed`` other drawings are cropped at other places: settings are
chosen on those, never on the ones of seed 0.
"""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from aerun.base.arguments import Parser, count
from aerun.cli.command import add_run_arguments, run_command
from benchmarks.machine import circumstances
from benchmarks.page import write_section

FOLDER = Path("/usr/share/openclipart/png")  # of Debian's openclipart-png
PAGE = Path(__file__).resolve().parent.parent / "docs" / "search.md"
HEAD = "# Search\n\nEvery section is written by the command that it names, never by hand.\n"
CUT, AMONG = 0.1, 5
SHARE = 0.9
LARGEST = 1024  # numbers: of more no views of the whole collection are made
CUTS = (0.05, 0.15, 0.2)  # as well, for what is done by default and for --cropped


def cropped(path: Path, decoder, random: np.random.Generator, cut: float = CUT) -> np.ndarray:
    """The picture without a tenth, or another share, of its sides, as the run takes it, uint8 [C,H,W]."""
    from PIL import ImageOps

    from aerun.dataset.decoder import flatten
    from aerun.dataset.picture_files import open_picture, pillow_settings

    with pillow_settings(), open_picture(path) as opened:
        picture = flatten(ImageOps.exif_transpose(opened))
    width, height = (max(1, round(side * (1 - cut))) for side in picture.size)
    left = int(random.integers(0, picture.width - width + 1))
    top = int(random.integers(0, picture.height - height + 1))
    return decoder.fit_picture(picture.crop((left, top, left + width, top + height)))


def recall(found: np.ndarray, rows: np.ndarray, same: np.ndarray) -> list[float]:
    """How many find their original first, among the first five, the very file among the first five, and the original
    among all that are in ``found`` [Q,n]."""
    hits = same[found] == same[rows][:, None]
    first = hits[:, :AMONG].any(1), (found[:, :AMONG] == rows[:, None]).any(1)
    return [float(share.mean()) for share in (hits[:, 0], *first, hits.any(1))]


def numbered(images) -> np.ndarray:
    """A number [N] for each image that equal ones share."""
    known: dict[bytes, int] = {}
    return np.array([known.setdefault(image.numpy().tobytes(), len(known)) for image in images])


def pictures(run, folder: Path):
    """The names of all pictures of the folder, and they [N,C,H,W], uint8."""
    import torch

    from aerun.use.image_files import read_folder_inputs

    chunks = list(read_folder_inputs(run, folder))
    return [name for part, _ in chunks for name in part], torch.cat([part for _, part in chunks])


def chosen(total: int, wanted: int, seed: int) -> tuple[np.ndarray, np.random.Generator]:
    """Rows of pictures to be cropped, and what tells where. Those of other seeds have none in common with seed 0."""
    random = np.random.default_rng(0)
    rows = np.sort(random.choice(total, min(wanted, total), replace=False))
    if seed == 0:
        return rows, random
    random = np.random.default_rng(seed)
    rest = np.setdiff1d(np.arange(total), rows)
    return np.sort(random.choice(rest, min(wanted, len(rest)), replace=False)), random


def parts_of(run, folder: Path, names: list[str], cut: float, random: np.random.Generator):
    """The named pictures, cropped, uint8 [Q,C,H,W]."""
    import torch

    return torch.from_numpy(np.stack([cropped(folder / name, run.decoder(), random, cut) for name in names]))


def described(describe, images, views: int = 1, share: float = SHARE) -> np.ndarray:
    """``describe`` [n,C,H,W] -> [n,D] of all images, in chunks: [N,D], or of several views of each [N,V,D]."""
    from aerun.use.collection.views import encode_views

    found = np.concatenate([encode_views(describe, chunk, views, share) for chunk in images.split(1024)])
    return found[:, 0] if views == 1 else found


def with_margins(describe, images, views: int) -> np.ndarray:
    """As ``--cropped`` describes its queries: [N,V,D]."""
    from aerun.use.search.crop_search import encode_with_margins

    return np.concatenate([encode_with_margins(describe, chunk, views) for chunk in images.split(1024)])


def as_pixels(images) -> np.ndarray:
    values = images.flatten(1).numpy().astype(np.float32)
    return values / 255 if not images.dtype.is_floating_point else values


def describers(run, images):
    """What pictures are described by: a name, its numbers, and [n,C,H,W] -> [n,D]."""
    import torch
    from sklearn.decomposition import PCA

    yield "codes", run.encode
    pixels = as_pixels(images)
    size = min(run.code_size, *pixels.shape)
    pca = PCA(size, svd_solver="randomized", random_state=0).fit(pixels)
    yield f"PCA, {size} components", lambda shown: torch.from_numpy(pca.transform(as_pixels(shown)).astype(np.float32))
    yield "pixels", lambda shown: torch.from_numpy(as_pixels(shown))


def ways(describe, images, parts, views: int):
    """What is compared: a name, numbers kept of a picture, a metric, and what is found [Q,n]."""
    from aerun.use.search.crop_search import CANDIDATES, rank_by_pixels
    from aerun.use.search.vector_index import METRICS, ExactIndex

    whole, asked = described(describe, images), described(describe, parts)
    shown = with_margins(describe, parts, views)
    size = whole.shape[1]
    for metric in METRICS:
        index = ExactIndex(whole, metric)
        yield "", size, metric, index.query(asked, CANDIDATES).rows
        if metric == "cosine" and size > LARGEST:
            continue
        near = index.query(shown, CANDIDATES).rows
        yield ", with margins", size, metric, near
    ordered = rank_by_pixels(lambda rows: (rows, images[rows]), parts, near, CANDIDATES).rows
    yield ", with margins, then pixels", size, metric, ordered
    if size <= LARGEST:
        several = ExactIndex(described(describe, images, views), metric)
        yield f", {views} views of the collection", size * views, metric, several.query(asked, CANDIDATES).rows


def other_cuts(run, images, folder: Path, names: list[str], rows: np.ndarray, same: np.ndarray) -> list[str]:
    """Lines of a table: what is found by default and with --cropped if less or more was cut off."""
    from aerun.use.search.crop_search import CANDIDATES, rank_by_pixels
    from aerun.use.search.vector_index import ExactIndex

    codes, lines = (
        described(run.encode, images),
        ["| cut off | default @1 | @5 | `--cropped` @1 | @5 |", "|---|---|---|---|---|"],
    )
    for cut in CUTS:
        parts = parts_of(run, folder, names, cut, np.random.default_rng(0))
        plain = recall(ExactIndex(codes).query(described(run.encode, parts), AMONG).rows, rows, same)
        shown = with_margins(run.encode, parts, 10)
        near = ExactIndex(codes, "euclidean").query(shown, CANDIDATES).rows
        best = recall(rank_by_pixels(lambda rows: (rows, images[rows]), parts, near, AMONG).rows, rows, same)
        lines.append(f"| {cut:.0%} | {plain[0]:.1%} | {plain[1]:.1%} | {best[0]:.1%} | {best[1]:.1%} |")
        print(lines[-1], flush=True)
    return lines


def parser() -> Parser:
    result = Parser("Search a collection for cropped pictures of it.", "  python %(prog)s outputs/RUN --views 10")
    add_run_arguments(result)
    result.add_argument("--queries", type=count, default=500, help="how many (500)")
    result.add_argument(
        "--queries-seed", type=int, default=0, help="which, and cropped where; settings are for 1 … (0)"
    )
    result.add_argument("--views", type=count, default=10, help="also codes of so many views of each picture (10)")
    result.add_argument("--folder", type=Path, default=FOLDER, help=f"the collection ({FOLDER})")
    result.add_argument("--write", action="store_true", help=f"write the section of {PAGE.name}")
    return result


def work(asked) -> None:
    from aerun.use.opened_run import open_run

    run = open_run(asked.run, asked.device, asked.trust)
    names, images = pictures(run, asked.folder)
    same, seed = numbered(images), asked.queries_seed
    rows, random = chosen(len(names), asked.queries, seed)
    wanted = [names[row] for row in rows]
    parts = parts_of(run, asked.folder, wanted, CUT, random)
    lines = ["| searched by | numbers | metric | @1 | @5 | file @5 | @50 |", "|---" * 7 + "|"]
    for name, describe in islice(describers(run, images), 1 if seed else None):  # it is the codes that need settings
        for way, numbers, metric, found in ways(describe, images, parts, asked.views):
            shares = " | ".join(f"{share:.1%}" for share in recall(found, rows, same))
            lines.append(f"| {name}{way} | {numbers:,} | {metric} | {shares} |")
            print(lines[-1], flush=True)
    more = [] if seed else other_cuts(run, images, asked.folder, wanted, rows, same)
    shape = "x".join(map(str, run.shape))
    area = 1 - (1 - CUT) ** 2
    copies = np.bincount(same)[same] > 1
    head = (
        f"{len(rows)} of {len(images):,} drawings, each cropped by {CUT:.0%} of its width and of its height at a "
        f"random place ({area:.0%} of its area) and fitted to {shape} again (`{run.fit}`), find their original first "
        f"(@1), among the first {AMONG} (@{AMONG}) or the first 50. {copies.sum():,} files are in the folder more than "
        f"once, with the same pixels, and any of those is the original; `file @{AMONG}` counts only the very file. "
        "`numbers`: numbers stored for each picture of the collection. `with margins`: the query is also shown with "
        "margins of 5, 10 and 20% at nine places each, and the nearest counts; `then pixels`: the first 50 of these "
        "are ordered by the difference between the query's pixels and the most similar part of the same size in each: "
        "this is `aerun-search --cropped`. `views of the collection`: its pictures are also encoded as crops of nine "
        "tenths (`aerun-embed --views N`). The default is `codes` by cosine."
    )
    other = "These drawings, on which methods and numbers were compared and chosen, are not those of the other section."
    kind = other if seed else "Methods and numbers were chosen on other drawings: the other section."
    where = circumstances("crops.py", asked.device, "one process", ("torch", "numpy", "scikit-learn", "pillow"))
    title = f"## Cropped drawings{f', queries to choose by (seed {seed})' if seed else ''}"
    less = ["With more or less of the sides cut off:", "", *more, ""] if more else []
    text = "\n".join([title, "", f"{head} {kind}", "", *lines, "", *less, where])
    print(text)
    if asked.write:
        if not PAGE.exists():
            PAGE.write_text(HEAD)
        write_section(f"crops {seed}" if seed else "crops", text, PAGE)


if __name__ == "__main__":
    sys.exit(run_command(parser, work))
