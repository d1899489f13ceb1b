"""Principal components as a fixed path from image to code and back, to which the networks add what is not linear."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from aerun.contracts import Codec, Shape
from aerun.model.modules import WEIGHTED


class LinearPath(nn.Module):
    """linear(x) + body(x), with ``linear`` between the values of x and those of ``shape``, which training leaves as it
    is."""

    def __init__(self, inputs: int, shape: Shape, body: nn.Module) -> None:
        super().__init__()
        self.linear, self.body, self.shape = nn.Linear(inputs, math.prod(shape)).requires_grad_(False), body, shape

    def forward(self, x: Tensor) -> Tensor:
        path: Tensor = self.linear(x.flatten(1)).unflatten(1, self.shape)
        return path + self.body(x)


def add_linear_path(codec: Codec, input_shape: Shape, output_shape: Shape, parameters_per_code: int) -> Codec:
    """The same networks, each with a linear path, which ``set_components`` fills. The last layer of both begins at
    zero, so that at first the linear path is all. ValueError for codes that are no vectors, and for targets of another
    shape than the inputs."""
    if len(codec.code_shape) != 1:
        shape = "x".join(map(str, codec.code_shape))
        raise ValueError(f"linear_path=pca: the code is made of feature maps, {shape}; components need a vector")
    if input_shape != output_shape:
        shapes = " and ".join("x".join(map(str, shape)) for shape in (input_shape, output_shape))
        raise ValueError(f"linear_path=pca: needs inputs and targets of the same shape; these have {shapes}")
    for side in (codec.encoder, codec.decoder):
        [*_, last] = [layer for layer in side.modules() if isinstance(layer, WEIGHTED)]
        nn.init.zeros_(last.weight)
        if last.bias is not None:
            nn.init.zeros_(last.bias)
    [size] = codec.code_shape
    encoder = LinearPath(math.prod(input_shape), (parameters_per_code * size,), codec.encoder)
    decoder = LinearPath(size, output_shape, codec.decoder)
    return codec._replace(encoder=encoder, decoder=decoder, cuts=None)


class Affine(NamedTuple):
    """values -> (values - mean) / deviation, each [P]."""

    mean: Tensor
    deviation: Tensor


@torch.no_grad()
def set_components(
    encoder: LinearPath, decoder: LinearPath, components: Tensor, mean: Tensor, deviations: Tensor, scales: list[Affine]
) -> None:
    """Let the path of the encoder compute the scores of D principal components, each divided by its standard deviation,
    and that of the decoder the projection: z = V'(x - m) / s and x' = m + V (s z).

    ``components`` V [P,D], ``mean`` m [P], ``deviations`` s [D]; ``scales``: how inputs and targets are standardized,
    in that order. Further features, such as log-variances, begin at zero.
    """
    (input_mean, input_deviation), (target_mean, target_deviation) = scales
    size = len(deviations)
    nn.init.zeros_(encoder.linear.weight)
    nn.init.zeros_(encoder.linear.bias)
    encoder.linear.weight[:size] = (input_deviation[:, None] * components / deviations).T
    encoder.linear.bias[:size] = (input_mean - mean) @ components / deviations
    decoder.linear.weight.copy_(components * deviations / target_deviation[:, None])
    decoder.linear.bias.copy_((mean - target_mean) / target_deviation)
