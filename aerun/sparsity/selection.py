"""Sparsities that keep the largest values: of each image, or of each unit over a minibatch."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from aerun.base.activation import activation
from aerun.contracts import Activation, Count, Fraction, Shape, Sparsity, Terms

if TYPE_CHECKING:
    from torch import Tensor

Constrained = tuple["Tensor", Terms]


@dataclass(frozen=True)
class _KeepsLargest(Sparsity):
    """The common part of TopK and TopKLifetime: at most ``k`` nonzeros in each row, or in each channel of a sample."""

    k: Count

    @property
    def max_nonzeros(self) -> int:
        return self.k

    def with_max_nonzeros(self, count: int) -> Sparsity:
        return replace(self, k=count)

    def check_settings(self, settings: Any) -> None:
        size = settings.model.code_size
        if size is not None and self.k > size:
            raise ValueError(f"sparsity.k={self.k} is larger than the code size, model.code_size={size}")

    def check_code(self, code_shape: Shape) -> None:
        available = math.prod(code_shape[1:] or code_shape)
        if self.k > available:
            kind = "positions per channel" if code_shape[1:] else "units"
            raise ValueError(
                f"sparsity.k={self.k}: the code of shape {list(code_shape)} has only {available} {kind}; "
                f"use sparsity.k={available} or less"
            )


@dataclass(frozen=True)
class TopK(_KeepsLargest):
    """Keeps the k largest features of each sample; the others, and their gradients, are zero.

    Makhzani & Frey 2013, "k-Sparse Autoencoders" (arXiv:1312.5663). On feature maps: the k largest positions
    of every channel of each sample, the spatial sparsity of "Winner-Take-All Autoencoders" (arXiv:1409.2752;
    there k = 1). Features are compared by signed value. Evaluation selects as training does.
    """

    activation: Activation
    rowwise: ClassVar[bool] = True
    schedulable = ("k",)

    def __call__(self, features: Tensor, training: bool) -> Constrained:
        """features[B,D] or [B,C,H,W] -> code of the same shape with at most k nonzeros per row, no penalty."""
        return keep_largest(activation(self.activation)(features), self.k), []


@dataclass(frozen=True)
class Lifetime(Sparsity):
    """Keeps the largest ``fraction`` of each unit's values in the minibatch, in training only: winner-take-all.

    Makhzani & Frey 2014, "Winner-Take-All Autoencoders" (arXiv:1409.2752), lifetime sparsity. On feature maps
    a channel's winners are chosen among all positions of all samples. At least one value is kept. In evaluation the
    code is dense, as in the paper.
    """

    fraction: Fraction
    activation: Activation
    selects_in_training_only: ClassVar[bool] = True

    def __call__(self, features: Tensor, training: bool) -> Constrained:
        """features[B,D] or [B,C,H,W] -> code of the same shape, no penalty."""
        code = activation(self.activation)(features)
        return (keep_winners(code, self.fraction) if training else code), []


@dataclass(frozen=True)
class TopKLifetime(_KeepsLargest):
    """TopK, then Lifetime among the values that TopK keeps: on feature maps with k = 1 the paper's convolutional WTA.

    In vectors, a unit keeps the largest ``fraction`` of its values in the minibatch. In maps, a channel keeps the
    largest ``fraction`` of the k values that TopK keeps in each sample. Lifetime applies in training only, TopK always.
    """

    fraction: Fraction
    activation: Activation
    selects_in_training_only: ClassVar[bool] = True

    def __call__(self, features: Tensor, training: bool) -> Constrained:
        """features[B,D] or [B,C,H,W] -> code of the same shape, no penalty."""
        code = activation(self.activation)(features)
        if not training:
            return keep_largest(code, self.k), []
        kept = largest_mask(code, self.k)
        share = self.k / code[0, 0].numel() if code.dim() > 2 else 1.0
        return keep_winners(code, self.fraction * share, among=kept), []


def keep_largest(code: Tensor, k: int | Tensor) -> Tensor:
    """code[B,D] or [B,C,H,W] with only the k largest entries of each row (each channel); the others are zero.

    A scheduled ``k``, a tensor without dimensions, is not read on the host: all entries are sorted.
    """
    rows = code.flatten(2) if code.dim() > 2 else code
    if isinstance(k, int):
        values, places = rows.topk(k, dim=-1)
    else:
        import torch

        values, places = rows.sort(dim=-1, descending=True)
        values = values.where(torch.arange(rows.shape[-1], device=rows.device) < k, 0)
    return rows.new_zeros(rows.shape).scatter(-1, places, values).view(code.shape)


def largest_mask(code: Tensor, k: int) -> Tensor:
    """A mask of the k largest entries of each row (of each channel) of code[B,D] or [B,C,H,W]."""
    rows = code.flatten(2) if code.dim() > 2 else code
    mask = rows.new_zeros(rows.shape).bool().scatter(-1, rows.topk(k, dim=-1).indices, True)
    return mask.view(code.shape)


def keep_winners(code: Tensor, fraction: float, among: Tensor | None = None) -> Tensor:
    """code[B,D] or [B,C,H,W] with only the largest ``fraction`` of each unit's entries; the others are zero.

    ``among``: a mask of the entries that may be kept; ``fraction`` still refers to all entries.
    """
    ranked = code if among is None else code.masked_fill(~among, -math.inf)
    units = ranked.transpose(0, 1).flatten(1)
    values, places = units.topk(max(1, round(fraction * units.shape[1])), dim=1)
    winners = units.new_zeros(units.shape).scatter(1, places, values)
    winners = winners.masked_fill(winners == -math.inf, 0)
    return winners.view(code.transpose(0, 1).shape).transpose(0, 1)
