"""How well scores separate anomalies from normal images, and thresholds with a stated rate of false alarms.

Scores are higher for what is less normal. NumPy, scikit-learn and SciPy only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aerun.errors import ConfigError, DataError

CONFIDENCE = 0.95  # of the interval of a false-alarm rate
PRO_LIMIT = 0.3  # false-positive rate of pixels up to which the per-region overlap is integrated (Bergmann et al. 2019)


@dataclass(frozen=True)
class Threshold:
    """Scores above ``value`` are alarms. ``rate``: the false-alarm rate that was asked for, ``images``: the number of
    normal images that the value was chosen on, ``above``: how many of them lie above it; [``low``, ``high``]: the
    interval that contains the rate of new normal images with a confidence of 95 %."""

    value: float
    rate: float
    images: int
    above: int
    low: float
    high: float

    def __str__(self) -> str:
        return (
            f"threshold {self.value:.4g} for {self.rate:.3g} false alarms, from {self.images:,} normal images (95 % "
            f"interval of the rate: {self.low:.3g} to {self.high:.3g})"
        )


def needed_images(rate: float) -> int:
    """The smallest number of normal images on which a threshold for this false-alarm rate can be chosen: 1/rate - 1."""
    return max(1, math.ceil(1 / rate - 1 - 1e-9))


def check_calibration(images: int, rate: float, key: str) -> None:
    """ConfigError, which names ``key``, for a rate that is not in (0,1], and if a threshold for it cannot be chosen on
    so few normal images."""
    if not 0 < rate <= 1:
        raise ConfigError(f"{key}={rate:g}: must be above 0 and at most 1")
    if images < needed_images(rate):
        least = f"; with {images} the rate must be at least {1 / (images + 1):.3g}" if images else ""
        raise ConfigError(
            f"{key}={rate:g}: needs at least {needed_images(rate)} validation images, there are {images}{least}"
        )


def calibrate(scores: np.ndarray, rate: float, key: str = "false_alarms") -> Threshold:
    """The threshold of normal scores [N] that new normal images exceed with a probability of at most ``rate``.

    It is the k-th smallest score with k = N + 1 - floor(rate (N + 1)), which a new score of the same distribution
    exceeds with probability (N + 1 - k) / (N + 1), on average over calibrations (Wilks 1941; Vovk 2012,
    arXiv:1209.2673). Of one calibration the rate has the distribution Beta(N + 1 - k, k), if scores have no ties, and
    ties only lower it: its 2.5 and 97.5 % quantiles are the interval. ConfigError if N + 1 < 1 / rate.
    """
    from scipy.stats import beta

    count = len(scores)
    check_calibration(count, rate, key)
    above = min(count, math.floor(rate * (count + 1) + 1e-9))
    value = float(np.sort(scores)[count - above])
    tail = (1 - CONFIDENCE) / 2
    low, high = beta.ppf([tail, 1 - tail], above, count + 1 - above)
    return Threshold(value, rate, count, int((scores > value).sum()), float(low), float(high))


def detection_numbers(normal: np.ndarray, anomalous: np.ndarray, threshold: float) -> dict[str, float]:
    """Scores of normal [N] and anomalous images [M] -> ``auroc``, ``ap``, ``f1``, ``detected`` and ``false_alarms``.

    The area under the ROC curve is the share of pairs in which the anomaly has the higher score; a tie counts half.
    Average precision is sum (R_i - R_{i-1}) P_i over the scores in falling order, and depends on the share of
    anomalies, as F1 does. Scores above the threshold are alarms: ``detected`` is their share of the anomalies,
    ``false_alarms`` of the normal images.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    scores, truth = np.concatenate([normal, anomalous]), np.arange(len(normal) + len(anomalous)) >= len(normal)
    hits, misses = int((anomalous > threshold).sum()), int((anomalous <= threshold).sum())
    false = int((normal > threshold).sum())
    return {
        "auroc": float(roc_auc_score(truth, scores)),
        "ap": float(average_precision_score(truth, scores)),
        "f1": 2 * hits / (2 * hits + misses + false),
        "detected": hits / len(anomalous),
        "false_alarms": false / len(normal),
    }


def pixel_numbers(maps: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> dict[str, float]:
    """Score maps [H,W] and masks [H,W] of defects, all of one size -> ``pixel_auroc``, ``pixel_ap`` and ``pro``.

    ``pro`` is the per-region overlap: for each threshold the mean, over all 8-connected regions of all masks, of the
    share of a region's pixels at or above it, integrated over the share of all pixels without a defect at or above it
    from 0 to 0.3, and divided by 0.3 (Bergmann et al. 2019, "MVTec AD", section 5). All thresholds are used. DataError
    without a defect, or without pixels outside.
    """
    from scipy.ndimage import label
    from sklearn.metrics import average_precision_score, roc_auc_score

    regions, weights = 0, []
    for mask in masks:
        marks, count = label(mask, np.ones((3, 3)))
        sizes = np.bincount(marks.ravel(), minlength=count + 1)
        weights.append((1 / sizes)[marks] * mask.astype(bool))  # each region's pixels sum to 1
        regions += count
    scores = np.concatenate([values.ravel() for values in maps]).astype(np.float64)
    weight = np.concatenate([values.ravel() for values in weights])
    truth = weight > 0
    if not regions or truth.all():
        raise DataError("masks: need pixels with and without a defect")
    return {
        "pixel_auroc": float(roc_auc_score(truth, scores)),
        "pixel_ap": float(average_precision_score(truth, scores)),
        "pro": _region_overlap(scores, weight / regions, truth),
    }


def _region_overlap(scores: np.ndarray, weight: np.ndarray, truth: np.ndarray) -> float:
    """The area under the curve of region overlap by false-positive rate up to PRO_LIMIT, divided by it."""
    from scipy.integrate import trapezoid

    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # of equal scores
    overlap = np.append(0.0, np.cumsum(weight[order])[last])
    false = np.append(0.0, np.cumsum(~truth[order])[last] / (~truth).sum())
    inside = false <= PRO_LIMIT
    edge = float(np.interp(PRO_LIMIT, false, overlap))
    x, y = np.append(false[inside], PRO_LIMIT), np.append(overlap[inside], edge)
    return float(trapezoid(y, x) / PRO_LIMIT)
