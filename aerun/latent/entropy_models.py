"""The modules of the learned entropy models: torch is imported here, and not while a configuration is parsed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from aerun.base.activation import at_least_float32
from aerun.contracts import Diagnostic, Latent, Penalty, Shape, Terms
from aerun.latent.densities import Density, laplace_log_likelihood
from aerun.latent.quantizer import full_precision, straight_through

SPREAD, COARSE_SPREAD = 10.0, 1.0  # of that distribution at first, for a code and for z
SMALLEST_SCALE, LARGEST_SCALE = 0.04, 256.0  # of a Laplace distribution whose variable is rounded
COARSE_GAIN = 4.0  # without it all of z is at first rounded to 0
SMALLEST_SPREAD = 1e-4  # of a channel
EXACT = (torch.float32, torch.float64, torch.long)  # kinds of its numbers
LARGEST_CHANGE = 12.0  # of the logarithm of a spread


class EntropyModel(nn.Module, Latent):
    """What both share: qualities, their factors, and the terms."""

    rowwise = True
    constrains_code = True
    shares: Tensor
    weights: Tensor
    density: Density

    def __init__(self, code_shape: Shape, weights: Sequence[float], quality: int) -> None:
        super().__init__()
        self.code_shape, self.qualities, self.quality = code_shape, len(weights), quality
        weight = torch.tensor([float(value) for value in weights])
        share = weight.rsqrt() / weight.rsqrt().sum()
        self.register_buffer("weights", weight, persistent=False)
        self.register_buffer("shares", share.cumsum(0), persistent=False)
        # For an orthonormal code and squared errors, fine steps s cost s^2 / 12 - weight log s: this is the best one.
        first = -0.5 * (6 * weight).log().unsqueeze(1).repeat(1, code_shape[0])
        self.log_gain, self.log_inverse = nn.Parameter(first), nn.Parameter(-first)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Move as torch does, but stay in at least float32: bits of half precision are none."""

        def moved(tensor: Tensor) -> Tensor:
            found = fn(tensor)
            return found if found.dtype in EXACT else tensor.to(found.device)

        return super()._apply(moved, recurse)

    def draw(self, shape: Shape, generator: Generator) -> Tensor:
        """Uniform numbers in [0,1), [B,1+N]: one to draw the quality, and one for each value that gets noise."""
        numbers = (shape[0], 1 + self.noisy_values(shape[1:]))
        return torch.rand(numbers, generator=generator, device=generator.device)

    def noisy_values(self, code_shape: Shape) -> int:
        """How many values of an image get noise in the place of rounding."""
        return math.prod(code_shape)

    def forward(self, features: Tensor, draw: Tensor | None) -> tuple[Tensor, Terms]:
        """features[B,C,...] -> the rounded code, and its rate; with a draw, which has noise and qualities."""
        with full_precision(features):
            values, quality = at_least_float32(features), self._qualities(features, draw)
            noise = None if draw is None else draw[:, 1:].to(values.dtype) - 0.5
            rounded, nats = self.estimate(self.scaled(values, quality), quality, noise)
            code = self.unscaled(rounded, quality)
            rate = (self.weights[quality].to(nats.dtype) * nats).mean()
        bits = Diagnostic("bits", nats.mean() / math.log(2))
        return code, [Penalty("rate", rate, 1.0, per_image=True), bits]

    def _qualities(self, features: Tensor, draw: Tensor | None) -> Tensor:
        """The quality of each image, from 0."""
        if draw is None:
            return torch.full((features.shape[0],), self.quality - 1, device=features.device)
        return torch.searchsorted(self.shares, draw[:, 0].contiguous()).clamp_max(self.qualities - 1)

    def scaled(self, values: Tensor, quality: Tensor) -> Tensor:
        """values[B,C,...] in the units in which they are rounded."""
        return values * self._factor(self.log_gain, quality, values)

    def unscaled(self, rounded: Tensor, quality: Tensor) -> Tensor:
        """rounded[B,C,...] -> code."""
        return rounded * self._factor(self.log_inverse, quality, rounded)

    def _factor(self, logarithm: Tensor, quality: Tensor, values: Tensor) -> Tensor:
        factors = logarithm[quality].to(values.dtype).exp()
        return factors.view(*factors.shape, *[1] * (values.dim() - 2))

    def estimate(self, values: Tensor, quality: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        """Scaled values[B,C,...] -> the rounded ones, whose gradient passes straight through, and the nats [B]."""
        raise NotImplementedError


class FactorizedModel(EntropyModel):
    """See ``aerun.latent.Factorized``."""

    def __init__(self, code_shape: Shape, weights: Sequence[float], quality: int) -> None:
        super().__init__(code_shape, weights, quality)
        self.density = Density(self.qualities, code_shape[0], SPREAD)

    def estimate(self, values: Tensor, quality: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        rounded = straight_through(values.round(), values)
        noisy = rounded if noise is None else values + noise.view_as(values)
        return rounded, -self.density.log_likelihood(noisy.reshape(*noisy.shape[:2], -1), quality).flatten(1).sum(1)


class HyperpriorModel(EntropyModel):
    """See ``aerun.latent.Hyperprior``."""

    rowwise = False  # it begins with numbers of the whole minibatch
    begun: Tensor
    unit: Tensor

    def __init__(self, code_shape: Shape, weights: Sequence[float], quality: int, channels: int, context: int) -> None:
        super().__init__(code_shape, weights, quality)
        maps, self.channels, self.first = code_shape[0], channels, min(context, code_shape[0])
        self.density = Density(1, channels, COARSE_SPREAD)
        self.analysis = nn.Sequential(
            nn.Conv2d(maps, channels, 3, 1, 1),
            *(nn.LeakyReLU(), nn.Conv2d(channels, channels, 3, 2, 1)),
            *(nn.LeakyReLU(), nn.Conv2d(channels, channels, 3, 2, 1)),
        )
        self.synthesis = nn.Sequential(
            *(nn.Conv2d(channels, 4 * channels, 3, 1, 1), nn.PixelShuffle(2), nn.LeakyReLU()),
            *(nn.Conv2d(channels, 4 * channels, 1), nn.PixelShuffle(2), nn.LeakyReLU()),
        )
        self.describing = nn.ModuleList([nn.Conv2d(channels, 2 * self.first, 3, 1, 1)])
        for count in (self.first if len(code_shape) == 3 else 0, maps - self.first):
            if count:  # a vector has one white field alone
                self.describing.append(
                    nn.Sequential(
                        *(nn.Conv2d(channels + self.first, channels, 3, 1, 1), nn.LeakyReLU()),
                        *(nn.Conv2d(channels, channels, 3, 1, 1), nn.LeakyReLU()),
                        nn.Conv2d(channels, 2 * count, 1),
                    )
                )
        with torch.no_grad():
            for network in self.describing:
                *_, last = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
                assert last.bias is not None
                last.weight.zero_()
                last.bias.zero_()
        self.center, self.log_spread = (nn.Parameter(torch.zeros(maps, 1, 1)) for _ in range(2))
        self.register_buffer("begun", torch.zeros(()))
        self.register_buffer("unit", self.log_gain.detach().mean().exp(), persistent=False)

    def noisy_values(self, code_shape: Shape) -> int:
        height, width = (*code_shape, 1, 1)[1:3]
        return self.channels * math.ceil(height / 4) * math.ceil(width / 4)

    def estimate(self, values: Tensor, quality: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        if values.dim() == 2:  # a vector is a map of one pixel
            rounded, nats = self.estimate(values[:, :, None, None], quality, noise)
            return rounded[:, :, 0, 0], nats
        if self.training:
            self._begin(values.detach(), quality)
        coarse = self.describe(values, quality)
        coarse = coarse.round() if noise is None else coarse + noise.view_as(coarse)
        nats = -self.coarse_log_likelihood(coarse).flatten(1).sum(1)
        features, known = self.features(coarse, values.shape[2:]), torch.zeros_like(values)
        for number, (channels, where) in enumerate(self.passes(values.shape[2:])):
            mean, scale = self.distribution(number, features, known, quality)
            offset, where = values[:, channels] - mean, where.to(values.device)
            rounded = straight_through(offset.round(), offset)
            nats = nats - (laplace_log_likelihood(rounded, scale) * where).flatten(1).sum(1)
            added = (0, 0, 0, 0, channels.start, known.shape[1] - channels.stop)
            known = known + F.pad((rounded + mean) * where, added)
        return known, nats

    def passes(self, size: Sequence[int]) -> list[tuple[slice, Tensor]]:
        """What is coded together, in order: its channels, and where of the height and width ``size``, [H,W]. The first
        channels in every other place, like the white fields of a chessboard; then in between; then the others."""
        rows, columns = torch.arange(size[0]), torch.arange(size[1])
        white, first = (rows[:, None] + columns) % 2 == 0, slice(0, self.first)
        found = [(first, white)]
        if len(self.code_shape) == 3:
            found.append((first, ~white))
        if self.first < self.code_shape[0]:
            found.append((slice(self.first, self.code_shape[0]), torch.ones_like(white)))
        return found

    @torch.no_grad()
    def _begin(self, values: Tensor, quality: Tensor) -> None:
        """In the first step, let the networks describe each channel by its mean and mean deviation in the minibatch."""
        plain = values / self._factor(self.log_gain, quality, values)
        center = plain.mean((0, 2, 3)).view_as(self.center)
        spread = (plain - center).abs().mean((0, 2, 3)).clamp_min(SMALLEST_SPREAD).view_as(center)
        is_new = self.begun.eq(0)
        self.center.copy_(center.where(is_new, self.center))
        self.log_spread.copy_(spread.log().where(is_new, self.log_spread))
        self.begun.fill_(1)

    def describe(self, values: Tensor, quality: Tensor) -> Tensor:
        """Scaled values[B,C,H,W] -> z[B,channels,h,w], not rounded."""
        coarse: Tensor = COARSE_GAIN * self.analysis(self._visible(values, quality))
        return coarse

    def _visible(self, values: Tensor, quality: Tensor) -> Tensor:
        """Scaled values as networks see them: of one size in every quality, and none a hundred times the others."""
        return (values * (self.unit / self._factor(self.log_gain, quality, values))).asinh()

    def coarse_log_likelihood(self, coarse: Tensor) -> Tensor:
        """z[B,channels,...] -> log P of each value, [B,channels,N]; one distribution serves all qualities."""
        same = torch.zeros(coarse.shape[0], dtype=torch.long, device=coarse.device)
        return self.density.log_likelihood(coarse.flatten(2), same)

    def features(self, coarse: Tensor, size: Sequence[int]) -> Tensor:
        """z[B,channels,h,w] -> what it says of a code of height and width ``size``, [B,channels,H,W]."""
        features: Tensor = self.synthesis(coarse)[:, :, : size[0], : size[1]]
        return features

    def distribution(self, number: int, features: Tensor, known: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        """Means and scales of the channels of pass ``number``, given the values [B,C,H,W] known from those before it,
        elsewhere 0. The networks describe what is not scaled, so that all qualities learn together."""
        inputs = features
        if number:
            inputs = torch.cat([features, self._visible(known, quality)[:, : self.first]], 1)
        mean, scale = self.describing[number](inputs).chunk(2, 1)
        channels, _ = self.passes((1, 1))[number]
        gain = self._factor(self.log_gain, quality, known)[:, channels]
        spread = self.log_spread[channels].exp()
        scale = gain * spread * scale.clamp(-LARGEST_CHANGE, LARGEST_CHANGE).exp()
        return gain * (self.center[channels] + spread * mean), SMALLEST_SCALE + scale.clamp_max(LARGEST_SCALE)
