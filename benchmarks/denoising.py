"""Denoisers of Fashion-MNIST and filters, the exact linear one included: a section of docs/denoising.md.

    python benchmarks/denoising.py [--jobs 2]

Three presets of conf/experiment, trained as an ordinary sweep, outputs/denoising: the same command continues where it
was stopped, and repeats nothing that has finished. Overrides may follow, for trials (with their own --name and --page).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.finished import composed, finished  # noqa: E402
from benchmarks.machine import processor  # noqa: E402
from benchmarks.page import write_section  # noqa: E402

RUNS = {
    "Gaussian, deviation 0.5, clipped to [0,1]": "dae_gaussian_clipped",
    "Gaussian, variance 0.5, not clipped": "dae_gaussian",
    "masking, 50 % of the pixels": "dae_masking",
}
PAGE_HEAD = "# Denoising\n\nEvery section is written by the command that it names, never by hand.\n"
MARGIN = 1.2  # dB over the linear filter
MINUTES = 15
TUNING = 1000  # training images, on which the filters' settings are chosen
HEAD = "| corruption | noisy input | median | Gaussian | linear | ours | gain | at least {:g} dB? | minutes |"


def filters() -> dict[str, dict[str, Callable[[np.ndarray], np.ndarray]]]:
    """Of images [N,1,H,W], by name and setting."""
    from scipy.ndimage import gaussian_filter, median_filter

    def median(size: int) -> Callable[[np.ndarray], np.ndarray]:
        return lambda images: median_filter(images, (1, 1, size, size))

    def gaussian(deviation: float) -> Callable[[np.ndarray], np.ndarray]:
        return lambda images: gaussian_filter(images, deviation, axes=(2, 3))

    return {
        "median": {f"{size}x{size}": median(size) for size in (3, 5, 7)},
        "Gaussian": {f"{step / 5:g}": gaussian(step / 5) for step in range(2, 13)},
    }


def psnr(images: np.ndarray, targets: np.ndarray) -> float:
    """Mean of the images' own PSNRs in dB, clipped to [0,1]."""
    errors = np.square(images.clip(0, 1).astype(np.float64) - targets).reshape(len(images), -1).mean(1)
    return float((-10 * np.log10(errors.clip(1e-10))).mean())


def filtered(config: dict[str, Any]) -> dict[str, tuple[str, float]]:
    """Setting and test PSNR of each filter on the very images that the run was tested on."""
    import torch

    from aerun.config.parse import parse
    from aerun.dataset.data import Split
    from aerun.metrics.evaluation import corrupted_batches

    settings = parse(config)
    data = settings.dataset.load(torch.device("cpu"))
    few = Split(data.train.inputs[:TUNING], data.train.targets[:TUNING], None)
    parts = []
    for split in (few, data.test):
        noisy, clean = ([], [])
        for _, inputs, images in corrupted_batches(split, settings.noise):
            noisy.append(inputs.numpy())
            clean.append(images.numpy())
        parts.append((np.concatenate(noisy), np.concatenate(clean)))
    (tuning, tuning_targets), (test, targets) = parts
    best = {}
    for name, grid in filters().items():
        setting = max(grid, key=lambda setting: psnr(grid[setting](tuning), tuning_targets))
        best[name] = setting, psnr(grid[setting](test), targets)
    return best


def row(corruption: str, summary: dict[str, Any], best: dict[str, tuple[str, float]]) -> str:
    """Of the table."""
    test, linear = summary["test"], summary["baselines"]["linear/psnr"]
    gain = test["psnr"] - linear
    cells = [corruption, f"{test['input_psnr']:.2f}"]
    cells += [f"{value:.2f} ({setting})" for setting, value in best.values()]
    cells += [f"{linear:.2f}", f"**{test['psnr']:.2f}**", f"{gain:+.2f}", "yes" if gain >= MARGIN else "**no**"]
    return "| " + " | ".join([*cells, f"{summary['wall_seconds'] / 60:.1f}"]) + " |"


def page(rows: Sequence[str], found: Sequence[tuple[Path, dict[str, Any]]], tuned: int) -> str:
    """The text of docs/denoising.md."""
    minutes = sum(summary["wall_seconds"] for _, summary in found) / 60
    environment = json.loads((found[-1][0] / "environment.json").read_text())
    presets = ", ".join(f"`experiment={name}`" for name in RUNS.values())
    epochs = ", ".join(map(str, sorted({summary["epochs"] for _, summary in found})))
    place = f"{processor()}, {environment['threads']} thread(s) a run, torch {environment['versions']['torch']}"
    head = HEAD.format(MARGIN)
    text = f"""## Fashion-MNIST

Made by `python benchmarks/denoising.py` on {date.today()}: {presets}, {epochs} epochs, one seed,
{place}; {minutes:.1f} minutes of runs in all, evaluation included,
two of which may run at a time (goal: {MINUTES} minutes on two cores).

Mean of the test images' PSNRs in dB, outputs clipped to [0,1]. Every column sees the same noisy images. The median and
Gaussian filters use the best size or deviation of a grid on {tuned:,} training images; the linear filter is the exact
least-squares affine map from all 784 noisy pixels to each clean one, fitted on the training images.

{head}
{"|---" * (head.count("|") - 1)}|
"""
    return text + "\n".join(rows) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="for trials: trainer.epochs=1 dataset.train_limit=2000")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, each on one thread")
    parser.add_argument("--name", default="denoising", help="of the sweep")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "denoising.md")
    arguments = parser.parse_args()
    common = ["seed=0", "trainer.threads=1", *arguments.overrides]
    command = [
        sys.executable,
        str(ROOT / "scripts" / "train.py"),
        "-m",
        f"experiment={','.join(RUNS.values())}",
        *common,
    ]
    command += [f"sweep.name={arguments.name}", "hydra/launcher=joblib", f"hydra.launcher.n_jobs={arguments.jobs}"]
    print(" ".join(command[1:]), flush=True)
    failed = subprocess.run(command, cwd=ROOT).returncode
    configs = composed([[f"experiment={name}", *common] for name in RUNS.values()])
    found = [pair for pair in finished(ROOT / "outputs" / arguments.name, configs) if pair is not None]
    if failed or len(found) < len(RUNS):
        print(f"{len(found)} of {len(RUNS)} runs have finished; the same command continues the others")
        return 1
    rows = [
        row(corruption, summary, filtered(config))
        for corruption, (_, summary), config in zip(RUNS, found, configs, strict=True)
    ]
    text = page(rows, found, TUNING)
    write_section("fashion_mnist", text, arguments.page, PAGE_HEAD)
    print(f"\n{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
