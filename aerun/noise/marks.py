"""Damage of old paper: dust, scratches and smudges, painted over images at random places.

All lengths are fractions of the image's shorter side, so settings carry over to other sizes; nothing is painted thinner
than one pixel. The number of marks of an image is uniform between 0 and ``most``. A list of two numbers is an interval,
from which each mark draws its value uniformly. Marks are gray: they are the same in all channels.

The loops below run over marks, not over images: each iteration handles the whole batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, NamedTuple

from aerun.contracts import Noise, Positive, Probability, Range

if TYPE_CHECKING:
    from torch import Generator, Tensor

Most = Annotated[int, Range(1, 1000)]
Bend = Annotated[float, Range(0, 0.5)]


class ImageNoise(Noise):
    """A corruption of parts of images."""

    @property
    def is_local(self) -> bool:
        """True."""
        return True

    def check_shape(self, shape: Sequence[int]) -> None:
        """Raise ValueError unless ``shape`` is that of an image."""
        if len(shape) != 3:
            raise ValueError(f"needs images [C,H,W]; the data are vectors of {shape[0]} values")


@dataclass(frozen=True)
class Dust(ImageNoise):
    """Small ellipses, black or (a share ``light`` of them) white, blended with the image by ``opacity``."""

    most: Most
    radius: list[Positive]
    opacity: list[Probability]
    light: Probability

    def __post_init__(self) -> None:
        check_intervals(radius=self.radius, opacity=self.opacity)

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """images[B,C,H,W] float -> a corrupted copy."""
        grid = PixelGrid.of(images)
        noisy = images.clone()
        for present, mark in draw_marks(images, self.most, 7, generator):
            x, y, turn, flat, size, opacity, tone = mark
            along, across = grid.relative_to(x, y, turn * math.pi)
            radius = (interpolate(size, self.radius) * grid.side).clamp_min(0.5)
            # An ellipse: its minor axis is 0.5 to 1 times the major one, and at least one pixel.
            minor = (radius * (0.5 + flat / 2)).clamp_min(0.5)
            distance = (along.square() + (across * (radius / minor)).square()).sqrt()
            cover = (radius + 0.5 - distance).clamp(0, 1) * (interpolate(opacity, self.opacity) * present)
            paint(noisy, cover, tone < self.light)
        return noisy


@dataclass(frozen=True)
class Scratches(ImageNoise):
    """Thin lines at any angle, straight or bent, black or (a share ``light`` of them) white.

    ``bend``: distance of a line's ends from the tangent at its middle, as a fraction of its length.
    """

    most: Most
    length: list[Positive]
    width: list[Positive]
    bend: list[Bend]
    opacity: list[Probability]
    light: Probability

    def __post_init__(self) -> None:
        check_intervals(length=self.length, width=self.width, bend=self.bend, opacity=self.opacity)

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """images[B,C,H,W] float -> a corrupted copy."""
        grid = PixelGrid.of(images)
        noisy = images.clone()
        for present, mark in draw_marks(images, self.most, 8, generator):
            x, y, turn, length, width, bend, opacity, tone = mark
            # A full turn, because a bent line opens to one side.
            along, across = grid.relative_to(x, y, turn * 2 * math.pi)
            half = interpolate(length, self.length) * grid.side / 2
            offset = 2 * half * interpolate(bend, self.bend)
            position = along / half
            # Distance from a parabola to first order: the vertical distance times the cosine of the slope.
            distance = (across - offset * position.square()).abs() / (
                1 + (2 * offset / half * position).square()
            ).sqrt()
            thickness = (interpolate(width, self.width) * grid.side).clamp_min(1) / 2
            cover = (thickness + 0.5 - distance).clamp(0, 1) * (half + 0.5 - along.abs()).clamp(0, 1)
            paint(noisy, cover * (interpolate(opacity, self.opacity) * present), tone < self.light)
        return noisy


@dataclass(frozen=True)
class BlurSpots(ImageNoise):
    """Soft smudges: inside a spot the image is blended with a blurred copy of itself and darkened, most at the center.

    ``blur``: standard deviation of the Gaussian blur; ``opacity``: weight of the blurred copy at the center of a spot;
    ``darkening``: share of the brightness lost at the center.
    """

    most: Most
    radius: list[Positive]
    blur: Annotated[float, Range(0, 0.5, low_open=True)]
    opacity: list[Probability]
    darkening: list[Probability]

    def __post_init__(self) -> None:
        check_intervals(radius=self.radius, opacity=self.opacity, darkening=self.darkening)

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """images[B,C,H,W] float -> a corrupted copy."""
        grid = PixelGrid.of(images)
        sharp, bright = (images.new_ones(len(images), *images.shape[2:]) for _ in range(2))
        for present, mark in draw_marks(images, self.most, 7, generator):
            x, y, turn, flat, size, opacity, dark = mark
            along, across = grid.relative_to(x, y, turn * math.pi)
            radius = (interpolate(size, self.radius) * grid.side).clamp_min(1)
            squared_distance = along.square() + (across / (0.5 + flat / 2)).square()
            spot = (1 - squared_distance / radius.square()).clamp_min(0).square() * present
            sharp *= 1 - spot * interpolate(opacity, self.opacity)
            bright *= 1 - spot * interpolate(dark, self.darkening)
        blurred = blur(images, self.blur * grid.side)
        return blurred.lerp(images, sharp.unsqueeze(1)).mul_(bright.unsqueeze(1))


def blur(images: Tensor, deviation: float) -> Tensor:
    """Blur images[B,C,H,W] by a Gaussian (``deviation`` in pixels, truncated at three of them); edges are repeated."""
    import torch
    from torch.nn import functional as F

    reach = max(1, math.ceil(3 * deviation))
    offsets = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    weights = (-0.5 * (offsets / deviation).square()).exp()
    weights = (weights / weights.sum()).view(1, 1, 1, -1)
    planes = images.flatten(0, 1).unsqueeze(1)
    planes = F.conv2d(F.pad(planes, (reach, reach, 0, 0), mode="replicate"), weights)
    planes = F.conv2d(F.pad(planes, (0, 0, reach, reach), mode="replicate"), weights.transpose(2, 3))
    return planes.view(images.shape)


class PixelGrid(NamedTuple):
    """Pixel centers ``x`` [1,1,W] and ``y`` [1,H,1], and the shorter ``side``, all in pixels."""

    x: Tensor
    y: Tensor
    side: int

    @classmethod
    def of(cls, images: Tensor) -> PixelGrid:
        """Of images [B,C,H,W]."""
        import torch

        height, width = images.shape[2:]
        x, y = (torch.arange(n, device=images.device, dtype=images.dtype) + 0.5 for n in (width, height))
        return cls(x.view(1, 1, -1), y.view(1, -1, 1), min(height, width))

    def relative_to(self, x: Tensor, y: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
        """Return pixel coordinates [B,H,W] relative to a point, along a direction and across it.

        The point x, y [B,1,1] is in fractions of width and height.
        """
        right, down = self.x - x * self.x.shape[2], self.y - y * self.y.shape[1]
        cosine, sine = angle.cos(), angle.sin()
        return right * cosine + down * sine, down * cosine - right * sine


def draw_marks(
    images: Tensor, most: int, numbers: int, generator: Generator
) -> list[tuple[Tensor, tuple[Tensor, ...]]]:
    """Return for each of ``most`` marks whether each image has it (1 or 0), and its uniform random numbers in [0,1);
    all tensors are [B,1,1]."""
    import torch

    draws = images.new_empty(len(images), most, numbers).uniform_(generator=generator)
    counts = (images.new_empty(len(images), 1).uniform_(generator=generator) * (most + 1)).floor()
    present = (torch.arange(most, device=images.device) < counts).to(images.dtype)
    marks = draws.view(len(images), most, numbers, 1, 1)
    return [(present[:, i].view(-1, 1, 1), marks[:, i].unbind(1)) for i in range(most)]


def interpolate(share: Tensor, interval: list[float]) -> Tensor:
    """Values of an interval, 0 for its smallest and 1 for its largest."""
    return interval[0] + share * (interval[1] - interval[0])


def paint(images: Tensor, cover: Tensor, light: Tensor) -> None:
    """Blend images[B,C,H,W] in place with black or white (light[B,1,1]) by cover[B,H,W]."""
    images.lerp_(light.to(images.dtype).unsqueeze(1), cover.unsqueeze(1))


def check_intervals(**intervals: list[float]) -> None:
    """ValueError for a list that is not an interval, by the name of its key."""
    for key, value in intervals.items():
        if len(value) != 2 or value[0] > value[1]:
            raise ValueError(f"{key}={list(value)}: must be an interval [smallest, largest]")
