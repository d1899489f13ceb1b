"""Strided convolutions with residual blocks, as deep as the image size requires, with a vector code."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal

from aerun.contracts import Range, Size
from aerun.model.spec import Codec, ModelSpec, Shape, check_image_shape

if TYPE_CHECKING:
    from torch import nn

MIN_SIDE = 4  # pixels, of the last feature map unless ``levels`` is set
MAX_GROUPS = 8


@dataclass(frozen=True, kw_only=True)
class Levels(ModelSpec):
    """The keys and layers that ``DeepConvolutional`` and ``FullyConvolutional`` share."""

    width: Size
    widest: Size
    patch: Literal[2, 4]
    blocks: Annotated[int, Range(1, 64)]
    block: Literal["residual", "plain"]
    norm: Literal["group", "none"]

    def initialize(self, layers: list[nn.Module]) -> None:
        """Initialize weights by ``init``."""
        from aerun.model.modules import init_weights

        init_weights([layer for top in layers for layer in top.modules()], self.init, self.init_std)

    def widths(self, levels: int) -> list[int]:
        """The channels of each level, from the image on."""
        return [min(self.width * 2**level, self.widest) for level in range(levels)]

    def down_layer(self, inputs: int, outputs: int, stride: int) -> nn.Module:
        """A level of the encoder."""
        from torch import nn

        from aerun.model.modules import activate

        convolution = nn.Conv2d(inputs, outputs, stride + 1, stride, stride // 2)
        return nn.Sequential(convolution, *self.block_layers(outputs), activate(self.activation))

    def block_layers(self, channels: int) -> list[nn.Module]:
        """The blocks of a level."""
        from torch import nn

        from aerun.model.modules import Residual, activate

        def convolution() -> list[nn.Module]:
            layers: list[nn.Module] = [activate(self.activation), nn.Conv2d(channels, channels, 3, 1, 1)]
            return layers if self.norm == "none" else [nn.GroupNorm(_groups(channels), channels), *layers]

        bodies = [nn.Sequential(*convolution(), *convolution()) for _ in range(self.blocks)]
        return [Residual(body) if self.block == "residual" else body for body in bodies]


@dataclass(frozen=True, kw_only=True)
class DeepConvolutional(Levels):
    """Levels that halve height and width down to a side of 4 to 7, a linear layer to the code, and the mirror image.

    - A level of the encoder is a 3x3 convolution of stride 2 to ``width`` channels (doubled at every level, at most
      ``widest``), followed by ``blocks`` blocks of two 3x3 convolutions. A level of the decoder starts with the
      blocks, followed by a 1x1 convolution and nearest-neighbor upsampling.
    - ``patch``: stride of the first level, with a kernel one larger. The decoder's last level is one convolution to
      patch x patch pixels per channel, rearranged by PixelShuffle (Shi et al. 2016, arXiv:1609.05158).
    - ``block``: ``residual`` adds the input of the block, with normalization and activation before each convolution
      (He et al. 2016, arXiv:1603.05027); ``plain`` does not.
    - ``norm``: ``group`` is GroupNorm, which uses no minibatch statistics, or ``none``.
    - ``levels``: null halves as long as a side of at least 4 remains. Odd sides are rounded up when halved; the decoder
      restores them.
    """

    levels: Annotated[int, Range(1, 16)] | None
    code_size: Size

    def __post_init__(self) -> None:
        if self.tied:
            raise ValueError("tied=true: model=conv_deep has no mirror layers to tie; use model=fc, fc_deep or conv")

    def build(self, input_shape: Shape, output_shape: Shape, parameters_per_code: int) -> Codec:
        """Both shapes are [C,H,W]. ValueError for vectors and for images that are too small."""
        from torch import nn

        check_image_shape(input_shape, output_shape)
        sizes, widths = self._sizes_and_widths(input_shape)
        encoder: list[nn.Module] = [self.down_layer(input_shape[0], widths[0], int(self.patch))]
        encoder += [self.down_layer(inputs, outputs, 2) for inputs, outputs in pairwise(widths)]
        up = self._up_layers(output_shape)
        flat = widths[-1] * math.prod(sizes[-1])
        encoder += [nn.Flatten(), nn.Linear(flat, self.code_size * parameters_per_code)]
        decoder = self.decoder_layers(self.code_size, output_shape, up)
        self.initialize([*encoder, *decoder])
        levels = len(widths)
        pairs = tuple((level, levels + 2 - level) for level in range(1, levels + 1))
        return Codec(nn.Sequential(*encoder), nn.Sequential(*decoder), (self.code_size,), pairs)

    def decoder_layers(self, code_size: int, output_shape: Shape, up: list[nn.Module] | None = None) -> list[nn.Module]:
        """Layers from a code to images; ``up``: the levels, if they exist."""
        from torch import nn

        sizes, widths = self._sizes_and_widths(output_shape)
        map_shape = (widths[-1], *sizes[-1])
        up = self._up_layers(output_shape) if up is None else up
        start = [nn.Linear(code_size, math.prod(map_shape)), nn.Unflatten(1, map_shape)]
        return [*start, *up, self._last(widths[0], output_shape)]

    def _up_layers(self, output_shape: Shape) -> list[nn.Module]:
        sizes, widths = self._sizes_and_widths(output_shape)
        steps = zip(widths[:0:-1], widths[-2::-1], sizes[-2:0:-1], strict=True)
        return [self._up(inputs, outputs, size) for inputs, outputs, size in steps]

    def _sizes_and_widths(self, shape: Shape) -> tuple[list[tuple[int, int]], list[int]]:
        """Height and width of the image and after each level, and the channels of each level."""
        sizes = self._sizes(shape)
        return sizes, self.widths(len(sizes) - 1)

    def _sizes(self, shape: Shape) -> list[tuple[int, int]]:
        """Return height and width of the image and after each level."""
        sizes = [(shape[1], shape[2])]
        smallest, stride = MIN_SIDE if self.levels is None else 1, int(self.patch)
        while min(sizes[-1]) >= stride * smallest and len(sizes) - 1 != self.levels:
            sizes.append((-(-sizes[-1][0] // stride), -(-sizes[-1][1] // stride)))
            stride = 2
        if len(sizes) - 1 < (self.levels or 1):
            asked, left = ("null", MIN_SIDE) if self.levels is None else (self.levels, 1)
            raise ValueError(
                f"model.levels={asked}: images of {shape[1]}x{shape[2]} are too small; the first level divides the "
                f"sides by model.patch={self.patch}, the others by 2, and each must leave {left}x{left}"
            )
        return sizes

    def _up(self, inputs: int, outputs: int, size: tuple[int, int]) -> nn.Module:
        from torch import nn

        from aerun.model.modules import activate

        return nn.Sequential(
            *self.block_layers(inputs),
            activate(self.activation),
            nn.Conv2d(inputs, outputs, 1),  # before upsampling, where it costs a quarter
            nn.Upsample(size),
        )

    def _last(self, inputs: int, shape: Shape) -> nn.Module:
        from torch import nn

        from aerun.model.modules import Cropped, activate

        convolution = nn.Conv2d(inputs, self.patch**2 * shape[0], 3, 1, 1)
        shuffled = [convolution, nn.PixelShuffle(self.patch), Cropped(shape[1], shape[2])]
        return nn.Sequential(*self.block_layers(inputs), activate(self.activation), *shuffled)


def _groups(channels: int) -> int:
    """Return the largest number of groups, at most MAX_GROUPS, that divides the channels into groups of at least 4."""
    return max(n for n in range(1, MAX_GROUPS + 1) if n == 1 or (channels % n == 0 and channels // n >= 4))
