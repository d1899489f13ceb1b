"""What quantized codes keep of an image at 64, 128 and 256 bits: ``python benchmarks/quantized.py --write``.

vq, residual_vq, fsq and lfq of one small network, PCA whose components are quantized by Lloyd and Max with the bits
shared out, and JPEG and WebP of as many bytes. The learning rate of each latent and size is chosen on validation
images, with seed 0; everything is reported on test images. The floor is the mean training image, which takes no bits;
the ceiling is the same network with as many 32-bit numbers as the others have bits.
"""

from __future__ import annotations

import logging
import math
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from aerun.base.arguments import Parser, count
from benchmarks.machine import circumstances
from benchmarks.page import write_section

BITS, RATES = (64, 128, 256), (0.001, 0.003, 0.01)
MOST_BITS = 8  # of a component
CODED_IMAGES = 200  # by JPEG and WebP, whose codes are larger at any quality
OPTIONS = {
    "deterministic": lambda bits: [f"model.code_size={bits}"],
    "vq": lambda bits: [f"model.code_size={bits}", "latent.dimension=8", "latent.entries=256"],
    "residual_vq": lambda bits: [f"model.code_size={bits // 2}", "latent.dimension=8", "latent.stages=2"],
    "fsq": lambda bits: [f"model.code_size={bits // 2}", "latent.levels=[4,4,4,4]"],
    "lfq": lambda bits: [f"model.code_size={bits}", "latent.dimension=8"],
}
SETTINGS = {
    "deterministic": "not quantized, 32 times as many bits: the ceiling",
    "vq": "vectors of 8 values, 256 entries",
    "residual_vq": "vectors of 8 values, 2 stages of 256 entries",
    "fsq": "4 levels of each value",
    "lfq": "a bit of each value",
}


def trained(latent: str, bits: int, seed: int, rate: float, words: list[str]) -> dict[str, float]:
    """The numbers of a run: PSNR on validation (of the best epoch) and test images, bits and usage on test images."""
    from aerun.config.compose import compose_words
    from aerun.config.parse import parse
    from aerun.runs.folder_metrics import read_metrics
    from aerun.runs.run import run

    overrides = [f"latent={latent}", f"optimizer.lr={rate}", f"seed={seed}", *OPTIONS[latent](bits), *words]
    common = ["model=mlp", "trainer.figures=none", "trainer.threads=1"]
    config, choices = compose_words([*common, *overrides])
    with tempfile.TemporaryDirectory() as folder:
        summary = run(parse(config, choices), config, Path(folder) / "run")
        lines = [line for line in read_metrics(Path(folder) / "run") if "validation/loss" in line]
    best = min(lines, key=lambda line: line["validation/loss"])
    test = summary["test"]
    assert latent == "deterministic" or test["bits"] == bits
    usage = test.get("code_usage", math.nan)
    return {"validation": best["validation/psnr"], "test": test["psnr"], "usage": usage}


def lloyd_max(values: np.ndarray, bits: int) -> np.ndarray:
    """The 2**bits levels of the least mean squared error for values[N] (Lloyd 1982, Max 1960), from their quantiles."""
    levels = np.quantile(values, (np.arange(2**bits) + 0.5) / 2**bits)
    for _ in range(30):
        nearest = np.searchsorted((levels[1:] + levels[:-1]) / 2, values)
        sums, counts = (np.bincount(nearest, w, minlength=len(levels)) for w in (values, None))
        levels = np.sort(np.where(counts > 0, sums / np.maximum(counts, 1), levels))
    return levels


def quantized(values: np.ndarray, levels: np.ndarray) -> np.ndarray:
    return levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, values)]


def pca_images(train: np.ndarray, test: np.ndarray, bits: int) -> np.ndarray:
    """test[N,D] from the components of train[N,D]; each bit goes where it lowers the error on train most."""
    mean = train.mean(0)
    _, _, axes = np.linalg.svd(train - mean, full_matrices=False)
    axes = axes[:bits]
    known, new = (train - mean) @ axes.T, (test - mean) @ axes.T
    given = np.zeros(len(axes), int)
    tables = [{0: np.zeros(1)} for _ in axes]
    errors = [{0: float(np.square(column).mean())} for column in known.T]

    def gain(place: int) -> float:
        number = given[place] + 1
        if number > MOST_BITS:
            return -math.inf
        if number not in tables[place]:
            tables[place][number] = lloyd_max(known[:, place], number)
            left = known[:, place] - quantized(known[:, place], tables[place][number])
            errors[place][number] = float(np.square(left).mean())
        return errors[place][number - 1] - errors[place][number]

    gains = np.array([gain(place) for place in range(len(axes))])
    for _ in range(bits):
        place = int(gains.argmax())
        given[place] += 1
        gains[place] = gain(place)
    columns = [quantized(new[:, place], tables[place][given[place]]) for place in range(len(axes))]
    return np.stack(columns, 1) @ axes + mean


def psnr(images: np.ndarray, targets: np.ndarray) -> float:
    """Mean PSNR of images in [0,1], clipped: as the metric ``psnr``."""
    errors = np.square(images.clip(0, 1) - targets).reshape(len(images), -1).mean(1)
    return float((-10 * np.log10(errors.clip(1e-10))).mean())


def rows(words: list[str], seeds: int) -> Iterator[list[str]]:
    """The lines of the table."""
    import torch

    from aerun.config.compose import compose_words
    from aerun.config.parse import parse
    from aerun.use.collection.compression import best_within_bytes, code_jpeg, code_webp

    for latent in OPTIONS:
        cells, usages, rates = [], [], []
        for bits in BITS:
            tried = {rate: trained(latent, bits, 0, rate, words) for rate in RATES}
            rate = max(tried, key=lambda rate: tried[rate]["validation"])
            numbers = [tried[rate], *(trained(latent, bits, seed, rate, words) for seed in range(1, seeds))]
            values = [number["test"] for number in numbers]
            spread = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.2f}{spread}")
            usages.append(f"{np.mean([number['usage'] for number in numbers]):.0%}")
            rates.append(f"{rate:g}")
        used = "" if latent == "deterministic" else f"; entries used {', '.join(usages)}"
        yield [f"`latent={latent}`", *cells, f"{SETTINGS[latent]}; lr {', '.join(rates)}{used}"]
    settings = parse(*compose_words(words))
    data = settings.dataset.load(torch.device("cpu"))
    train, test = (part.inputs.numpy() for part in (data.train, data.test))
    flat, wanted = (part.reshape(len(part), -1) / 255 for part in (train, test))
    cells = [f"{psnr(pca_images(flat, wanted, bits), wanted):.2f}" for bits in BITS]
    yield ["PCA, Lloyd-Max", *cells, "no seed"]
    yield [
        "mean image",
        *[f"{psnr(np.broadcast_to(flat.mean(0), wanted.shape), wanted):.2f}"] * len(BITS),
        "no bits: the floor",
    ]
    for title, coder in (("JPEG", code_jpeg), ("WebP", code_webp)):
        measured: dict = {}
        best = [best_within_bytes(title, coder, test[:CODED_IMAGES], bits / 8, measured) for bits in BITS]
        fits = [row.size <= bits / 8 for row, bits in zip(best, BITS, strict=True)]
        cells = [f"{row.psnr:.2f}" if fit else "does not fit" for row, fit in zip(best, fits, strict=True)]
        size, decibels, _ = min(measured.values())
        note = f"the smallest, of images of 1/8 size, has {8 * size:.0f} bits and {decibels:.2f} dB"
        yield [title, *cells, f"{CODED_IMAGES} test images; {note}"]


def main() -> None:
    parser = Parser("What quantized codes keep of an image, by bits.", "  %(prog)s --epochs 16 --write")
    parser.add_argument("--epochs", type=count, default=16)
    parser.add_argument("--images", type=count, default=9000, help="training images (9000)")
    parser.add_argument("--seeds", type=count, default=2, help="runs of each size and latent (2)")
    parser.add_argument("--dataset", default="fashion_mnist_mini", help="an option of dataset (fashion_mnist_mini)")
    parser.add_argument("--write", action="store_true", help="write the section of docs/benchmarks.md")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    words = [
        *(f"dataset={arguments.dataset}", f"dataset.train_limit={arguments.images}", "dataset.validation=1000"),
        *(f"trainer.epochs={arguments.epochs}", "trainer.batch_size=128", "trainer.device=cpu", "tracker=none"),
        *("scheduler=cosine", "trainer.evaluate_every_epochs=4"),
    ]
    lines = [
        "## Bits of an image",
        "",
        f"Mean PSNR in dB on the test images of `{arguments.dataset}` by bits an image. The network "
        f"784-256-code-256-784 (`model=mlp`) is trained for {arguments.epochs} epochs on {arguments.images:,} images, "
        f"with a cosine schedule: the mean ± deviation of {arguments.seeds} seeds. The learning rate of each latent "
        f"and size, {', '.join(map(str, RATES))}, was chosen on validation images with seed 0. PCA: each bit goes to "
        "the component where it "
        "lowers the error on training images most, whose levels are Lloyd's and Max's. JPEG (without its tables) and "
        "WebP: the best quality of as many bytes, of images reduced to a half, a quarter or an eighth where nothing "
        "else fits.",
        "",
        f"| code | {' | '.join(f'{bits} bits' for bits in BITS)} | |",
        f"|---|{'---|' * (len(BITS) + 1)}",
    ]
    for row in rows(words, arguments.seeds):
        lines.append(f"| {' | '.join(row)} |")
        print(lines[-1], flush=True)
    lines += ["", circumstances("quantized.py", "cpu", "1 thread", ["torch", "numpy", "pillow"])]
    print("\n".join(lines))
    if arguments.write:
        write_section("quantized", "\n".join(lines))


if __name__ == "__main__":
    main()
