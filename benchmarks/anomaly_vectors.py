"""Vectors, next to PyOD's detectors, for docs/anomalies.md."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import aerun
from aerun.dataset.data import Split
from aerun.use.anomalies.finding import fit_run
from aerun.use.opened_run import open_run
from benchmarks.anomaly_parts import PLAIN, auroc, mean_of, table

WORDS = [
    *("model=fc", "model.hidden=[64]", "model.code_size=16", "noise=gaussian", "noise.variance=0.1"),
    *("optimizer.lr=2e-3", "trainer.epochs=300", "trainer.batch_size=16", "dataset.validation=0.25"),
]


def vectors(seeds: int) -> str:
    """Data that scikit-learn ships, one class against the others, next to PyOD's detectors."""
    from sklearn.datasets import load_breast_cancer, load_digits, load_wine

    tasks = {
        "digits, each of ten": (load_digits(return_X_y=True), range(10)),
        "breast cancer, benign": (load_breast_cancer(return_X_y=True), [1]),
        "wine, each of three": (load_wine(return_X_y=True), range(3)),
    }
    found: dict[str, dict[str, list[float]]] = {}
    for task, ((values, labels), normal) in tasks.items():
        for seed in range(seeds):
            runs = [_vector_numbers(values, labels, label, seed) for label in normal]
            for name in runs[0]:
                mean = float(np.mean([run[name] for run in runs]))
                found.setdefault(name, {}).setdefault(task, []).append(mean)
            print(task, seed, {name: round(each[task][-1], 3) for name, each in found.items()}, flush=True)
    rows = [[name, *(mean_of(each[task]) for task in tasks)] for name, each in found.items()]
    return (
        "## Vectors, measured\n"
        f"\nAUROC, mean ± deviation over {seeds} splits: detectors see half of the rows of one class, standardized; "
        "the other half and all other classes are tested. PyOD's detectors have their defaults, its "
        "autoencoder batches of 16 (it fails for fewer rows than a batch). "
        f"`{' '.join(WORDS)}`: chosen on the digits 0, 3 and 8 with another split; breast "
        "cancer and wine are reported without any choice.\n\n" + table(["detector", *tasks], rows)
    )


def _vector_numbers(values: np.ndarray, labels: np.ndarray, label: int, seed: int) -> dict[str, float]:
    from pyod.models.auto_encoder import AutoEncoder
    from pyod.models.copod import COPOD
    from pyod.models.ecod import ECOD
    from pyod.models.iforest import IForest
    from pyod.models.knn import KNN
    from pyod.models.lof import LOF
    from pyod.models.ocsvm import OCSVM
    from pyod.models.pca import PCA
    from sklearn.preprocessing import StandardScaler

    rows = np.random.default_rng(seed).permutation(np.flatnonzero(labels == label))
    parts = rows[: len(rows) // 2], rows[len(rows) // 2 :], np.flatnonzero(labels != label)
    scaler = StandardScaler().fit(values[parts[0]])
    train, normal, others = (scaler.transform(values[part]).astype(np.float32) for part in parts)
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        words = [*WORDS, *PLAIN, f"seed={seed}"]
        run = aerun.train(*words, data=(train, normal), out=Path(folder) / "run", verbose=False)
        detector = fit_run(open_run(run.folder), 0.5)
    tensors = [torch.from_numpy(part) for part in (normal, others)]
    scores = [detector.scores(Split(part, part, None)) for part in tensors]
    for by in ("error", "mahalanobis", "knn", "fused", "pca"):
        found[f"aerun, `{by}`"] = auroc(scores[0][by], scores[1][by])
    theirs: dict[str, Callable[[], Any]] = {
        "PyOD kNN": KNN,
        "PyOD LOF": LOF,
        "PyOD isolation forest": lambda: IForest(random_state=seed),
        "PyOD one-class SVM": OCSVM,
        "PyOD PCA": lambda: PCA(random_state=seed),
        "PyOD ECOD": ECOD,
        "PyOD COPOD": COPOD,
        "PyOD autoencoder": lambda: AutoEncoder(batch_size=16, random_state=seed, verbose=0, device="cpu"),
    }
    for name, make in theirs.items():
        other = make().fit(train.astype(float))
        found[name] = auroc(*(other.decision_function(part.astype(float)) for part in (normal, others)))
    return found
