"""Test errors on the full Fashion-MNIST and those of PCA of the same code size, written to docs/quality.md.

    python benchmarks/quality.py [--root FOLDER_WITH_THE_IDX_FILES] [--epochs 10]

Seed 0, CPU, the shipped settings of each model: nothing is tuned to this table.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from datetime import date, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.machine import processor  # noqa: E402

RUNS = {
    "fc": ["model=fc"],
    "conv": ["model=conv"],
    "fc_deep, code 32": ["model=fc_deep", "model.hidden=[512,256]", "model.code_size=32", "model.activation=gelu"],
}
NOTES = """
- `fc` is one LeakyReLU layer each side. Its decoder is linear, so its outputs lie in a 64-dimensional subspace, in
  which PCA is optimal for the training images: this row can approach PCA's error, not go below it.
- `conv` has a code of 64x3x3 = 576 numbers for 784 pixels. PCA of 576 components is almost lossless, so this row shows
  what ten epochs of a small convolutional net reach, not what its code could hold.
- A net this deep has to beat PCA of the same 32 numbers, or its depth is useless.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", help="folder with the four IDX files; downloaded by default")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--outputs", type=Path, default=ROOT / "outputs", help="where the run folders go")
    arguments = parser.parse_args()
    lines = [
        "| run | code | test MSE per pixel | PCA of that size | mean image | PSNR (dB) | training (s) |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, overrides in RUNS.items():
        slug = name.replace(", ", "_").replace(" ", "_")
        folder = arguments.outputs / f"quality_{slug}_{datetime.now():%Y-%m-%d_%H-%M-%S}"
        common = ["dataset=fashion_mnist", f"trainer.epochs={arguments.epochs}", "seed=0", "trainer.device=cpu"]
        common += [f"dataset.root={arguments.root}"] if arguments.root else []
        script = str(ROOT / "scripts" / "train.py")
        subprocess.run([sys.executable, script, *common, *overrides, f"hydra.run.dir={folder}"], check=True)
        summary = json.loads((folder / "summary.json").read_text())
        test, base = summary["test"], summary["baselines"]
        lines.append(
            f"| `{' '.join(overrides)}` | {summary['code_size']} | {test['mse']:.5f} | {base['pca/mse']:.5f} "
            f"| {base['mean_image/mse']:.5f} | {test['psnr']:.2f} | {summary['train_seconds']:.0f} |"
        )
    environment = json.loads((folder / "environment.json").read_text())
    head = (
        "# Quality on Fashion-MNIST\n\nTest errors of the shipped models compared with PCA of the same code size. "
        f"Made by `python benchmarks/quality.py` on {date.today()}: "
        f"{arguments.epochs} epochs, 54,000 training, 6,000 validation and 10,000 test images, seed 0, one run each, "
        f"{processor()}, {environment['threads']} thread(s), torch {environment['versions']['torch']}.\n"
    )
    text = "\n".join([head, *lines, NOTES])
    (ROOT / "docs" / "quality.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
