"""No constraint, and penalties on the code's values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from aerun.base.activation import activation, at_least_float32
from aerun.contracts import Activation, NonNegative, OpenProbability, Penalty, Sparsity, Terms

if TYPE_CHECKING:
    from torch import Tensor

Constrained = tuple["Tensor", Terms]


@dataclass(frozen=True)
class NoSparsity(Sparsity):
    """The code is the features, after the code's nonlinearity."""

    activation: Activation
    constrains_code: ClassVar[bool] = False
    rowwise: ClassVar[bool] = True

    def __call__(self, features: Tensor, training: bool) -> Constrained:
        """features[B,D] or [B,C,H,W] -> code of the same shape, no penalty."""
        return activation(self.activation)(features), []

    def linear(self) -> NoSparsity:
        return replace(self, activation="identity")


@dataclass(frozen=True)
class L1(Sparsity):
    """A penalty on the code's absolute values: mean over the batch of sum_j |code_j|."""

    weight: NonNegative
    activation: Activation
    rowwise: ClassVar[bool] = True
    penalty: ClassVar[str] = "l1"
    schedulable = ("weight",)

    def __call__(self, features: Tensor, training: bool) -> Constrained:
        """features[B,D] or [B,C,H,W] -> code of the same shape, penalty ``l1``."""
        code = activation(self.activation)(features)
        return code, [Penalty(self.penalty, at_least_float32(code).abs().flatten(1).sum(1).mean(), self.weight)]


@dataclass(frozen=True)
class KL(Sparsity):
    """A penalty on each unit's mean activation q_j over the batch, for a sigmoid code in (0,1).

    sum_j rho log(rho/q_j) + (1-rho) log((1-rho)/(1-q_j)): Ng, "Sparse autoencoder" (CS294A lecture notes). On feature
    maps q_j is a channel's mean over the batch and all positions. q and 1-q are averaged separately, each from its own
    sigmoid, so that a unit near saturation still has a gradient. They are clamped at 1e-30, which gives a large finite
    value instead of infinity or NaN.
    """

    rho: OpenProbability
    weight: NonNegative
    activation: Literal["sigmoid"]
    fixes_activation: ClassVar[bool] = True
    penalty: ClassVar[str] = "kl_sparsity"
    schedulable = ("weight",)

    def __call__(self, features: Tensor, training: bool) -> Constrained:
        """features[B,D] or [B,C,H,W] -> code of the same shape, in (0,1), penalty ``kl_sparsity``."""
        code = activation(self.activation)(features)
        on, off = ((sign * at_least_float32(features)).sigmoid().transpose(0, 1).flatten(1).mean(1) for sign in (1, -1))
        on, off = on.clamp_min(1e-30), off.clamp_min(1e-30)
        divergence = self.rho * (self.rho / on).log() + (1 - self.rho) * ((1 - self.rho) / off).log()
        return code, [Penalty(self.penalty, divergence.sum(), self.weight)]
