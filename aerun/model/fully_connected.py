"""Stacks of linear layers, for images and vectors."""

from __future__ import annotations

import math
from dataclasses import dataclass

from aerun.contracts import Size
from aerun.model.spec import Codec, ModelSpec, Shape


@dataclass(frozen=True, kw_only=True)
class FullyConnected(ModelSpec):
    """Linear layers of the widths ``hidden`` down to ``code_size``, and their mirror image."""

    hidden: list[Size]
    code_size: Size

    def build(self, input_shape: Shape, output_shape: Shape, parameters_per_code: int) -> Codec:
        """Both shapes are without the batch. ValueError for tied weights if inputs and targets differ in size."""
        from torch import nn

        from aerun.model.modules import TiedLinear, activate, find_cuts, init_weights, linear_stack

        inputs, outputs = math.prod(input_shape), math.prod(output_shape)
        encoder = linear_stack([inputs, *self.hidden, self.code_size * parameters_per_code], self.activation)
        if self.tied:
            if inputs != outputs:
                raise ValueError(f"model.tied=true needs targets of the input's size, here {inputs} and {outputs}")
            matrices = [layer for layer in reversed(encoder) if isinstance(layer, nn.Linear)]
            units = [self.code_size, *reversed(self.hidden)]
            decoder: list[nn.Module] = []
            for matrix, count in zip(matrices, units, strict=True):
                decoder += [TiedLinear(matrix, count), activate(self.activation)]
            decoder.pop()
        else:
            decoder = linear_stack([self.code_size, *reversed(self.hidden), outputs], self.activation)
        init_weights([*encoder, *decoder], self.init, self.init_std)
        encoder, decoder = [nn.Flatten(), *encoder], [*decoder, nn.Unflatten(1, output_shape)]
        return Codec(nn.Sequential(*encoder), nn.Sequential(*decoder), (self.code_size,), find_cuts(encoder, decoder))
