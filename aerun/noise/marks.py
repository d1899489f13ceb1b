"""What years leave on paper: dust, scratches and smudges, painted over an image at random places.

All lengths are shares of the image's shorter side, so that settings hold for other sizes; nothing is painted thinner
than a pixel. Every image gets from none to ``most`` marks, each number as often as any other. A pair in brackets is an
interval of which every mark draws a value of its own, uniformly. A mark covers all channels alike: it is grey.

The loops below run over marks, never over images: the work and memory of each is that of one batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, NamedTuple

from aerun.config.schema import Positive, Probability, Range

if TYPE_CHECKING:
    from torch import Generator, Tensor

Most = Annotated[int, Range(1, 1000)]
Bend = Annotated[float, Range(0, 0.5)]


@dataclass(frozen=True)
class Dust:
    """Small ellipses, black or (a share ``light`` of them) white, that hide a share ``opacity`` of what is there."""

    most: Most
    radius: list[Positive]
    opacity: list[Probability]
    light: Probability

    is_identity = False

    def __post_init__(self) -> None:
        _check_intervals(radius=self.radius, opacity=self.opacity)

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """ValueError unless ``shape`` is an image's."""
        _check_image(shape)

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """images[B,C,H,W] float -> a corrupted copy."""
        field = _Field.of(images)
        noisy = images.clone()
        for there, mark in _marks(images, self.most, 7, generator):
            x, y, turn, flat, size, opacity, tone = mark
            along, across = field.around(x, y, turn * math.pi)
            radius = (_between(size, self.radius) * field.side).clamp_min(0.5)
            # An ellipse: squeezed to between one half and all of its width, but to no less than a pixel.
            squeezed = (radius * (0.5 + flat / 2)).clamp_min(0.5)
            distance = (along.square() + (across * (radius / squeezed)).square()).sqrt()
            cover = (radius + 0.5 - distance).clamp(0, 1) * (_between(opacity, self.opacity) * there)
            _paint(noisy, cover, tone < self.light)
        return noisy


@dataclass(frozen=True)
class Scratches:
    """Thin lines at any angle, straight or bent, black or (a share ``light`` of them) white.

    ``bend``: how far the ends of a line are off the straight through its middle, as a share of its length.
    """

    most: Most
    length: list[Positive]
    width: list[Positive]
    bend: list[Bend]
    opacity: list[Probability]
    light: Probability

    is_identity = False

    def __post_init__(self) -> None:
        _check_intervals(length=self.length, width=self.width, bend=self.bend, opacity=self.opacity)

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """ValueError unless ``shape`` is an image's."""
        _check_image(shape)

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """images[B,C,H,W] float -> a corrupted copy."""
        field = _Field.of(images)
        noisy = images.clone()
        for there, mark in _marks(images, self.most, 8, generator):
            x, y, turn, length, width, bend, opacity, tone = mark
            # A whole turn: a bent line opens to either side.
            along, across = field.around(x, y, turn * 2 * math.pi)
            half = _between(length, self.length) * field.side / 2
            off = 2 * half * _between(bend, self.bend)
            place = along / half
            # The distance from a parabola, to first order: its vertical one, times the cosine of its slope.
            distance = (across - off * place.square()).abs() / (1 + (2 * off / half * place).square()).sqrt()
            thick = (_between(width, self.width) * field.side).clamp_min(1) / 2
            cover = (thick + 0.5 - distance).clamp(0, 1) * (half + 0.5 - along.abs()).clamp(0, 1)
            _paint(noisy, cover * (_between(opacity, self.opacity) * there), tone < self.light)
        return noisy


@dataclass(frozen=True)
class BlurSpots:
    """Soft smudges: within a spot, most in its middle, the image is mixed with a blurred copy of itself, and darkened.

    ``blur``: the deviation of the Gaussian that blurs; ``opacity``: how much of the blurred copy there is in the middle
    of a spot; ``darkening``: what share of the light is lost there.
    """

    most: Most
    radius: list[Positive]
    blur: Annotated[float, Range(0, 0.5, low_open=True)]
    opacity: list[Probability]
    darkening: list[Probability]

    is_identity = False

    def __post_init__(self) -> None:
        _check_intervals(radius=self.radius, opacity=self.opacity, darkening=self.darkening)

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """ValueError unless ``shape`` is an image's."""
        _check_image(shape)

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """images[B,C,H,W] float -> a corrupted copy."""
        field = _Field.of(images)
        sharp, bright = (images.new_ones(len(images), *images.shape[2:]) for _ in range(2))
        for there, mark in _marks(images, self.most, 7, generator):
            x, y, turn, flat, size, opacity, dark = mark
            along, across = field.around(x, y, turn * math.pi)
            radius = (_between(size, self.radius) * field.side).clamp_min(1)
            far = along.square() + (across / (0.5 + flat / 2)).square()
            spot = (1 - far / radius.square()).clamp_min(0).square() * there
            sharp *= 1 - spot * _between(opacity, self.opacity)
            bright *= 1 - spot * _between(dark, self.darkening)
        blurred = blur(images, self.blur * field.side)
        return blurred.lerp(images, sharp.unsqueeze(1)).mul_(bright.unsqueeze(1))


def blur(images: Tensor, deviation: float) -> Tensor:
    """images[B,C,H,W] under a Gaussian of so many pixels, cut off at three deviations; edges are repeated."""
    import torch
    from torch.nn import functional as F

    reach = max(1, math.ceil(3 * deviation))
    place = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    weights = (-0.5 * (place / deviation).square()).exp()
    weights = (weights / weights.sum()).view(1, 1, 1, -1)
    planes = images.flatten(0, 1).unsqueeze(1)
    planes = F.conv2d(F.pad(planes, (reach, reach, 0, 0), mode="replicate"), weights)
    planes = F.conv2d(F.pad(planes, (0, 0, reach, reach), mode="replicate"), weights.transpose(2, 3))
    return planes.view(images.shape)


class _Field(NamedTuple):
    """The centres of pixels: ``x`` [1,1,W], ``y`` [1,H,1]; ``side``: the shorter side; all in pixels."""

    x: Tensor
    y: Tensor
    side: int

    @classmethod
    def of(cls, images: Tensor) -> _Field:
        import torch

        height, width = images.shape[2:]
        x, y = (torch.arange(n, device=images.device, dtype=images.dtype) + 0.5 for n in (width, height))
        return cls(x.view(1, 1, -1), y.view(1, -1, 1), min(height, width))

    def around(self, x: Tensor, y: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels [B,H,W] from a point x, y (shares of width and height, [B,1,1]): along a direction and across it."""
        right, down = self.x - x * self.x.shape[2], self.y - y * self.y.shape[1]
        cosine, sine = angle.cos(), angle.sin()
        return right * cosine + down * sine, down * cosine - right * sine


def _marks(images: Tensor, most: int, numbers: int, generator: Generator) -> list[tuple[Tensor, tuple[Tensor, ...]]]:
    """For each of ``most`` marks: whether an image has it, and uniform numbers in [0,1) that say which, all [B,1,1]."""
    import torch

    draws = images.new_empty(len(images), most, numbers).uniform_(generator=generator)
    counts = (images.new_empty(len(images), 1).uniform_(generator=generator) * (most + 1)).floor()
    there = (torch.arange(most, device=images.device) < counts).to(images.dtype)
    marks = draws.view(len(images), most, numbers, 1, 1)
    return [(there[:, i].view(-1, 1, 1), marks[:, i].unbind(1)) for i in range(most)]


def _between(share: Tensor, interval: list[float]) -> Tensor:
    return interval[0] + share * (interval[1] - interval[0])


def _paint(images: Tensor, cover: Tensor, light: Tensor) -> None:
    """Mix images[B,C,H,W], in place, with black or white (light[B,1,1]) by cover[B,H,W]."""
    images.lerp_(light.to(images.dtype).unsqueeze(1), cover.unsqueeze(1))


def _check_intervals(**intervals: list[float]) -> None:
    for key, value in intervals.items():
        if len(value) != 2 or value[0] > value[1]:
            raise ValueError(f"{key}={list(value)}: must be an interval, [least, most]")


def _check_image(shape: tuple[int, ...]) -> None:
    if len(shape) != 3:
        raise ValueError(f"is painted on images [C,H,W], the data are vectors of {shape[0]} values")
