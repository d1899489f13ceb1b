"""What every model of ours can be told, and what it builds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from aerun.config.schema import Activation, Positive

if TYPE_CHECKING:
    from torch import nn

Shape = tuple[int, ...]


class Codec(NamedTuple):
    """encoder(images[B,*input_shape]) -> features, linear, with ``parameters_per_code`` times the code's units
    along dimension 1; decoder(code[B,*code_shape]) -> [B,*output_shape], linear: the output activation (if any)
    is applied by the autoencoder, so that a loss can have the logits.

    ``cuts``: where both, being sequences, can be cut between layer pairs, outermost first. At each (end, start),
    encoder[:end] and decoder[start:] are an autoencoder themselves. None: there are no pairs.
    """

    encoder: nn.Module
    decoder: nn.Module
    code_shape: Shape
    cuts: tuple[tuple[int, int], ...] | None = None


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Keys that all models share.

    ``activation`` follows every hidden layer; ``code_activation`` is the code's own nonlinearity, which the
    sparsity applies; ``output_activation`` follows the last layer. ``init``: ``default`` is torch's, ``kaiming``
    and ``xavier`` are normal with the variance of He et al. 2015 and Glorot & Bengio 2010, ``normal`` has the
    deviation ``init_std``; all but the default set biases to zero. ``tied``: each decoder matrix is the
    transpose of its mirror layer's in the encoder, with a bias of its own. ``output_bias``: the last layer's bias
    begins as ``init`` has it, or so that an output of nothing else is the ``mean`` of the training targets (of each
    channel, for convolutions).
    """

    activation: Activation
    code_activation: Activation
    output_activation: Literal["identity", "sigmoid", "tanh", "relu", "softplus"]
    init: Literal["default", "kaiming", "xavier", "normal"]
    init_std: Positive
    tied: bool
    output_bias: Literal["init", "mean"] = "init"


def check_image_shape(input_shape: Shape, output_shape: Shape) -> None:
    """ValueError unless both are images [C,H,W] of one height and width."""
    for shape in (input_shape, output_shape):
        if len(shape) != 3:
            raise ValueError(f"convolutions need images [C,H,W], the data are vectors of {shape[0]} values")
    if input_shape[1:] != output_shape[1:]:
        sizes = " and ".join("x".join(map(str, shape[1:])) for shape in (input_shape, output_shape))
        raise ValueError(f"convolutions need inputs and targets of one height and width, here {sizes}")
