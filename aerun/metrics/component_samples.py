"""Samples of the simplest model of images, for comparison."""

from __future__ import annotations

import torch
from torch import Tensor

from aerun.base.seeding import Randomness
from aerun.errors import DataError
from aerun.metrics.baselines import principal_components


def component_samples(images: Tensor, count: int, components: int, seed: int) -> Tensor:
    """Samples of a Gaussian in the space of the leading principal components of images[N,...]."""
    images = images.cpu()
    rows = images.flatten(1).double()
    mean = rows.mean(0)
    directions = principal_components(images, mean, components)
    if directions is None:
        raise DataError(f"the {components} principal components of these images are too expensive")
    deviations = ((rows - mean) @ directions).std(0)
    generator = Randomness(seed, torch.device("cpu")).at("samples-pca", 0)
    normals = torch.randn(count, directions.shape[1], generator=generator).double()
    samples = (normals * deviations) @ directions.T + mean
    inside = bool(images.min() >= 0) and bool(images.max() <= 1)
    return (samples.clamp(0, 1) if inside else samples).float().view(count, *images.shape[1:])
