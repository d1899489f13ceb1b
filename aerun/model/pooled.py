"""Unpadded convolutions and max-pooling, decoded by a single linear layer."""

from __future__ import annotations

import math
from dataclasses import dataclass

from aerun.contracts import Size
from aerun.model.spec import Codec, ModelSpec, Shape, check_image_shape


@dataclass(frozen=True, kw_only=True)
class PooledConvolutional(ModelSpec):
    """Unpadded convolutions with ``hidden`` output channels, then 2x2 max-pooling, flattened; the decoder is linear.

    Without ``code_size`` the flattened features are the code; with it, or with a latent that needs several parameters
    per code unit, a linear layer follows.
    """

    hidden: list[Size]
    kernel_size: Size
    code_size: Size | None

    def __post_init__(self) -> None:
        if not self.hidden:
            raise ValueError("hidden=[]: must list at least one number of channels")
        if self.tied:
            raise ValueError("tied=true: model=conv_fc has no mirror layers to tie; use model=fc, fc_deep or conv")

    def build(self, input_shape: Shape, output_shape: Shape, parameters_per_code: int) -> Codec:
        """Both shapes are [C,H,W]. ValueError for vectors and for images that are too small."""
        from torch import nn

        from aerun.model.modules import activate, init_weights

        check_image_shape(input_shape, output_shape)
        shrink = len(self.hidden) * (self.kernel_size - 1)
        height, width = ((size - shrink) // 2 for size in input_shape[1:])
        if min(height, width) < 1:
            raise ValueError(
                f"images of {input_shape[1]}x{input_shape[2]} are too small: model.hidden={self.hidden} and "
                f"model.kernel_size={self.kernel_size} need at least {shrink + 2}x{shrink + 2}"
            )
        layers: list[nn.Module] = []
        for inputs, outputs in zip([input_shape[0], *self.hidden], self.hidden, strict=False):
            layers += [nn.Conv2d(inputs, outputs, self.kernel_size), activate(self.activation)]
        # The code activation takes the place of the last one: a non-decreasing function commutes with max-pooling.
        encoder = [*layers[:-1], nn.MaxPool2d(2), nn.Flatten()]
        features = self.hidden[-1] * height * width
        code_size = self.code_size or features
        if self.code_size or parameters_per_code > 1:
            encoder += [activate(self.activation), nn.Linear(features, code_size * parameters_per_code)]
        decoder = [nn.Linear(code_size, math.prod(output_shape)), nn.Unflatten(1, output_shape)]
        init_weights([*encoder, *decoder], self.init, self.init_std)
        return Codec(nn.Sequential(*encoder), nn.Sequential(*decoder), (code_size,))
