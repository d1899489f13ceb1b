"""Convolutions alone, from pictures of any size to maps of features and back: the networks of a picture codec."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated

from aerun.contracts import Range, Size
from aerun.model.conv_deep import Levels
from aerun.model.spec import Codec, Shape, check_image_shape

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class FullyConvolutional(Levels):
    """``levels`` that divide height and width by ``patch``, then by 2 each, to ``code_channels`` maps, and back.

    Levels and blocks are those of ``DeepConvolutional``, without its linear layers. A level of the decoder is a 1x1
    convolution to four values of each channel, rearranged by PixelShuffle (Shi et al. 2016, arXiv:1609.05158), before
    its blocks. Each value of the code sees only the part of an image around it, so that the networks take pictures of
    other sizes, and tiles of them.

    Around both networks is a fixed linear path: blocks of stride x stride pixels to the coefficients of lowest
    frequency of their cosine transform (as in JPEG: Wallace 1991), and back. At first it is all, because the last layer
    of both networks begins at zero: they learn what the transform lacks.
    """

    levels: Annotated[int, Range(1, 8)]
    code_channels: Size

    def __post_init__(self) -> None:
        if self.tied:
            raise ValueError("tied=true: model=fully_conv has no mirror layers to tie; use model=fc, fc_deep or conv")
        if self.condition != "none":
            raise ValueError("condition=label: model=fully_conv has no layer that takes a label; use model=fc or conv")
        if self.norm == "group":
            raise ValueError("norm=group: takes its statistics from the whole image, and tiles would have their own")

    @property
    def stride(self) -> int:
        """The pixels of a side for each value of a map."""
        return int(self.patch * 2 ** (self.levels - 1))

    def build(self, input_shape: Shape, output_shape: Shape, parameters_per_code: int) -> Codec:
        """Both shapes are [C,H,W]. ValueError for vectors."""
        from torch import nn

        from aerun.model.cosine_path import FromBlocks, ToBlocks

        check_image_shape(input_shape, output_shape)
        height, width = input_shape[1:]
        widths = self.widths(self.levels)
        encoder: list[nn.Module] = [self.down_layer(input_shape[0], widths[0], int(self.patch))]
        encoder += [self.down_layer(inputs, outputs, 2) for inputs, outputs in pairwise(widths)]
        encoder += [nn.Conv2d(widths[-1], self.code_channels * parameters_per_code, 3, 1, 1)]
        decoder: list[nn.Module] = [nn.Conv2d(self.code_channels, widths[-1], 3, 1, 1), *self.block_layers(widths[-1])]
        decoder += [self._up_layer(inputs, outputs) for inputs, outputs in pairwise(widths[::-1])]
        decoder += self._last_layers(widths[0], output_shape[0])
        self.initialize([*encoder, *decoder])
        maps, side = self.code_channels, self.stride
        size = (height, width) if height % side or width % side else None
        return Codec(
            FromBlocks(nn.Sequential(*encoder), input_shape[0], maps, side, parameters_per_code),
            ToBlocks(nn.Sequential(*decoder), output_shape[0], maps, side, size),
            (maps, -(-height // side), -(-width // side)),
        )

    def _up_layer(self, inputs: int, outputs: int) -> nn.Module:
        from torch import nn

        from aerun.model.modules import activate

        enlarge = [activate(self.activation), nn.Conv2d(inputs, 4 * outputs, 1), nn.PixelShuffle(2)]
        return nn.Sequential(*enlarge, *self.block_layers(outputs))

    def _last_layers(self, inputs: int, channels: int) -> list[nn.Module]:
        from torch import nn

        from aerun.model.modules import activate

        convolution = nn.Conv2d(inputs, self.patch**2 * channels, 3, 1, 1)
        return [activate(self.activation), convolution, nn.PixelShuffle(self.patch)]
