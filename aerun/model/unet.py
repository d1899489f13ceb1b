"""A small U-Net that predicts what to add to its input."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from aerun.contracts import Size
from aerun.model.spec import Codec, ModelSpec, Shape, check_image_shape


@dataclass(frozen=True, kw_only=True)
class UNet(ModelSpec):
    """A denoiser that keeps detail; ``hidden`` are the channels at full size, at half of it, at a quarter, and so on.

    Ronneberger et al. 2015, "U-Net" (arXiv:1505.04597), with two convolutions per level on the way down and one on the
    way up, and residual prediction as in Zhang et al. 2017, "Beyond a Gaussian Denoiser" (arXiv:1608.03981). The code
    [code_channels + C,H,W] is as large as the image: features and the input itself; the decoder adds a 3x3 convolution
    of the features to the input. Without a bottleneck the net learns nothing from clean images; use it with a noise.
    Images of any size are padded as needed.
    """

    hidden: list[Size]
    code_channels: Size

    def __post_init__(self) -> None:
        if not self.hidden:
            raise ValueError("hidden=[]: must list at least one number of channels")
        if self.tied:
            raise ValueError("tied=true: model=unet has no mirror layers")
        if self.condition != "none":
            raise ValueError("condition=label: model=unet copies its input and needs no label; use model=fc or conv")

    def build(self, input_shape: Shape, output_shape: Shape, parameters_per_code: int) -> Codec:
        """Both shapes are [C,H,W]. ValueError for vectors."""
        from torch import nn

        from aerun.model.modules import AddToInput, DownUp, WithInput, activate, init_weights

        check_image_shape(input_shape, output_shape)
        channels = input_shape[0]

        def convolution(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
            return [nn.Conv2d(inputs, outputs, 3, stride, 1), activate(self.activation)]

        first = self.hidden[0]
        stem = nn.Sequential(*convolution(channels, first), *convolution(first, first))
        down = [nn.Sequential(*convolution(a, b, 2), *convolution(b, b)) for a, b in pairwise(self.hidden)]
        up = [nn.ConvTranspose2d(b, a, 2, 2) for a, b in pairwise(self.hidden)]
        merge = [nn.Sequential(*convolution(2 * a, a)) for a in self.hidden[:-1]]
        more = channels * (parameters_per_code - 1)
        head = nn.Conv2d(first, self.code_channels * parameters_per_code + more, 3, padding=1)
        net = nn.Sequential(stem, DownUp(down, up, merge), head)
        back = nn.Sequential(activate(self.activation), nn.Conv2d(self.code_channels, output_shape[0], 3, padding=1))
        same = channels == output_shape[0]
        across = nn.Identity() if same else nn.Conv2d(channels, output_shape[0], 1)
        init_weights([*net.modules(), *across.modules(), *back.modules()], self.init, self.init_std)
        encoder = WithInput(net, self.code_channels, 2 ** len(down))
        code_shape = (self.code_channels + channels, *input_shape[1:])
        return Codec(encoder, AddToInput(across, back, self.code_channels), code_shape, any_size=True)
