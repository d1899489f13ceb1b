"""Stacks of linear layers, for images and vectors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from aerun.contracts import Size
from aerun.model.spec import Codec, ModelSpec, Shape


@dataclass(frozen=True, kw_only=True)
class FullyConnected(ModelSpec):
    """Linear layers of the widths ``hidden`` down to ``code_size``, and their mirror image.

    Keys of sparse dictionaries, whose vectors are the columns of the decoder's first layer:

    - ``unit_norm_decoder``: these columns have unit norm; gradients along them are removed.
    - ``pre_bias``: the decoder's last bias is subtracted from the input.
    - ``decoder_init=transpose``: the decoder starts with the transposed weights of the encoder.
    """

    hidden: list[Size]
    code_size: Size
    unit_norm_decoder: bool = False
    pre_bias: bool = False
    decoder_init: Literal["init", "transpose"] = "init"
    linear_code: ClassVar[bool] = True

    def check_settings(self, settings: Any) -> None:
        super().check_settings(settings)
        for key, needed in {
            "unit_norm_decoder=true": self.unit_norm_decoder,
            "decoder_init=transpose": self.decoder_init == "transpose",
        }.items():
            if self.linear_path != "none" and needed:
                raise ValueError(f"model.linear_path={self.linear_path} and model.{key}: the decoder begins at zero")
        if self.unit_norm_decoder and self.tied:
            raise ValueError(
                "model.unit_norm_decoder=true and model.tied=true: the encoder would have unit norms, too; use "
                "model.decoder_init=transpose"
            )
        if self.pre_bias and (settings.loss.takes_logits or self.output_activation != "identity"):
            raise ValueError(
                f"model.pre_bias=true, model.output_activation={self.output_activation} and {settings.name('loss')}: "
                "the decoder's bias is in units of the input only with a linear output"
            )

    def unread_keys(self, settings: Any) -> Mapping[str, str]:
        tied = {"model.decoder_init": "model.tied=true shares the weights"} if self.tied else {}
        return tied | dict(super().unread_keys(settings))

    def build(self, input_shape: Shape, output_shape: Shape, parameters_per_code: int) -> Codec:
        """Both shapes are without the batch. ValueError for tied or transposed weights, or a bias of the input, if
        inputs and targets differ in size."""
        from torch import nn

        from aerun.model import dictionary
        from aerun.model.modules import TiedLinear, activate, find_cuts, init_weights, linear_stack

        inputs, outputs = math.prod(input_shape), math.prod(output_shape)
        needing = {"tied": self.tied, "pre_bias": self.pre_bias, "decoder_init": self.decoder_init == "transpose"}
        for key in (key for key, needed in needing.items() if needed and inputs != outputs):
            value = "transpose" if key == "decoder_init" else "true"
            raise ValueError(f"model.{key}={value} needs targets of the input's size, here {inputs} and {outputs}")
        encoder = linear_stack([inputs, *self.hidden, self.code_size * parameters_per_code], self.activation)
        if self.tied:
            matrices = [layer for layer in reversed(encoder) if isinstance(layer, nn.Linear)]
            units = [self.code_size, *reversed(self.hidden)]
            decoder: list[nn.Module] = []
            for matrix, count in zip(matrices, units, strict=True):
                decoder += [TiedLinear(matrix, count), activate(self.activation)]
            decoder.pop()
        else:
            decoder = linear_stack([self.code_size, *reversed(self.hidden), outputs], self.activation)
        init_weights([*encoder, *decoder], self.init, self.init_std)
        if self.decoder_init == "transpose" and not self.tied:
            dictionary.transpose_into(encoder, decoder)
        if self.unit_norm_decoder:
            decoder[0] = dictionary.with_unit_norm(decoder[0])
        center = [dictionary.SubtractBias(decoder[-1])] if self.pre_bias else []
        encoder, decoder = [nn.Flatten(), *center, *encoder], [*decoder, nn.Unflatten(1, output_shape)]
        return Codec(nn.Sequential(*encoder), nn.Sequential(*decoder), (self.code_size,), find_cuts(encoder, decoder))
