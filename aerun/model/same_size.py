"""Convolutions that keep the image size, decoded by one wide convolution: the winner-take-all autoencoder."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from aerun.contracts import Size
from aerun.model.spec import Codec, ModelSpec, Shape, check_image_shape


@dataclass(frozen=True, kw_only=True)
class SameSizeConvolutional(ModelSpec):
    """Padded convolutions of stride 1 with ``hidden`` output channels; the decoder is one transposed convolution.

    The code is the last feature map, as large as the image, and needs a sparsity to be of use. Makhzani & Frey 2015,
    "Winner-Take-All Autoencoders" (arXiv:1409.2752), use two 5x5 layers and an 11x11 decoder. Kernel sizes are odd.
    ``tied`` needs a single layer with the decoder's kernel size.
    """

    hidden: list[Size]
    kernel_size: Size
    decoder_kernel_size: Size

    def __post_init__(self) -> None:
        if not self.hidden:
            raise ValueError("hidden=[]: must list at least one number of channels")
        for key, size in (("kernel_size", self.kernel_size), ("decoder_kernel_size", self.decoder_kernel_size)):
            if size % 2 == 0:
                raise ValueError(f"{key}={size}: must be odd, so that the image size is kept")
        if self.tied and (len(self.hidden) > 1 or self.kernel_size != self.decoder_kernel_size):
            raise ValueError(
                "tied=true: model=conv_wta then needs a single layer, and model.kernel_size=model.decoder_kernel_size"
            )

    def build(self, input_shape: Shape, output_shape: Shape, parameters_per_code: int) -> Codec:
        """Both shapes are [C,H,W]. ValueError for vectors, and for tied weights if the shapes differ."""
        from torch import nn

        from aerun.model.modules import TiedConvTranspose2d, activate, init_weights

        check_image_shape(input_shape, output_shape)
        if self.tied and input_shape != output_shape:
            raise ValueError(f"model.tied=true needs targets of the input's shape, here {input_shape}, {output_shape}")
        widths = [input_shape[0], *self.hidden[:-1], self.hidden[-1] * parameters_per_code]
        encoder: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            encoder += [
                nn.Conv2d(inputs, outputs, self.kernel_size, padding=self.kernel_size // 2),
                activate(self.activation),
            ]
        encoder.pop()
        maps, wide = self.hidden[-1], self.decoder_kernel_size
        decoder: nn.Module
        if self.tied:
            first = encoder[0]
            assert isinstance(first, nn.Conv2d)
            decoder = TiedConvTranspose2d(first, maps, (0, 0))
        else:
            decoder = nn.ConvTranspose2d(maps, output_shape[0], wide, padding=wide // 2)
        init_weights([*encoder, decoder], self.init, self.init_std)
        return Codec(nn.Sequential(*encoder), nn.Sequential(decoder), (maps, *input_shape[1:]))
