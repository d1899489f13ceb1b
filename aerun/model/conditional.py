"""Encoders and decoders that also take the label of each image."""

from __future__ import annotations

import copy
from typing import Self

from torch import Tensor, nn
from torch.nn import functional as F

from aerun.contracts import Codec
from aerun.model.modules import WEIGHTED, init_weights

NEEDS_LABELS = "the model is conditional (model.condition=label): it needs the labels of the images, labels=[N]"


class Condition(nn.Module):
    """labels[B] -> the biases that they add to the first layer of the encoder [B,E] and of the decoder [B,D].

    A conditional autoencoder (Sohn, Lee & Yan 2015, "Learning structured output representation using deep conditional
    generative models") concatenates a vector c of the label to the input x of both networks. Their first layers then
    compute W x + U c + b, and U c is what is added here (Dumoulin et al. 2018, "Feature-wise transformations":
    concatenation is a conditional bias). In a convolution it is the same at every position: c as constant channels,
    which padding does not interrupt. c is one-hot, or a learned embedding of ``size`` values.
    """

    def __init__(self, classes: int, size: int | None, encoder: Tensor, decoder: Tensor) -> None:
        """``encoder``, ``decoder``: U [E,S] and [D,S], with S the size of c."""
        super().__init__()
        self.classes = classes
        self.embedding = None if size is None else nn.Embedding(classes, size)
        self.encoder, self.decoder = (_linear(weight) for weight in (encoder, decoder))

    def forward(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        if self.embedding is not None:
            vector = self.embedding(labels)
        else:
            vector = F.one_hot(labels, self.classes).to(self.encoder.weight.dtype)
        return self.encoder(vector), self.decoder(vector)


class Conditional(nn.Sequential):
    """Layers of which the first one with weights adds a bias [B,units] to its output.

    ``given`` fixes that bias; then the network takes its input alone, as others do.
    """

    bias: Tensor | None = None

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self.first = next(i for i, layer in enumerate(self) if any(isinstance(m, WEIGHTED) for m in layer.modules()))
        inner = self[self.first]
        if isinstance(inner, nn.Sequential):
            self[self.first] = Conditional(*inner)

    @property
    def layer(self) -> nn.Module:
        """The layer that adds the bias."""
        layer = self[self.first]
        return layer.layer if isinstance(layer, Conditional) else layer

    def given(self, bias: Tensor) -> Self:
        """This network with a fixed bias [B,units], or [1,units] for any number of rows. It shares the weights."""
        network = copy.copy(self)
        network.bias = bias
        return network

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """x[B,...] -> output; without ``bias`` [B,units] the fixed one is added. ValueError if there is neither."""
        bias = self.bias if bias is None else bias
        if bias is None:
            raise ValueError(NEEDS_LABELS)
        for number, layer in enumerate(self):
            if number == self.first and isinstance(layer, Conditional):
                x = layer(x, bias)
            else:
                x = layer(x)
                x = x + _rows(bias, x) if number == self.first else x
        return x


def conditional(codec: Codec, classes: int, size: int | None, scheme: str, deviation: float) -> Codec:
    """The same networks with a condition on labels below ``classes``; ``scheme``, ``deviation`` as ``init_weights``."""
    assert isinstance(codec.encoder, nn.Sequential) and isinstance(codec.decoder, nn.Sequential)
    encoder, decoder = Conditional(*codec.encoder), Conditional(*codec.decoder)
    width = classes if size is None else size
    weights = [_columns(network.layer, width, scheme, deviation) for network in (encoder, decoder)]
    return codec._replace(encoder=encoder, decoder=decoder, condition=Condition(classes, size, *weights))


def _columns(layer: nn.Module, width: int, scheme: str, deviation: float) -> Tensor:
    """U [units,width], initialized as the last columns of the matrix [W U] are."""
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor) and isinstance(bias, Tensor)
    units = len(bias)
    whole = nn.Linear(weight.numel() // units + width, units, bias=False)
    init_weights([whole], scheme, deviation)
    return whole.weight.detach()[:, -width:].clone()


def _linear(weight: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = nn.Parameter(weight)
    return layer


def _rows(bias: Tensor, x: Tensor) -> Tensor:
    """bias[B,U] or [1,U] in the dimensions of x[B,U,...]. ValueError for another number of rows."""
    if len(bias) not in (1, len(x)):
        raise ValueError(f"{len(bias)} labels for {len(x)} images; there must be one for each image")
    return bias.view(*bias.shape, *[1] * (x.dim() - 2))
