"""What happens to a picture on its way to somebody else: other colors, a blur, a photo of a print.

Each changes a whole image. They make the second view of an image for ``regularizer=decorrelation``, and can be used as
a corruption like any other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from aerun.contracts import OpenProbability, Positive, Probability, Range
from aerun.noise.marks import ImageNoise, blur, check_intervals, interpolate

if TYPE_CHECKING:
    from torch import Generator, Tensor

Turn = Annotated[float, Range(0, 0.5)]
Tilt = Annotated[float, Range(0, 0.3)]
# Luma and the two color differences of red, green and blue (YIQ of NTSC): the hue is an angle between the latter.
TO_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))
SEPIA = (1.07, 0.89, 0.69)  # red, green and blue of a gray picture on old paper, relative to its luma


class WholeImageNoise(ImageNoise):
    """A corruption of whole images."""

    @property
    def is_local(self) -> bool:
        """False."""
        return False


@dataclass(frozen=True)
class Recolor(WholeImageNoise):
    """Other colors of RGB images, with the same luma: hues turned, more or less saturated, or (a share ``sepia`` of the
    images) brown all over.

    ``hue``: up to this share of the circle of hues, to either side; ``saturation``: factor of the color differences.
    """

    hue: Turn
    saturation: list[Annotated[float, Range(0, 10)]]
    sepia: Probability

    def __post_init__(self) -> None:
        check_intervals(saturation=self.saturation)

    def check_shape(self, shape: Sequence[int]) -> None:
        """Raise ValueError unless ``shape`` is that of an RGB image."""
        super().check_shape(shape)
        if shape[0] != 3:
            raise ValueError(f"colors need images of 3 channels; the data have {shape[0]}")

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """images[B,3,H,W] float -> recolored images, clipped to [0,1]."""
        import torch

        draws = images.new_empty(len(images), 3).uniform_(generator=generator)
        angle = (2 * draws[:, 0] - 1) * self.hue * 2 * math.pi
        strength = interpolate(draws[:, 1], self.saturation)
        forward = images.new_tensor(TO_YIQ)
        zero, one = torch.zeros_like(angle), torch.ones_like(angle)
        cosine, sine = strength * angle.cos(), strength * angle.sin()
        turn = torch.stack([one, zero, zero, zero, cosine, -sine, zero, sine, cosine], 1).view(-1, 3, 3)
        mixed = torch.linalg.inv(forward) @ turn @ forward
        brown = images.new_tensor(SEPIA)[:, None] * forward[0]
        mixed = brown.where((draws[:, 2] < self.sepia).view(-1, 1, 1), mixed)
        return (mixed @ images.flatten(2)).view(images.shape).clamp(0, 1)


@dataclass(frozen=True)
class Blur(WholeImageNoise):
    """Gaussian blur; ``deviation``: an interval of standard deviations, as shares of the shorter side."""

    deviation: list[Positive]

    def __post_init__(self) -> None:
        check_intervals(deviation=self.deviation)

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """images[B,C,H,W] float -> blurred images: between the least and the most blurred copy of each."""
        share = images.new_empty(len(images), 1, 1, 1).uniform_(generator=generator)
        side = min(images.shape[2:])
        least, most = (blur(images, deviation * side) for deviation in self.deviation)
        return least.lerp(most, share)


@dataclass(frozen=True)
class Photo(WholeImageNoise):
    """A photo of the picture on a sheet: smaller, shifted, tilted, on a ground of one gray, in uneven light.

    ``margin``: up to this share of the sides is ground; ``tilt``: up to this share one side of the picture is shorter
    than the opposite one, in both directions; ``turn``: rotation, up to this share of a full turn; ``shade``: up to
    this share of the light is lost from one edge to the other.
    """

    margin: OpenProbability
    tilt: Tilt
    turn: Turn
    shade: Probability

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """images[B,C,H,W] float -> photos of the same shape."""
        import torch
        from torch.nn.functional import grid_sample

        count, _, height, width = images.shape
        draws = images.new_empty(count, 9).uniform_(generator=generator)
        scale, right, down, across, along, turn, ground, way, dark = (value.view(-1, 1, 1) for value in draws.unbind(1))
        y, x = torch.meshgrid(
            *(torch.linspace(1 / n - 1, 1 - 1 / n, n, device=images.device) for n in (height, width)), indexing="ij"
        )
        margin = scale * self.margin
        u, v = x - margin * (2 * right - 1), y - margin * (2 * down - 1)
        angle = (2 * turn - 1) * self.turn * 2 * math.pi
        u, v = u * angle.cos() - v * angle.sin(), u * angle.sin() + v * angle.cos()
        depth = (1 - margin) * (1 + self.tilt / 2 * ((2 * across - 1) * u + (2 * along - 1) * v))
        place = torch.stack([u / depth, v / depth], -1).to(images.dtype)
        inside = (place.abs().amax(-1) <= 1).unsqueeze(1)
        photo = grid_sample(images, place, padding_mode="border", align_corners=False)
        photo = photo.where(inside, ground.unsqueeze(1).to(images.dtype))
        toward = (way * 2 * math.pi).cos() * x + (way * 2 * math.pi).sin() * y
        light = 1 - dark * self.shade * (1 + toward / math.sqrt(2)) / 2
        return photo * light.unsqueeze(1).to(images.dtype)
