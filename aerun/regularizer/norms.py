"""The length of codes, the size of the decoder's weights, and layers of bounded slope."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from aerun.base.activation import at_least_float32
from aerun.contracts import Count, NonNegative, Pass, Penalty, Regularizer, Terms

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class RaeL2(Regularizer):
    """RAE-L2: half the code's squared length, and the decoder's squared weights.

    ``code_weight`` |z|^2 / 2, mean over the batch, + ``decoder_weight`` |theta|^2 over all parameters of the decoder:
    Ghosh, Sajjadi, Vergari, Black & Scholkopf 2020, "From variational to deterministic autoencoders"
    (arXiv:1903.12436), equation 9 and section 3.1. Weights are on the scale of errors summed over an image.
    """

    code_weight: NonNegative
    decoder_weight: NonNegative

    schedulable = ("code_weight", "decoder_weight")

    def penalties(self, run: Pass) -> Terms:
        """Penalties ``code_norm`` and ``decoder_norm``."""
        import torch

        squares = torch.stack([parameter.square().sum() for parameter in run.decoder.parameters()]).sum()
        return [
            Penalty("code_norm", half_square(run.code), self.code_weight, per_image=True),
            Penalty("decoder_norm", squares, self.decoder_weight, per_image=True),
        ]


@dataclass(frozen=True)
class Spectral(Regularizer):
    """Divides the weight of every linear and convolutional layer by its largest singular value: no penalty.

    Miyato, Kataoka, Koyama & Yoshida 2018, "Spectral normalization for generative adversarial networks"
    (arXiv:1802.05957), equation 8; of the decoder alone it is RAE-SN of Ghosh et al. 2020, with ``rae_l2`` for the
    codes. A convolution's weight is the matrix [outputs, inputs * positions]. Every training pass makes
    ``power_iterations`` steps of the power method from the last one's vector, a buffer that is saved and resumed.
    """

    networks: Literal["decoder", "both"]
    power_iterations: Count

    def change_networks(self, encoder: nn.Module, decoder: nn.Module) -> None:
        """Wrap the layers. ValueError if a network has none of its own, such as a tied decoder."""
        from aerun.regularizer.spectral_layer import normalize_layers

        for name, network in {"decoder": decoder, **({"encoder": encoder} if self.networks == "both" else {})}.items():
            if not normalize_layers(network, self.power_iterations):
                raise ValueError(f"the {name} has no linear or convolutional layer with a weight of its own")

    def penalties(self, run: Pass) -> Terms:
        """None: the layers themselves are bounded."""
        return []


def half_square(code: Tensor) -> Tensor:
    """|z|^2 / 2 of code[B,...], mean over the batch."""
    return 0.5 * at_least_float32(code).square().flatten(1).sum(1).mean()
