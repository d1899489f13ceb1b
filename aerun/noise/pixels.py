"""Corruptions of single pixels or values.

Each also provides the moments of the corrupted image given the clean one (``Moments``), from which the best linear
denoiser follows in closed form (``aerun.metrics.baselines``). "Pixel" means a position with all of its channels. A
vector counts as an image of one channel and one row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aerun.contracts import Finite, Noise, NonNegative, Probability

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class Moments:
    """Expectations over the corruption, given the clean pixel values x and y of an image.

    mean(x) = E[x~|x].  pixel(x, y, same) = E[x~ y~|x, y] for two channels of one pixel (``same``: the same
    channel).  For two different pixels, E[(x~-s)(y~-s)] = pair * (mean(x)-s) * (mean(y)-s) with s = ``shift``.
    """

    mean: _Elementwise
    pixel: _Product
    pair: float = 1.0
    shift: float = 0.0


@dataclass(frozen=True)
class NoNoise(Noise):
    """No corruption."""

    is_identity = True

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """images[B,...] -> the same tensor."""
        return images


@dataclass(frozen=True)
class Gaussian(Noise):
    """Additive Gaussian noise, x~ = x + n with n ~ N(mean, variance), in units of the pixel range [0,1]."""

    mean: Finite
    variance: NonNegative
    clip: bool

    schedulable = ("mean", "variance")

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """images[B,...] float -> corrupted images of the same shape; clipped to [0,1] if ``clip``."""
        noise = images.new_empty(images.shape).normal_(self.mean, math.sqrt(self.variance), generator=generator)
        noisy = noise.add_(images)
        return noisy.clamp_(0, 1) if self.clip else noisy

    def moments(self, positions: int) -> Moments:
        """See Moments. With clipping these are the moments of a censored normal variable."""
        if not self.clip:
            return Moments(
                mean=lambda x: x + self.mean,
                pixel=lambda x, y, same: (x + self.mean) * (y + self.mean) + (self.variance if same else 0.0),
            )

        def product(x: Tensor, y: Tensor, same: bool) -> Tensor:
            return self._clipped(x)[1] if same else self._clipped(x)[0] * self._clipped(y)[0]

        return Moments(mean=lambda x: self._clipped(x)[0], pixel=product)

    def _clipped(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return E[z] and E[z^2] of z = clip(x + n, 0, 1), from the normal density at the two clipping points."""
        center, deviation = x + self.mean, math.sqrt(self.variance)
        if deviation == 0:
            clamped = center.clamp(0, 1)
            return clamped, clamped.square()
        low, high = -center / deviation, (1 - center) / deviation
        density_low, density_high = _normal_density(low), _normal_density(high)
        below, above = _normal_cdf(low), 1 - _normal_cdf(high)
        inside = 1 - below - above
        first = center * inside + deviation * (density_low - density_high) + above
        second = (
            (center.square() + self.variance) * inside
            + deviation * (center * density_low - (center + 1) * density_high)
            + above
        )
        return first, second


@dataclass(frozen=True)
class Masking(Noise):
    """Set exactly round(rate * pixels) pixels of each image, drawn without replacement, to ``value``.

    The masking noise of Vincent et al. 2008, "Extracting and Composing Robust Features with Denoising Autoencoders",
    where the number of masked components is also fixed.
    """

    rate: Probability
    value: Finite

    schedulable = ("rate",)

    def masked_count(self, positions: int) -> int:
        """Return how many of ``positions`` pixels are masked."""
        return round(self.rate * positions)

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """images[B,...] float -> a corrupted copy."""
        planes = images.flatten(1) if images.dim() < 4 else images.flatten(2)
        count = self.masked_count(planes.shape[-1])
        if count == 0:
            return images
        rank = planes.new_empty(planes.shape[0], planes.shape[-1]).uniform_(generator=generator)
        chosen = rank.topk(count, dim=1, sorted=False).indices
        if planes.dim() == 3:
            chosen = chosen.unsqueeze(1).expand(-1, planes.shape[1], -1)
        return planes.scatter(-1, chosen, self.value).view(images.shape)

    def moments(self, positions: int) -> Moments:
        """See Moments. Two pixels are both kept with the hypergeometric pair probability."""
        kept = positions - self.masked_count(positions)
        keep = kept / positions
        together = kept * (kept - 1) / (positions * (positions - 1)) if positions > 1 else keep * keep
        return Moments(
            mean=lambda x: self.value + keep * (x - self.value),
            pixel=lambda x, y, same: keep * x * y + (1 - keep) * self.value**2,
            pair=together / keep**2 if keep else 0.0,
            shift=self.value,
        )


@dataclass(frozen=True)
class SaltPepper(Noise):
    """Replace each pixel, with probability ``rate``, by black (0) or white (1), with equal probability."""

    rate: Probability

    schedulable = ("rate",)

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """images[B,...] float -> a corrupted copy."""
        planes = images if images.dim() < 4 else images[:, :1]
        draw = planes.new_empty(planes.shape).uniform_(generator=generator)
        noisy = images.masked_fill(draw < self.rate / 2, 0.0)
        return noisy.masked_fill(draw >= 1 - self.rate / 2, 1.0)

    def moments(self, positions: int) -> Moments:
        """See Moments. Pixels are replaced independently of each other."""
        keep = 1 - self.rate
        return Moments(
            mean=lambda x: keep * x + self.rate / 2,
            pixel=lambda x, y, same: keep * x * y + self.rate / 2,
        )


def _normal_cdf(x: Tensor) -> Tensor:
    return 0.5 * (1 + (x / math.sqrt(2)).erf())


def _normal_density(x: Tensor) -> Tensor:
    return (-0.5 * x.square()).exp() / math.sqrt(2 * math.pi)


if TYPE_CHECKING:
    from collections.abc import Callable

    _Elementwise = Callable[[Tensor], Tensor]
    _Product = Callable[[Tensor, Tensor, bool], Tensor]
