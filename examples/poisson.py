"""A noise: the photons that a camera counts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from aerun.contracts import Noise, Positive
from aerun.noise import Moments


@dataclass(frozen=True)
class Poisson(Noise):
    """Shot noise, x~ ~ Poisson(peak x) / peak, for images of nonnegative values: a white pixel counts ``peak`` photons.

    It grows with brightness: the variance is x / peak.
    """

    peak: Positive

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """images[B,...] float -> noisy images of the same shape; bright pixels may exceed 1."""
        return torch.poisson(self.peak * images, generator=generator) / self.peak

    def moments(self, positions: int) -> Moments:
        """E[x~] = x and E[x~^2] = x^2 + x / peak, and pixels are independent: the best linear denoiser, a baseline of
        every run, follows exactly."""
        return Moments(
            mean=lambda x: x,
            pixel=lambda x, y, same: x * y + (x / self.peak if same else 0.0),
        )
