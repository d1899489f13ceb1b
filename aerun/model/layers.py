"""The modules that models are made of. This file imports torch; models import it only when they are built."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from aerun.base.activation import activation


class Activate(nn.Module):
    """An elementwise nonlinearity by name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.function = activation(name)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)

    def extra_repr(self) -> str:
        return self.name


class Residual(nn.Module):
    """x + body(x)."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Cropped(nn.Module):
    """The upper left ``height`` x ``width`` of images[B,C,H,W]."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, : self.height, : self.width]

    def extra_repr(self) -> str:
        return f"{self.height}, {self.width}"


class _Tied(nn.Module):
    """A layer that uses the first ``units`` rows of another layer's weight, and a bias of its own.

    The other layer is held in a list, so that its weight is neither registered nor saved twice. With a
    Gaussian latent the encoder's last layer holds means first; the mirror layer uses those rows.
    """

    def __init__(self, source: nn.Linear | nn.Conv2d, units: int, outputs: int) -> None:
        super().__init__()
        self._source = [source]
        self.units = units
        self.bias = nn.Parameter(source.weight.new_zeros(outputs))

    @property
    def weight(self) -> Tensor:
        """The mirror layer's weight rows, not transposed."""
        return self._source[0].weight[: self.units]

    def untied(self) -> nn.Module:
        """The same layer with a weight of its own, a copy: in the same order of memory, so that not a bit of any
        output changes. It keeps this one's bias."""
        raise NotImplementedError


class TiedLinear(_Tied):
    """y = W^T x + b with W the weight of ``source`` [units, outputs]."""

    def __init__(self, source: nn.Linear, units: int) -> None:
        super().__init__(source, units, source.in_features)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.t(), self.bias)

    def untied(self) -> nn.Module:
        layer = nn.Linear(self.units, len(self.bias), device="meta")
        layer.weight, layer.bias = nn.Parameter(self.weight.detach().t().clone()), self.bias
        return layer


class TiedConvTranspose2d(_Tied):
    """The transpose (adjoint) of the convolution ``source``, up to a bias of its own."""

    def __init__(self, source: nn.Conv2d, units: int, output_padding: tuple[int, int]) -> None:
        super().__init__(source, units, source.in_channels)
        assert not isinstance(source.padding, str)
        self.stride, self.padding = source.stride, source.padding
        self.output_padding = output_padding

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, self.weight, self.bias, self.stride, self.padding, self.output_padding)

    def untied(self) -> nn.Module:
        height, width = self.weight.shape[2:]
        layer = nn.ConvTranspose2d(
            self.units,
            len(self.bias),
            (height, width),
            self.stride,  # type: ignore[arg-type]
            self.padding,  # type: ignore[arg-type]
            self.output_padding,
            device="meta",
        )
        layer.weight, layer.bias = nn.Parameter(self.weight.detach().clone()), self.bias
        return layer


def cuts(encoder: Sequence[nn.Module], decoder: Sequence[nn.Module]) -> tuple[tuple[int, int], ...]:
    """Where an encoder and its mirror image can be cut, each layer being followed by its activation: see Codec."""
    ends, starts = ([i for i, layer in enumerate(side) if has_weight(layer)] for side in (encoder, decoder))
    return tuple((end + 2, start) for end, start in zip(ends[:-1], reversed(starts[1:]), strict=True))


def has_weight(module: nn.Module) -> bool:
    """Whether a module is a layer with a weight, its own or another's."""
    return isinstance(getattr(module, "weight", None), Tensor)


def linear_stack(sizes: list[int], hidden_activation: str) -> list[nn.Module]:
    """Linear layers through ``sizes`` with the activation between them; the last is linear."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), Activate(hidden_activation)]
    return layers[:-1]


def initialise(modules: Iterable[nn.Module], scheme: str, deviation: float) -> None:
    """Draw the weights of all linear and convolutional layers by ``scheme`` (see ModelSpec); zero their biases."""
    if scheme == "default":
        return
    for module in modules:
        if not isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            continue
        if scheme == "kaiming" and isinstance(module, nn.ConvTranspose2d):
            # torch takes the output channels for the fan-in here. Each output sums, over the input channels, the
            # kernel / stride^2 positions that reach it.
            fan_in = module.in_channels * math.prod(module.kernel_size) / math.prod(module.stride)
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan_in))
        elif scheme == "kaiming":
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif scheme == "xavier":
            nn.init.xavier_normal_(module.weight)
        else:
            nn.init.normal_(module.weight, std=deviation)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
