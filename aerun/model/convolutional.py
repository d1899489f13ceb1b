"""Strided convolutions to the code, transposed convolutions back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aerun.contracts import Size
from aerun.model.spec import Codec, ModelSpec, Shape, check_image_shape

if TYPE_CHECKING:
    from torch import nn

    Layers = list[nn.Module]

KERNEL, STRIDE = 3, 2


@dataclass(frozen=True, kw_only=True)
class Convolutional(ModelSpec):
    """3x3 convolutions of stride 2 with ``hidden`` output channels, padding 1 (0 for the last), and the mirror image.

    Without ``code_size`` the code is the last feature map [C,H,W]; with it, a linear layer on each side makes it a
    vector. The transposed convolutions restore the encoder's sizes exactly for every image size.
    """

    hidden: list[Size]
    code_size: Size | None

    def __post_init__(self) -> None:
        if not self.hidden:
            raise ValueError("hidden=[]: must list at least one number of channels")

    def build(self, input_shape: Shape, output_shape: Shape, parameters_per_code: int) -> Codec:
        """Both shapes are [C,H,W]. ValueError for vectors, for images that are too small, and for tied weights if the
        shapes differ."""
        from torch import nn

        from aerun.model.modules import find_cuts, init_weights

        check_image_shape(input_shape, output_shape)
        if self.tied and input_shape != output_shape:
            raise ValueError(f"model.tied=true needs targets of the input's shape, here {input_shape}, {output_shape}")
        sizes = self._sizes(input_shape)
        map_shape = (self.hidden[-1], *sizes[-1])
        flat = math.prod(map_shape)
        encoder = self._encoder(input_shape[0], 1 if self.code_size else parameters_per_code)
        decoder = self._decoder(encoder, output_shape[0], sizes)
        code_shape: Shape = map_shape
        if self.code_size:
            code_shape = (self.code_size,)
            self._join(encoder, decoder, map_shape, flat, parameters_per_code)
        init_weights([*encoder, *decoder], self.init, self.init_std)
        return Codec(nn.Sequential(*encoder), nn.Sequential(*decoder), code_shape, find_cuts(encoder, decoder))

    def _sizes(self, shape: Shape) -> list[tuple[int, int]]:
        """Return height and width before each convolution and after the last."""
        sizes = [(shape[1], shape[2])]
        for padding in self._paddings():
            height, width = ((size + 2 * padding - KERNEL) // STRIDE + 1 for size in sizes[-1])
            if min(sizes[-1]) + 2 * padding < KERNEL:
                raise ValueError(
                    f"model.hidden={self.hidden}: images of {shape[1]}x{shape[2]} are too small "
                    f"for {len(self.hidden)} convolutions of stride 2"
                )
            sizes.append((height, width))
        return sizes

    def _paddings(self) -> list[int]:
        return [1] * (len(self.hidden) - 1) + [0]

    def _encoder(self, channels: int, parameters_per_code: int) -> Layers:
        from torch import nn

        from aerun.model.modules import activate

        widths = [channels, *self.hidden[:-1], self.hidden[-1] * parameters_per_code]
        layers: list[nn.Module] = []
        for inputs, outputs, padding in zip(widths[:-1], widths[1:], self._paddings(), strict=True):
            layers += [nn.Conv2d(inputs, outputs, KERNEL, STRIDE, padding), activate(self.activation)]
        return layers[:-1]

    def _decoder(self, encoder: Layers, channels: int, sizes: list[tuple[int, int]]) -> Layers:
        from torch import nn

        from aerun.model.modules import TiedConvTranspose2d, activate

        convolutions = [layer for layer in encoder if isinstance(layer, nn.Conv2d)]
        outputs = [channels, *self.hidden[:-1]]
        layers: list[nn.Module] = []
        for index in reversed(range(len(self.hidden))):
            padding = self._paddings()[index]
            spare = tuple(
                before - ((after - 1) * STRIDE - 2 * padding + KERNEL)
                for before, after in zip(sizes[index], sizes[index + 1], strict=True)
            )
            output_padding = (spare[0], spare[1])
            if self.tied:
                layers.append(TiedConvTranspose2d(convolutions[index], self.hidden[index], output_padding))
            else:
                layers.append(
                    nn.ConvTranspose2d(
                        self.hidden[index],
                        outputs[index],
                        KERNEL,
                        STRIDE,
                        padding,
                        output_padding=output_padding,
                    )
                )
            layers.append(activate(self.activation))
        return layers[:-1]

    def _join(self, encoder: Layers, decoder: Layers, map_shape: Shape, flat: int, parameters_per_code: int) -> None:
        """Append the linear layer from the feature map to the code, and prepend its mirror layer to the decoder."""
        from torch import nn

        from aerun.model.modules import TiedLinear, activate

        assert self.code_size is not None
        narrow = nn.Linear(flat, self.code_size * parameters_per_code)
        wide = TiedLinear(narrow, self.code_size) if self.tied else nn.Linear(self.code_size, flat)
        encoder += [activate(self.activation), nn.Flatten(), narrow]
        decoder[:0] = [wide, activate(self.activation), nn.Unflatten(1, map_shape)]
