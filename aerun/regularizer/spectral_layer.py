"""A layer whose weight is divided by its largest singular value."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import normalize

FIRST_ITERATIONS = 15  # before training, from a random vector


class SpectralLayer(nn.Module):
    """``layer`` with weight / sigma, where sigma is u^T W v. ``left`` is u; the power method moves it in training.
    ValueError for a weight that begins at zero."""

    left: Tensor

    def __init__(self, layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d, iterations: int) -> None:
        super().__init__()
        self.layer, self.iterations = layer, iterations
        self._across = isinstance(layer, nn.ConvTranspose2d)  # whose weight is [inputs, outputs, H, W]
        matrix = self._matrix().detach()
        if not matrix.any():
            raise ValueError("a layer of the model begins at zero, which has no singular value to divide by")
        left = normalize(torch.randn(len(matrix), device=matrix.device, dtype=matrix.dtype), dim=0)
        self.register_buffer("left", self._iterate(matrix, left, FIRST_ITERATIONS))

    def _matrix(self) -> Tensor:
        weight = self.layer.weight.transpose(0, 1) if self._across else self.layer.weight
        return weight.flatten(1)

    @staticmethod
    def _iterate(matrix: Tensor, left: Tensor, count: int) -> Tensor:
        for _ in range(count):
            left = normalize(matrix @ normalize(matrix.T @ left, dim=0), dim=0)
        return left

    @property
    def sigma(self) -> Tensor:
        """The largest singular value of the layer's weight, as estimated from ``left``."""
        matrix, left = self._matrix(), self.left.clone()  # the buffer moves before the backward pass
        right = normalize(matrix.detach().T @ left, dim=0)
        return left @ (matrix @ right)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            if self.training:
                with torch.no_grad():
                    self.left.copy_(self._iterate(self._matrix(), self.left, self.iterations))
            weight = self.layer.weight / self.sigma
        output: Tensor = functional_call(self.layer, {"weight": weight}, x)
        return output


def normalize_layers(network: nn.Module, iterations: int) -> int:
    """Wrap all linear and convolutional layers within a network, in place; returns their number."""
    count = 0
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                setattr(parent, name, SpectralLayer(layer, iterations))
                count += 1
    return count
