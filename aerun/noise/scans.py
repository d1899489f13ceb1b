"""Damage of scanned pages: hairs, stains, smeared graphite, folds, and what shows through from the other side.

As in ``marks``: lengths are fractions of the image's shorter side, the number of marks of an image is uniform between 0
and ``most``, and a list of two numbers is an interval from which each mark draws its value uniformly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from aerun.contracts import Positive, Probability, Range
from aerun.noise.marks import (
    ImageNoise,
    Most,
    PixelGrid,
    blur,
    check_intervals,
    draw_marks,
    interpolate,
    paint,
)

if TYPE_CHECKING:
    from torch import Generator, Tensor

Wave = Annotated[float, Range(0, 0.5)]
HARMONICS = (2, 3, 5)  # of a stain's outline
STREAKS = (3.0, 7.0, 13.0, 23.0)  # waves across smeared graphite


@dataclass(frozen=True)
class Hairs(ImageNoise):
    """Thin curved lines, black or (a share ``light`` of them) white.

    ``wave``: how far a hair swings to each side, as a fraction of its length; it swings once to three times.
    """

    most: Most
    length: list[Positive]
    width: list[Positive]
    wave: list[Wave]
    opacity: list[Probability]
    light: Probability

    def __post_init__(self) -> None:
        check_intervals(length=self.length, width=self.width, wave=self.wave, opacity=self.opacity)

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """images[B,C,H,W] float -> a corrupted copy."""
        grid, noisy = PixelGrid.of(images), images.clone()
        for present, mark in draw_marks(images, self.most, 10, generator):
            x, y, turn, length, width, wave, often, start, opacity, tone = mark
            along, across = grid.relative_to(x, y, turn * 2 * math.pi)
            half = interpolate(length, self.length) * grid.side / 2
            swing, rate = 2 * half * interpolate(wave, self.wave), math.pi * (1 + 2 * often) / half
            phase = along * rate + start * 2 * math.pi
            # The distance from the curve to first order: the vertical one times the cosine of the slope.
            distance = (across - swing * phase.sin()).abs() / (1 + (swing * rate * phase.cos()).square()).sqrt()
            thickness = (interpolate(width, self.width) * grid.side).clamp_min(1) / 2
            cover = (thickness + 0.5 - distance).clamp(0, 1) * (half + 0.5 - along.abs()).clamp(0, 1)
            paint(noisy, cover * (interpolate(opacity, self.opacity) * present), tone < self.light)
        return noisy


@dataclass(frozen=True)
class Stains(ImageNoise):
    """Patches of dried liquid, brown, with an uneven outline and a darker ``rim``.

    ``inside`` and ``rim``: share of the blue light that is lost there; of green and red it is less.
    """

    most: Most
    radius: list[Positive]
    inside: list[Probability]
    rim: list[Probability]

    def __post_init__(self) -> None:
        check_intervals(radius=self.radius, inside=self.inside, rim=self.rim)

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """images[B,C,H,W] float -> a corrupted copy."""
        import torch

        grid, noisy = PixelGrid.of(images), images.clone()
        for present, mark in draw_marks(images, self.most, 8 + 2 * len(HARMONICS), generator):
            x, y, turn, size, inside, rim, green, red, *outline = mark
            right, down = grid.relative_to(x, y, turn * 2 * math.pi)
            radius = (interpolate(size, self.radius) * grid.side).clamp_min(2)
            angle = torch.atan2(down, right)
            edge = radius * (
                1
                + sum(
                    0.5 / k * height * (k * angle + 2 * math.pi * shift).cos()
                    for k, height, shift in zip(HARMONICS, outline[::2], outline[1::2], strict=True)
                )
            )
            depth = (edge - (right.square() + down.square()).sqrt()) / radius  # 0 on the outline
            cover = (depth * 20).clamp(0, 1) * interpolate(inside, self.inside)
            cover = torch.maximum(cover, (-(depth * 15).square()).exp() * interpolate(rim, self.rim)) * present
            color = torch.stack([red * 0.8, 0.3 + green * 0.6, torch.ones_like(red)], 1)
            lost = color if images.shape[1] == 3 else color.mean(1, keepdim=True)
            noisy *= 1 - cover.unsqueeze(1) * lost
        return noisy


@dataclass(frozen=True)
class Graphite(ImageNoise):
    """Pencil that a hand has smeared: streaks in one direction within a soft ellipse that darken the image.

    ``darkening``: share of the brightness lost in the darkest streaks.
    """

    most: Most
    radius: list[Positive]
    darkening: list[Probability]

    def __post_init__(self) -> None:
        check_intervals(radius=self.radius, darkening=self.darkening)

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """images[B,C,H,W] float -> a corrupted copy."""
        grid, noisy = PixelGrid.of(images), images.clone()
        for present, mark in draw_marks(images, self.most, 6 + len(STREAKS), generator):
            x, y, turn, flat, size, dark, *phases = mark
            along, across = grid.relative_to(x, y, turn * math.pi)
            radius = (interpolate(size, self.radius) * grid.side).clamp_min(2)
            squared = along.square() + (across / (0.3 + flat / 2)).square()
            spot = (1 - squared / radius.square()).clamp_min(0) * present
            waves = [
                (across / radius * often + 2 * math.pi * phase).sin()
                for often, phase in zip(STREAKS, phases, strict=True)
            ]
            streaks = 0.5 + sum(waves) / (2 * len(waves))
            noisy *= (1 - spot * streaks * interpolate(dark, self.darkening)).unsqueeze(1)
        return noisy


@dataclass(frozen=True)
class Folds(ImageNoise):
    """Straight lines across the whole image, bright at one side and dark at the other, as light falls on a fold."""

    most: Most
    width: list[Positive]
    strength: list[Probability]

    def __post_init__(self) -> None:
        check_intervals(width=self.width, strength=self.strength)

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """images[B,C,H,W] float -> a corrupted copy."""
        grid, noisy = PixelGrid.of(images), images.clone()
        for present, (x, y, turn, width, strength) in draw_marks(images, self.most, 5, generator):
            _, across = grid.relative_to(x, y, turn * 2 * math.pi)
            offset = across / (interpolate(width, self.width) * grid.side).clamp_min(1)
            light = offset * (0.5 - offset.square() / 2).exp()  # between -1 and 1
            noisy *= (1 + light * (interpolate(strength, self.strength) * present)).unsqueeze(1)
        return noisy.clamp_(0, 1)


@dataclass(frozen=True)
class BleedThrough(ImageNoise):
    """What is on the back of the page shows through: in a share ``probability`` of the images, themselves, turned by
    180 degrees and blurred. Where nothing is behind the paper, it stays as it is.

    ``opacity``: share of that image's darkness which comes through; ``blur``: a standard deviation.
    """

    probability: Probability
    opacity: list[Probability]
    blur: Annotated[float, Range(0, 0.5, low_open=True)]

    def __post_init__(self) -> None:
        check_intervals(opacity=self.opacity)

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """images[B,C,H,W] float -> a corrupted copy."""
        drawn = images.new_empty(len(images), 2, 1, 1, 1).uniform_(generator=generator)
        opacity = interpolate(drawn[:, 1], self.opacity) * (drawn[:, 0] < self.probability)
        behind = 1 - blur(images.flip(2, 3), self.blur * min(images.shape[2:]))
        return images * (1 - opacity * behind)
