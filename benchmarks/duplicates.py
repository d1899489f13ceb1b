"""Does ``aerun-search --duplicates auto`` find copies, and nothing else? ``python benchmarks/duplicates.py RUN RUN …``

Of a folder's pictures one of each group of like ones is kept (equal pixels at the run's size, or nearly), so that no
copies are left. Then copies of 500 of them are put among them: half the size and kept as JPEG, or with a fiftieth of
the sides cut off. Pairs of a picture and its copy are true, all others false: a picture is left that is like another
one by other measures, so precision is a lower bound. The threshold is measured on other copies than those.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from aerun.base.arguments import Parser, count
from aerun.cli.command import add_run_arguments, run_command
from aerun.use.search.vector_index import Metric
from benchmarks.crops import FOLDER, PAGE, as_pixels, chosen, cropped, pictures
from benchmarks.machine import circumstances
from benchmarks.page import write_section

ALIKE, CUT = 0.05, 0.02


def unlike(pixels: np.ndarray, limit: float = ALIKE) -> np.ndarray:
    """Rows of pixels [N,D] of which no two differ by less than ``limit`` (root of the mean square): the first of each
    group."""
    squares, kept = np.einsum("nd,nd->n", pixels, pixels), np.ones(len(pixels), bool)
    for start in range(0, len(pixels), 512):
        block = slice(start, start + 512)
        distances = squares[block, None] + squares[None] - 2 * pixels[block] @ pixels.T
        near = distances < limit**2 * pixels.shape[1]
        for row in range(start, min(start + 512, len(pixels))):
            if kept[row]:
                kept[row + 1 :] &= ~near[row - start, row + 1 :]
    return np.flatnonzero(kept)


def copies(run, folder: Path, names: list[str], random: np.random.Generator):
    """Poorer copies of pictures, and slightly cropped ones, uint8 [n,C,H,W] each."""
    import torch
    from PIL import ImageOps

    from aerun.dataset.decoder import flatten
    from aerun.dataset.picture_files import open_picture, pillow_settings
    from aerun.use.search.duplicate_threshold import recompress_jpeg

    poorer, less, decoder = [], [], run.decoder()
    for name in names:
        with pillow_settings(), open_picture(folder / name) as opened:
            whole = flatten(ImageOps.exif_transpose(opened)).convert("RGB")
        poorer.append(decoder.fit_picture(recompress_jpeg(whole.reduce(2) if min(whole.size) > 1 else whole)))
        less.append(cropped(folder / name, decoder, random, CUT))
    return torch.from_numpy(np.stack(poorer)), torch.from_numpy(np.stack(less))


def measured(codes: np.ndarray, planted: np.ndarray, rows: np.ndarray, threshold: float, metric: Metric):
    """The share of planted copies [n,D] of ``rows`` that are found, and of what is found that is one of them."""
    from aerun.use.search.duplicates import duplicates

    found = duplicates(np.concatenate([codes, planted]), threshold, metric=metric).rows
    true = {(int(row), len(codes) + number) for number, row in enumerate(rows)}
    right = sum((int(a), int(b)) in true for a, b in found)
    return right / len(rows), right / max(1, len(found))


def planted(run, folder: Path, wanted: int):
    """Names of pictures that are unlike each other, they [N,C,H,W], rows of some, and copies of these of each kind."""
    names, images = pictures(run, folder)
    kept = unlike(as_pixels(images))
    names, images = [names[row] for row in kept], images[kept]
    rows, random = chosen(len(names), wanted, 1)
    return names, images, rows, copies(run, folder, [names[row] for row in rows], random)


def lines_of(run, label: str, folder: Path, drawings):
    from aerun.errors import ConfigError
    from aerun.use.collection.fingerprints import Fingerprints
    from aerun.use.search.duplicate_threshold import estimate_threshold
    from aerun.use.search.vector_index import METRICS

    names, images, rows, both = drawings
    codes, coded = (run.encode(images).flatten(1).numpy(), [run.encode(kind).flatten(1).numpy() for kind in both])
    made = Fingerprints(names, codes, run.fingerprint, root=str(folder))
    for metric in METRICS:
        near = estimate_threshold(run, made, metric)
        for what, threshold in (("auto", near.threshold), ("nine of ten copies", near.wanted)):
            shares = []
            for kind in coded:
                try:
                    shares.append("{:.0%} | {:.0%}".format(*measured(codes, kind, rows, threshold, metric)))
                except ConfigError:
                    shares.append("more than a million pairs |")
            warned = ("yes" if near.warning else "no") if what == "auto" else ""
            overlap = f"{near.others:.1%}" if what == "auto" else ""
            yield f"| {label} | {metric} | {what} | {threshold:.3g} | {' | '.join(shares)} | {overlap} | {warned} |"


def parser() -> Parser:
    result = Parser("Look for planted copies.", "  python %(prog)s outputs/RUN --others outputs/POOR_RUN")
    add_run_arguments(result)
    result.add_argument("--others", type=Path, nargs="+", default=[], metavar="RUN", help="measured as well")
    result.add_argument("--queries", type=count, default=500, help="how many copies of each kind (500)")
    result.add_argument("--folder", type=Path, default=FOLDER, help=f"the collection ({FOLDER})")
    result.add_argument("--write", action="store_true", help=f"write the section of {PAGE.name}")
    return result


def work(asked) -> None:
    from aerun.use.opened_run import open_run

    head = [
        "run",
        "metric",
        "threshold",
        "distance",
        "JPEG: found",
        "right",
        "crop: found",
        "right",
        "overlap",
        "warning",
    ]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    known: dict[tuple, tuple] = {}
    for run in [open_run(place, asked.device, asked.trust) for place in (asked.run, *asked.others)]:
        error = (run.summary or {}).get("test", {}).get("mse", float("nan"))
        shown = (run.shape, run.fit)
        known[shown] = known.get(shown) or planted(run, asked.folder, asked.queries)
        for line in lines_of(run, f"test MSE {error:.4f}", asked.folder, known[shown]):
            print(line, flush=True)
            lines.append(line)
    kept = len(next(iter(known.values()))[0])
    text = (
        f"One of several drawings whose pixels differ by less than {ALIKE} is kept: {kept:,}. Copies of "
        f"{asked.queries} of them are added: as JPEG of half the size, or cropped by {CUT:.0%}. `found`: the share of "
        "copies that `aerun-search --duplicates` pairs with their originals; `right`: the share of its pairs that are "
        "such copies, a lower bound, since other drawings may be similar, too. `auto` is the distance within which "
        "nine of ten copies are, or a smaller one within which one of fifty pictures has another one with different "
        "pixels. "
        "`overlap`: of 256 pictures the share that have another one as near as nine of ten copies are. `warning`: "
        "whether it warns that copies and other pictures are hard to distinguish."
    )
    where = circumstances("duplicates.py", asked.device, "one process", ("torch", "numpy", "pillow"))
    text = "\n".join(["## Near-duplicates", "", text, "", *lines, "", where])
    print(text)
    if asked.write:
        write_section("duplicates", text, PAGE)


if __name__ == "__main__":
    sys.exit(run_command(parser, work))
