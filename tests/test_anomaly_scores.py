"""Scores of anomalies against scikit-learn and plain loops, and thresholds against what they promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from sklearn.covariance import EmpiricalCovariance, LedoitWolf
from sklearn.decomposition import PCA
from sklearn.metrics import auc, average_precision_score, f1_score, precision_recall_curve, roc_curve
from sklearn.neighbors import NearestNeighbors

from aerun.base.ssim import ssim, ssim_map
from aerun.errors import ConfigError, DataError
from aerun.metrics import anomaly_scores, detection
from aerun.metrics.anomaly_scores import AnomalyScores, fit_fusion, fit_scores, fitted_count


def vectors(count: int, seed: int, size: int = 8) -> torch.Tensor:
    """Correlated values."""
    mixing = np.random.default_rng(9).normal(size=(size, size))
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, size)) @ mixing).float()


def fitted(train: torch.Tensor, codes: torch.Tensor, neighbors: int = 3, unit_range: bool = True) -> AnomalyScores:
    return fit_scores(train, codes, scale=None, neighbors=neighbors, unit_range=unit_range)


def test_scores_of_codes_are_those_of_scikit_learn() -> None:
    train, codes, tested, code = vectors(200, 1), vectors(200, 2, 4), vectors(50, 3), vectors(50, 4, 4)
    found = fitted(train, codes).scores(tested, code, tested + 0.5)
    shrunk = LedoitWolf().fit(codes.double().numpy())
    np.testing.assert_allclose(found["mahalanobis"] ** 2, shrunk.mahalanobis(code.double().numpy()), rtol=1e-9)
    distances = NearestNeighbors(n_neighbors=3).fit(codes).kneighbors(code)[0]
    np.testing.assert_allclose(found["knn"], distances.mean(1), rtol=1e-5)
    np.testing.assert_allclose(found["error"], np.full(50, 0.25), rtol=1e-5)
    pca = PCA(4).fit(train.double().numpy())
    projected = pca.inverse_transform(pca.transform(tested.double().numpy()))
    np.testing.assert_allclose(found["pca"], ((tested.numpy() - projected) ** 2).mean(1), rtol=1e-4)
    assert found.keys() == {"error", "mahalanobis", "knn", "pca"}  # vectors have no windows


def test_without_shrinkage_it_is_the_distance_by_the_empirical_covariance() -> None:
    """Of many codes the shrinkage is small."""
    codes = vectors(100_000, 2, 3)
    found = fitted(vectors(1000, 1), codes).scores(vectors(5, 3), codes[:5], vectors(5, 3))
    exact = EmpiricalCovariance().fit(codes.double().numpy()).mahalanobis(codes[:5].double().numpy())
    np.testing.assert_allclose(found["mahalanobis"] ** 2, exact, rtol=1e-3)


def test_principal_components_hold_at_most_99_percent_of_the_variance() -> None:
    train = vectors(500, 1)
    found = fitted(train, vectors(500, 2, 30)).components
    shares = PCA().fit(train.double().numpy()).explained_variance_ratio_.cumsum()
    assert found.shape[1] == 1 + int((shares < 0.99).sum()) < 8
    assert fitted_count(784) == 10_000 and fitted_count(3 * 256 * 256) == 341


def test_peaks_and_maps_are_gaussian_means_of_the_error() -> None:
    random = np.random.default_rng(0)
    images, outputs = (torch.from_numpy(random.random((3, 2, 20, 24))).float() for _ in range(2))
    model = fitted(torch.rand(30, 2, 20, 24), torch.rand(30, 4))
    squares = ((images - outputs) ** 2).mean(1).double().numpy()
    means = np.stack([gaussian_filter(each, 1.5, radius=5, mode="mirror") for each in squares])
    scores, maps = model.scores(images, torch.rand(3, 4), outputs), model.maps(images, outputs)
    np.testing.assert_allclose(maps["error"], means, rtol=1e-4)
    np.testing.assert_allclose(maps["ssim"][:, 5:-5, 5:-5], 1 - ssim_map(outputs, images), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scores["ssim"], 1 - ssim(outputs, images), rtol=1e-4, atol=1e-5)
    for name in ("error", "ssim", "pca"):
        np.testing.assert_allclose(scores[f"{name}_peak"], maps[name].max((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(ssim_map(outputs, images).mean((1, 2)), ssim(outputs, images), rtol=1e-5)
    assert fitted(images, torch.rand(3, 4), unit_range=False).scores(images, torch.rand(3, 4), outputs).keys() == {
        *("error", "error_peak", "mahalanobis", "knn", "pca", "pca_peak")
    }
    small = torch.rand(9, 1, 8, 8)
    assert fitted(small, torch.rand(9, 4)).maps(small, small * 0)["error"] == pytest.approx(
        small[:, 0].square().numpy()
    )


def test_errors_of_standardized_data_are_in_deviations() -> None:
    train, tested = vectors(300, 1), vectors(20, 2)
    units = torch.tensor([1.0, 10, 100, 1000, 1, 1, 1, 1])
    plain, scaled = (
        fit_scores(train * unit, train[:, :3], scale=unit, neighbors=2, unit_range=False)
        for unit in (torch.ones(8), units)
    )
    first = plain.scores(tested, tested[:, :3], tested * 0.9)
    second = scaled.scores(tested * units, tested[:, :3], tested * 0.9 * units)
    for name, values in first.items():
        np.testing.assert_allclose(second[name], values, rtol=1e-3)


def test_codes_that_do_not_vary_have_finite_scores() -> None:
    codes = torch.ones(50, 4)
    found = fitted(vectors(50, 1), codes).scores(vectors(5, 2), codes[:5], vectors(5, 2))
    fusion = fit_fusion(found)
    assert all(np.isfinite(values).all() for values in (*found.values(), fusion(found)))
    assert fusion.moments["mahalanobis"][1] == 1


def test_the_fusion_is_the_largest_standard_score_of_logarithms() -> None:
    random = np.random.default_rng(0)
    scores = {
        "error": random.lognormal(3, 2, 5000),
        "knn": random.lognormal(-1, 0.5, 5000),
        "ssim": random.random(5000),
    }
    fusion = fit_fusion(scores, ["error", "knn"])
    assert fusion.moments["error"] == pytest.approx((3, 2), abs=0.1)
    new = {"error": np.exp([3.0, 7.0]), "knn": np.exp([-1.0, -1.0])}
    np.testing.assert_allclose(fusion(new), [0, 2], atol=0.1)
    negative = fit_fusion({"likelihood": -np.arange(5.0)}, ["likelihood"])
    np.testing.assert_allclose(negative({"likelihood": -np.array([2.0, 2 - 2**0.5])}), [0, 1])
    assert set(anomaly_scores.FUSED_FROM) <= set(anomaly_scores.SCORES)


def test_numbers_of_detection_are_those_of_scikit_learn_and_of_loops() -> None:
    random = np.random.default_rng(0)
    normal, others = random.normal(0, 1, 60).round(1), random.normal(1, 1, 40).round(1)  # with ties
    found = detection.detection_numbers(normal, others, 0.5)
    pairs = [(a > b) + 0.5 * (a == b) for a in others for b in normal]
    truth, scores = np.r_[np.zeros(60), np.ones(40)], np.r_[normal, others]
    assert found["auroc"] == pytest.approx(np.mean(pairs)) == pytest.approx(auc(*roc_curve(truth, scores)[:2]))
    precision, recall, _ = precision_recall_curve(truth, scores)
    assert found["ap"] == pytest.approx(-(np.diff(recall) * precision[:-1]).sum())
    assert found["f1"] == pytest.approx(f1_score(truth, scores > 0.5))
    assert found["detected"] == (others > 0.5).mean() and found["false_alarms"] == (normal > 0.5).mean()


def test_the_overlap_of_regions_by_a_loop_over_all_thresholds() -> None:
    random = np.random.default_rng(1)
    masks = np.zeros((3, 12, 12), np.uint8)
    masks[0, 1:4, 1:4], masks[0, 7, 7], masks[0, 8, 8], masks[1, 5:10, 2:5] = 1, 1, 1, 1  # 7,7 and 8,8 are one region
    maps = (random.random((3, 12, 12)) + 0.5 * masks).round(2)
    regions = [masks[0] * 0, masks[0] * 0, masks[1]]
    regions[0][1:4, 1:4] = 1
    regions[1][7, 7] = regions[1][8, 8] = 1
    owner = [0, 0, 1]
    x, y = [0.0], [0.0]
    for threshold in np.unique(maps)[::-1]:
        x.append(((maps >= threshold) & (masks == 0)).sum() / (masks == 0).sum())
        y.append(np.mean([(maps[i][r == 1] >= threshold).mean() for i, r in zip(owner, regions, strict=True)]))
    grid = np.linspace(0, 0.3, 200_001)
    area = np.interp(grid, x, y).mean()
    found = detection.pixel_numbers(list(maps), list(masks))
    assert found["pro"] == pytest.approx(area, abs=1e-4)
    assert found["pixel_ap"] == pytest.approx(average_precision_score(masks.ravel(), maps.ravel()))
    assert detection.pixel_numbers(list(masks * 1.0), list(masks)) == pytest.approx(
        {"pixel_auroc": 1, "pixel_ap": 1, "pro": 1}
    )
    constant = detection.pixel_numbers(list(masks * 0.0), list(masks))
    assert constant["pixel_auroc"] == 0.5 and constant["pro"] == pytest.approx(0.15)  # the diagonal up to 0.3
    with pytest.raises(DataError, match="need pixels with and without a defect"):
        detection.pixel_numbers([maps[0]], [masks[2]])


def test_a_threshold_keeps_its_rate_on_average_and_its_interval_at_95_percent() -> None:
    """A simulation with scores whose true false-alarm rate is known: uniform ones."""
    random, rate, count = np.random.default_rng(0), 0.05, 119
    found = [detection.calibrate(random.random(count), rate) for _ in range(4000)]
    true = np.array([1 - threshold.value for threshold in found])
    assert true.mean() == pytest.approx(6 / 120, abs=0.001)  # k = 114 of 119: (119 + 1 - 114) / 120
    inside = np.mean([each.low <= rate_of <= each.high for each, rate_of in zip(found, true, strict=True)])
    assert inside == pytest.approx(0.95, abs=0.012)
    assert all(threshold.above == 5 for threshold in found)


@pytest.mark.parametrize(("count", "rate"), [(99, 0.01), (19, 0.05), (9, 0.1), (1, 0.5)])
def test_as_many_images_as_the_rate_needs(count: int, rate: float) -> None:
    scores = np.arange(count, dtype=float)
    threshold = detection.calibrate(scores, rate)
    assert threshold.value == count - 1 and threshold.above == 0
    assert 0 < threshold.low < rate < threshold.high < 1
    assert f"from {count} normal images" in str(threshold)
    assert detection.needed_images(rate) == count
    with pytest.raises(
        ConfigError, match=rf"^false_alarms={rate}: needs at least {count} validation images, there are"
    ):
        detection.calibrate(scores[1:], rate)


def test_a_threshold_asked_of_5_images_is_an_exact_error() -> None:
    with pytest.raises(ConfigError) as raised:
        detection.check_calibration(5, 0.01, "--false-alarms")
    assert str(raised.value) == (
        "--false-alarms=0.01: needs at least 99 validation images, there are 5; with 5 the rate must be at least 0.167"
    )
    detection.check_calibration(5, 1 / 6, "--false-alarms")
