"""The torch modules that models are made of. Models import this file, and with it torch, only when they are built."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "identity": nn.Identity,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


def activate(name: str) -> nn.Module:
    """An elementwise nonlinearity by its name in ``torch.nn.functional``, as a layer."""
    return ACTIVATIONS[name]()


class Constrained:
    """A layer whose weights satisfy a constraint, which every update restores by ``constrain``."""

    def constrain(self) -> None:
        """Change the weights, in place, to the nearest ones that satisfy it."""
        raise NotImplementedError


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
        """The size, for printed modules."""
        return f"{self.height}, {self.width}"


class DownUp(nn.Module):
    """The body of a U-Net: halve the size level by level, then double it, concatenating the features of each level."""

    def __init__(self, down: Sequence[nn.Module], up: Sequence[nn.Module], merge: Sequence[nn.Module]) -> None:
        super().__init__()
        self.down, self.up, self.merge = nn.ModuleList(down), nn.ModuleList(up), nn.ModuleList(merge)

    def forward(self, x: Tensor) -> Tensor:
        """x[B,C,H,W] -> the same shape; H and W must be multiples of 2 to the power of the number of levels."""
        levels = [x]
        for step in self.down:
            levels.append(step(levels[-1]))
        x = levels.pop()
        for up, merge in zip(reversed(self.up), reversed(self.merge), strict=True):
            x = merge(torch.cat([up(x), levels.pop()], 1))
        return x


class WithInput(nn.Module):
    """images[B,C,H,W] -> ``channels`` features of ``net``, then the images, then the remaining features.

    The images are padded, by repeating their last rows and columns, to sides that are multiples of ``multiple``.
    """

    def __init__(self, net: nn.Module, channels: int, multiple: int) -> None:
        super().__init__()
        self.net, self.channels, self.multiple = net, channels, multiple

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        below, right = -height % self.multiple, -width % self.multiple
        padded = F.pad(images, (0, right, 0, below), mode="replicate") if below or right else images
        features = self.net(padded)[..., :height, :width]
        return torch.cat([features[:, : self.channels], images, features[:, self.channels :]], 1)


class AddToInput(nn.Module):
    """code[B,channels+C,H,W] -> ``across`` of its last C channels, the input, plus ``change`` of the others."""

    def __init__(self, across: nn.Module, change: nn.Module, channels: int) -> None:
        super().__init__()
        self.across, self.change, self.channels = across, change, channels

    def forward(self, code: Tensor) -> Tensor:
        added: Tensor = self.across(code[:, self.channels :]) + self.change(code[:, : self.channels])
        return added


class Tied(nn.Module):
    """A layer that shares the first ``units`` rows of another layer's weight; its bias is separate.

    The other layer is kept in a list, so that its weight is not registered and saved twice. With a Gaussian latent the
    first rows of the encoder's last layer compute the means; the mirror layer shares those.
    """

    def __init__(self, source: nn.Linear | nn.Conv2d, units: int, outputs: int) -> None:
        super().__init__()
        self._source = [source]
        self.units = units
        self.bias = nn.Parameter(source.weight.new_zeros(outputs))

    @property
    def weight(self) -> Tensor:
        """The shared rows of the weight, not transposed."""
        return self._source[0].weight[: self.units]

    def untied(self) -> nn.Module:
        """Return an equivalent layer with a copy of the weight, in the same memory layout, so that outputs are equal to
        the last bit. It shares this layer's bias."""
        raise NotImplementedError


class TiedLinear(Tied):
    """y = W^T x + b with W the weight of ``source`` [units, outputs]."""

    def __init__(self, source: nn.Linear, units: int) -> None:
        super().__init__(source, units, source.in_features)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.t(), self.bias)

    def untied(self) -> nn.Module:
        layer = nn.Linear(self.units, len(self.bias), device="meta")
        layer.weight, layer.bias = nn.Parameter(self.weight.detach().t().clone()), self.bias
        return layer


class TiedConvTranspose2d(Tied):
    """The transpose (adjoint) of the convolution ``source``, plus a separate bias."""

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


WEIGHTED = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, Tied)


def find_cuts(encoder: Sequence[nn.Module], decoder: Sequence[nn.Module]) -> tuple[tuple[int, int], ...]:
    """Return the cuts (see Codec) of an encoder and its mirror image, in which an activation follows each layer."""
    ends, starts = ([i for i, layer in enumerate(side) if isinstance(layer, WEIGHTED)] for side in (encoder, decoder))
    return tuple((end + 2, start) for end, start in zip(ends[:-1], reversed(starts[1:]), strict=True))


def linear_stack(sizes: list[int], hidden_activation: str) -> list[nn.Module]:
    """Return linear layers of the given sizes with activations between them; the last layer has none."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), activate(hidden_activation)]
    return layers[:-1]


def init_weights(modules: Iterable[nn.Module], scheme: str, deviation: float) -> None:
    """Initialize the weights of all linear and convolutional layers by ``scheme`` (see ModelSpec); biases are zero."""
    if scheme == "default":
        return
    for module in modules:
        if not isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            continue
        if scheme == "kaiming" and isinstance(module, nn.ConvTranspose2d):
            # torch would use the output channels as the fan-in. Each output sums kernel / stride^2 positions of every
            # input channel.
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
