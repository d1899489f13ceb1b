"""Layers of sparse dictionaries: a decoder with columns of unit norm, and an input without the decoder's bias."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aerun.model.modules import Constrained


class UnitNormLinear(nn.Linear, Constrained):
    """y = V x + b with columns v_j = w_j / |w_j|, one for each unit of the code.

    Bricken et al. 2023, "Towards Monosemanticity": after every update w_j is scaled to unit norm. There the gradient of
    w_j is that of v_j without its component along v_j, g - (g . v_j) v_j, so that updates do not work against the norm.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x[B,D] -> [B,n]."""
        return F.linear(x, self.weight / self._norms(), self.bias)

    @torch.no_grad()
    def constrain(self) -> None:
        self.weight.div_(self._norms())

    def _norms(self) -> Tensor:
        return self.weight.norm(dim=0, keepdim=True).clamp_min(1e-12)


class SubtractBias(nn.Module):
    """x - b, with b the bias of another layer, which is kept in a list, so that it is not registered and saved
    twice."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self._source = [layer]

    def forward(self, x: Tensor) -> Tensor:
        bias = self._source[0].bias
        assert isinstance(bias, Tensor)
        return x - bias


def with_unit_norm(layer: nn.Module) -> UnitNormLinear:
    """A linear layer with the same bias, and with the columns scaled to unit norm."""
    assert isinstance(layer, nn.Linear)
    scaled = UnitNormLinear(layer.in_features, layer.out_features, device="meta")
    scaled.weight, scaled.bias = layer.weight, layer.bias
    scaled.constrain()
    return scaled


@torch.no_grad()
def transpose_into(encoder: Sequence[nn.Module], decoder: Sequence[nn.Module]) -> None:
    """Copy the transposed weights of each linear layer of the encoder into its mirror layer. With a Gaussian latent
    these are the first rows, which compute the means."""
    sources = [layer for layer in reversed(encoder) if isinstance(layer, nn.Linear)]
    mirrors = [layer for layer in decoder if isinstance(layer, nn.Linear)]
    for source, mirror in zip(sources, mirrors, strict=True):
        mirror.weight.copy_(source.weight[: mirror.in_features].t())
