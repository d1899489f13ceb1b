"""A model with the scores of its training and validation images: what new images are compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from aerun.dataset.data import Data, Split, spread
from aerun.errors import ConfigError
from aerun.metrics.anomaly_scores import (
    FUSED,
    LIKELIHOOD,
    AnomalyScores,
    Fusion,
    fit_fusion,
    fit_scores,
    fitted_count,
)
from aerun.metrics.detection import Threshold, calibrate, check_calibration
from aerun.metrics.evaluation import corrupted_batches

CHUNK_VALUES = 1 << 23  # of the images that are scored at once
LogLikelihood = Callable[[Split], np.ndarray]


class Codes(Protocol):
    """What is asked of a model."""

    def encode(self, images: Any) -> Tensor:
        """images[N,...] -> codes[N,...]."""

    def reconstruct(self, images: Any) -> Tensor:
        """images[N,...] -> reconstructions[N,...] in the units of the data."""


@dataclass(frozen=True)
class Detector:
    """``validation``: the scores [N] of validation images by name, the fused one included. ``log_likelihood``: log p(x)
    of the images of a part, for a model that has one."""

    model: Codes
    fitted: AnomalyScores
    fusion: Fusion
    validation: dict[str, np.ndarray]
    log_likelihood: LogLikelihood | None = None

    def scores(self, part: Split) -> dict[str, np.ndarray]:
        """The scores [N] of the images of a part, by name; higher is less normal."""
        found = _scores(self.model, self.fitted, part, self.log_likelihood)
        return found | {FUSED: self.fusion(found)}

    def maps(self, part: Split) -> dict[str, np.ndarray]:
        """The scores of single pixels [N,H,W], float32, by name; for images only."""
        parts = [self.fitted.maps(images, self.model.reconstruct(images).cpu()) for images in _batches(part)]
        return {name: np.concatenate([found[name] for found in parts]) for name in parts[0]}

    def threshold(self, score: str, rate: float, key: str = "false_alarms") -> Threshold:
        """See ``detection.calibrate``."""
        return calibrate(self.validation[score], rate, key)


def fit_detector(
    model: Codes, data: Data, *, scale: Tensor | None, neighbors: int, log_likelihood: LogLikelihood | None = None
) -> Detector:
    """Fit scores to at most 10,000 training images (512 MiB in float64), and their fusion to the validation images.

    ``scale``: the deviation by which the model standardizes its targets, if it does. Images are as the model sees them
    in evaluation, without noise.
    """
    assert data.validation is not None  # see check_normal_images
    part = spread(data.train, fitted_count(int(np.prod(data.input_shape))))
    images = [batch for batch, _, _ in corrupted_batches(part, None)]
    joined = images[0].new_empty(len(part), *images[0].shape[1:]).cpu()
    codes = []
    for start, batch in zip(range(0, len(part), len(images[0])), images, strict=True):
        joined[start : start + len(batch)] = batch
        codes.append(model.encode(batch).cpu())
    fitted = fit_scores(joined, _joined(codes), scale=scale, neighbors=neighbors, unit_range=data.in_unit_range)
    found = _scores(model, fitted, data.validation, log_likelihood)
    fusion = fit_fusion(found)
    return Detector(model, fitted, fusion, found | {FUSED: fusion(found)}, log_likelihood)


def check_normal_images(data: Data, rate: float, key: str) -> None:
    """ConfigError for data whose targets are not the inputs, and for too few validation images for a threshold."""
    if not data.same:
        raise ConfigError("scores compare an image with its own reconstruction: input and target must be the same")
    check_calibration(len(data.validation or ()), rate, key)


def _scores(
    model: Codes, fitted: AnomalyScores, part: Split, log_likelihood: LogLikelihood | None
) -> dict[str, np.ndarray]:
    parts = [
        fitted.scores(images, model.encode(images).cpu(), model.reconstruct(images).cpu()) for images in _batches(part)
    ]
    found = {name: np.concatenate([scores[name] for scores in parts]) for name in parts[0]}
    return found if log_likelihood is None else found | {LIKELIHOOD: -log_likelihood(part)}


def _batches(part: Split) -> Iterator[Tensor]:
    """The images of a part in order, float, on the CPU."""
    for clean, _, _ in corrupted_batches(part, None):
        yield from clean.cpu().split(max(1, CHUNK_VALUES // clean[0].numel()))


def _joined(parts: list[Tensor]) -> Tensor:
    import torch

    return torch.cat(parts)
