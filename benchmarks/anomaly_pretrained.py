"""Defects by the features of a pretrained network: a part of ``benchmarks/anomalies.py``."""

from __future__ import annotations

from pathlib import Path

import aerun
from benchmarks.anomaly_parts import PLAIN, REPORTED_SEED, mean_of, table
from benchmarks.defects import CHOSEN_ON, REPORTED_ON, write_kind

SCORES = ("mahalanobis", "knn", "fused", "pca_peak")
WORDS = ["model=pretrained", "model.network=efficientnet_lite0", "trainer.epochs=1", "trainer.batch_size=16"]


def pretrained(outputs: Path, seeds: int) -> str:
    """Generated pictures with known defects; needs the extra pretrained."""
    folder, rows = outputs / "defects", []
    for kind in REPORTED_ON:
        if not (folder / kind / "ground_truth").exists():
            write_kind(folder, kind, REPORTED_SEED)
        tests = [_numbers(outputs, folder / kind, seed) for seed in range(seeds)]
        rows.append([kind, *(mean_of([test[f"anomaly/{name}_auroc"] for test in tests]) for name in SCORES)])
        print(rows[-1], flush=True)
    return (
        "## Defects by a pretrained network, measured\n"
        f"\nThe same pictures, and AUROC of pictures alone. `{' '.join(WORDS)}`: codes are 1,280 features, and the "
        "decoder has hardly been trained, so scores of pixels say little. "
        f"{seeds} seeds, which choose the pictures that validate. Nothing was chosen, not on {' and '.join(CHOSEN_ON)} "
        "either.\n\n" + table(["kind", *(f"`{name}`" for name in SCORES)], rows)
    )


def _numbers(outputs: Path, root: Path, seed: int) -> dict[str, float]:
    words = [*WORDS, *PLAIN, "dataset=image_folder", f"dataset.root={root}", "dataset.layout=mvtec", f"seed={seed}"]
    words += ["dataset.size=64", "dataset.channels=1", "dataset.validation=100", f"dataset.split_seed={seed}"]
    run = aerun.train(*words, "protocol=anomaly", out=outputs / f"anomaly_{root.name}_pretrained_{seed}", verbose=False)
    test: dict[str, float] = run.summary["test"]
    return test
