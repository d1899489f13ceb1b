"""How time and memory of a run grow with images, epochs, the size of an image, and the code.

    python benchmarks/scaling.py                   # about eight minutes
    python benchmarks/scaling.py --series images epochs

Every point is a whole ``scripts/train.py`` on generated images in batches of 512, from reading the file to the last
figure, with one thread on one core: processor seconds (which others on the machine disturb less than those of the
clock) and peak memory. Writes its section of docs/benchmarks.md and
docs/images/scaling.png.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.machine import circumstances, last_core  # noqa: E402
from benchmarks.page import write_section  # noqa: E402
from benchmarks.powerlaw import fit  # noqa: E402
from benchmarks.rounds import table, verdict  # noqa: E402
from benchmarks.startup import TRAIN, timed  # noqa: E402

PICTURE = ROOT / "docs" / "images" / "scaling.png"
MOST = 1.05
CHUNK = 10_000


@dataclass(frozen=True)
class Series:
    """One thing grows, all else stays."""

    axis: str
    values: tuple[int, ...]
    images: int
    overrides: tuple[str, ...] = ("model=fc",)
    target: bool = False


SERIES = {
    "images": Series("images", (10_000, 30_000, 100_000, 300_000, 1_000_000), 0, target=True),
    "epochs": Series("epochs", (1, 10, 30, 100, 300), 10_000, target=True),
    "side": Series("pixels of an image, model=fc", (28, 64, 128, 256), 2_000),
    "side, conv": Series("pixels of an image, model=conv", (28, 90, 128, 256), 600, ("model=conv",)),
    "code": Series("code size", (16, 64, 256, 1024), 20_000),
}


@dataclass(frozen=True)
class Point:
    """n, the processor seconds and the peak memory (MiB) of the whole process, and the seconds of its steps."""

    n: int
    seconds: float
    peak: float
    training: float


@functools.cache
def texture(side: int) -> np.ndarray:
    """A few smooth patterns [P,side,side], from which images are mixed."""
    grid = np.linspace(0, 2 * np.pi, side, dtype=np.float32)
    waves = [np.outer(np.cos(i * grid), np.cos(j * grid)) for i in range(1, 5) for j in range(1, 5)]
    return np.stack(waves).astype(np.float32)


def write_images(path: Path, count: int, side: int) -> None:
    """uint8 images [count,1,side,side] into a .npy file, made in chunks."""
    file = np.lib.format.open_memmap(path, "w+", np.uint8, (count, 1, side, side))
    random = np.random.default_rng(0)
    patterns = texture(side).reshape(16, -1)
    rows = max(1, CHUNK * 784 // side**2)
    for begin in range(0, count, rows):
        end = min(begin + rows, count)
        values = 128 + 30 * random.standard_normal((end - begin, 16), dtype=np.float32) @ patterns
        file[begin:end, 0] = values.clip(0, 255).reshape(-1, side, side)
    file.flush()


def points(name: str, core: int | None) -> Iterator[Point]:
    """Measure one series. Every process has a cache of its own, so that nothing is remembered."""
    series = SERIES[name]
    for value in series.values:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            side = value if name.startswith("side") else 28
            write_images(folder / "images.npy", value if name == "images" else series.images, side)
            words = ["dataset=array", f"dataset.root={folder / 'images.npy'}", "trainer.batch_size=512"]
            words += ["trainer.device=cpu", f"hydra.run.dir={folder / 'run'}", *series.overrides]
            words += [f"trainer.epochs={value if name == 'epochs' else 1}"]
            words += [f"model.code_size={value}"] if name == "code" else []
            process = timed([TRAIN, *words], folder, folder / "cache", core)
            training = json.loads((folder / "run" / "summary.json").read_text())["train_seconds"]
        n = side**2 if name.startswith("side") else value
        yield Point(n, process.processor, process.peak, training)


def picture(results: dict[str, list[Point]], path: Path) -> None:
    """Seconds above, memory below, a column for each series; log-log, with the fitted laws."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(
        2, len(results), figsize=(3.4 * len(results), 6.4), sharex="col", sharey="row", squeeze=False
    )
    for column, (name, measured) in enumerate(results.items()):
        n = np.array([point.n for point in measured], float)
        smooth = np.geomspace(n.min(), n.max(), 100)
        for row, (costs, unit) in enumerate(
            [([p.seconds for p in measured], "whole process"), ([p.peak / 1024 for p in measured], "peak memory")]
        ):
            law, axis = fit(list(n), costs), axes[row, column]
            label = f"{law.fixed:.2g} {'s' if row == 0 else 'GiB'}" + f" + b n^{law.exponent:.2f}" * (law.factor > 0)
            axis.loglog(n, costs, "o", color="C0", label=unit)
            axis.loglog(smooth, law(smooth), "-", color="C0", linewidth=1, label=label)
            if row == 0:
                axis.loglog(
                    n,
                    [p.training for p in measured],
                    "s",
                    color="C1",
                    markersize=4,
                    label="training steps, by the clock",
                )
            axis.grid(True, which="major", alpha=0.3)
            axis.legend(fontsize=8, loc="upper left")
        axes[0, column].set_title(name)
        axes[1, column].set_xlabel(SERIES[name].axis)
    axes[0, 0].set_ylabel("processor seconds")
    axes[1, 0].set_ylabel("GiB")
    for row, room in ((0, 20), (1, 3)):  # the legends' own
        low, high = axes[row, 0].get_ylim()
        axes[row, 0].set_ylim(low, high * room)
    figure.tight_layout()
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def report(results: dict[str, list[Point]]) -> str:
    """Every point, and what they grow with."""
    rows = [
        [name, f"{p.n:,}", f"{p.seconds:.2f}", f"{p.training:.2f}", f"{p.peak:,.0f}"]
        for name, measured in results.items()
        for p in measured
    ]
    laws = []
    for name, measured in results.items():
        n = [point.n for point in measured]
        time, memory = fit(n, [point.seconds for point in measured]), fit(n, [point.peak for point in measured])
        steps = fit(n, [point.training for point in measured])
        target = verdict(time.exponent, MOST, at_most=True) if SERIES[name].target else ""
        laws.append([name, *map(str, (time, steps, memory)), f"{time.fixed:.2f}", target])
    return "\n\n".join(
        [
            table(["exponent of", "processor seconds", "steps alone", "memory", "fixed seconds", "target"], laws),
            table(["series", "n", "processor seconds", "training steps, s", "peak memory, MiB"], rows),
        ]
    )


def main() -> None:
    """Measure, print, draw, and write docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", nargs="+", choices=SERIES, default=list(SERIES))
    parser.add_argument("--core", type=int, default=last_core(), help="the core they are bound to")
    parser.add_argument("--write", action=argparse.BooleanOptionalAction, help="the docs; default: if complete")
    given = parser.parse_args()
    results: dict[str, list[Point]] = {}
    for name in given.series:
        results[name] = []
        for point in points(name, given.core):
            print(f"{name} {point}", flush=True)
            results[name].append(point)
    text = report(results)
    print(text)
    if given.series == list(SERIES) if given.write is None else given.write:
        picture(results, PICTURE)
        about = (
            "Every point is a whole `train.py` of model=fc (unless it says conv) on generated images in batches of "
            "512, one epoch unless epochs grow, with nothing cached: from reading the file to the last figure. images: "
            "28x28; epochs: 10,000 images; side: 28 to 256, 2,000 images (conv: 600), n counts pixels; code: 20,000 "
            "images. Fitted is a + b n^p by least squares of relative errors, since a process has a fixed cost a; in "
            "brackets the largest error of a point."
        )
        where = circumstances("scaling.py", "cpu", "one core and one thread", ["torch", "numpy"])
        image = "![Seconds and memory over images, epochs, pixels and code size](images/scaling.png)"
        write_section("scaling", "\n\n".join(["## Growth", f"{where} {about}", image, text]))


if __name__ == "__main__":
    main()
