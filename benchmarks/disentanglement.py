"""Disentanglement of several latents on sprites, with floors and ceiling, written to docs/disentanglement.md.

    python benchmarks/disentanglement.py [--outputs FOLDER] [--epochs 40] [--seeds 5] [--trained]

Fully connected, one thread. Nothing is tuned to this table but the learning rate and the epochs, with which all runs
learn within minutes. ``--trained`` trains nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import aerun  # noqa: E402
from benchmarks.machine import circumstances  # noqa: E402

PAGE = ROOT / "docs" / "disentanglement.md"
SCORES = ("mig", "sap", "factor_vae", "dci_disentanglement", "dci_completeness", "dci_informativeness")
COMMON = [
    *("dataset=sprites", "dataset.size=16", "model=fc_vae", "model.hidden=[128]", "model.code_size=8"),
    *("model.output_bias=mean", "loss=bce", "loss.reduction=sum", "optimizer.lr=3e-3", "trainer.batch_size=256"),
    *("protocol=disentanglement", "trainer.evaluate_every_epochs=10", "tracker=none", "trainer.figures=none"),
    *("trainer.threads=1", "trainer.device=cpu"),
]
RUNS = {
    "plain autoencoder": ["latent=deterministic"],
    "VAE": ["latent=gaussian"],
    "beta-VAE, beta 4": ["latent=gaussian", "latent.beta=4"],
    "beta-TC-VAE, beta 4": ["latent=tc", "latent.beta=4"],
}
REFERENCES = {"random code": "random", "PCA": "pca", "the factors themselves": "factors"}
NOTES = """
Higher is better everywhere; each value is the mean ± standard deviation over seeds. The three lower rows are what the
scores give for codes that were not learned: two floors and the ceiling. Scores at the level of the floors show nothing.
"""


def train(name: str, words: list[str], arguments: argparse.Namespace) -> list[dict[str, float]]:
    """The test numbers of the runs of one row, trained if they are missing."""
    folder = arguments.outputs / f"disentanglement_{name.replace(' ', '_').replace(',', '')}"
    seeds = ",".join(map(str, range(arguments.seeds)))
    if not arguments.trained:
        typed = [*COMMON, *words, f"seed={seeds}", f"trainer.epochs={arguments.epochs}"]
        aerun.run_sweep(*typed, out=folder, verbose=False)
    return [json.loads(path.read_text())["test"] for path in sorted(folder.glob("*/summary.json"))]


def row(name: str, runs: list[dict[str, float]], end: str = "") -> str:
    """One line of the table."""
    cells = [name]
    for score in SCORES:
        values = [run[f"{score}{end}"] for run in runs]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        cells.append(f"{statistics.mean(values):.3f}" + (f" ± {spread:.3f}" if spread > 0.0005 else ""))
    mse = [run["mse"] for run in runs]
    cells.append("" if end else f"{statistics.mean(mse):.4f}")
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Train, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--outputs", type=Path, default=ROOT / "outputs", help="where the run folders go")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trained", action="store_true", help="train nothing: the page of what is there")
    arguments = parser.parse_args()
    found = {name: train(name, words, arguments) for name, words in RUNS.items()}
    every = [run for runs in found.values() for run in runs]
    heads = [*(score.replace("_", " ") for score in SCORES), "test MSE"]
    lines = ["| code | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    lines += [row(name, runs) for name, runs in found.items()]
    lines += [row(name, every, f"_{end}") for name, end in REFERENCES.items()]
    options = "\n".join(f"- {name}: `{' '.join(words)}`" for name, words in RUNS.items())
    text = (
        "<!-- Written by `python benchmarks/disentanglement.py`. -->\n# Disentanglement\n\n"
        "Scores of [`protocol=disentanglement`](protocols.md) on `dataset=sprites`: six scores by which a single code "
        "value corresponds to a single factor.\n\n"
        f"{circumstances('disentanglement.py', 'cpu', '1 thread', ['torch', 'scikit-learn'])} "
        f"{arguments.epochs} epochs, {len(found['VAE'])} seeds; every run has `{' '.join(COMMON[:10])}`.\n\n"
        + "\n".join(lines)
        + f"\n{NOTES}\n{options}\n"
    )
    PAGE.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
