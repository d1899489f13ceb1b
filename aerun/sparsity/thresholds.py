"""Sparsities of sparse dictionary learning, each with a threshold of its own: of the batch, of each unit, or of a gate.

Each is an option whose ``build`` returns the module of its name in ``threshold_modules``, with weights or buffers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal

from aerun.contracts import Activation, Count, Decay, Fraction, Metric, NonNegative, Positive, Shape, Sparsity


@dataclass(frozen=True)
class _Built(Sparsity):
    """An option whose code comes from the module that it builds."""

    def __call__(self, features: Any, training: bool) -> Any:
        raise NotImplementedError("build(code_shape) returns the module that computes codes")


@dataclass(frozen=True)
class BatchTopK(_Built):
    """Keeps the k B largest values of a minibatch of B images: Bussmann, Leask & Nanda 2024 (arXiv:2412.06410).

    An image may have more or fewer than ``k``; on feature maps ``k`` counts all values of an image's maps. Evaluated
    images must not depend on each other: there the values above a threshold are kept, the average over
    minibatches of the smallest nonzero value that each kept; ``decay`` is that of the running average.
    """

    k: Count
    decay: Decay
    activation: Activation

    def check_settings(self, settings: Any) -> None:
        size = settings.model.code_size
        if size is not None and self.k > size:
            raise ValueError(f"sparsity.k={self.k} is larger than the code size, model.code_size={size}")

    def check_code(self, code_shape: Shape) -> None:
        if self.k > math.prod(code_shape):
            raise ValueError(f"sparsity.k={self.k}: the code of shape {list(code_shape)} has fewer values")

    def build(self, code_shape: Shape) -> Any:
        from aerun.sparsity.threshold_modules import BatchTopK

        return BatchTopK(self.k, self.decay, self.activation)


@dataclass(frozen=True)
class Matryoshka(BatchTopK):
    """BatchTopK whose nested prefixes reconstruct, too: Bussmann, Nabeshima, Karvonen & Nanda 2025 (arXiv:2503.17547).

    sum over m in M of |x - decoder(code_1..m, 0)|^2, in the units of the run's loss. M are the shares ``prefixes`` of
    the units (at least one), and all units, whose term is the reconstruction error itself; ``weight`` is a factor on
    the others, 1 in the paper. The first units learn general features. A unit of feature maps is a channel.
    """

    prefixes: list[Fraction]
    weight: NonNegative
    schedulable = ("weight",)
    metrics = (Metric("prefixes"),)

    def __post_init__(self) -> None:
        if not self.prefixes or self.prefixes[-1] >= 1 or any(a >= b for a, b in pairwise(self.prefixes)):
            raise ValueError(f"prefixes={self.prefixes}: must be ascending shares of the units, below 1")

    def sizes(self, units: int) -> list[int]:
        """The units of each prefix."""
        return sorted({max(1, round(share * units)) for share in self.prefixes} - {units})

    def check_code(self, code_shape: Shape) -> None:
        super().check_code(code_shape)
        if code_shape[0] == 1:
            raise ValueError("a code of one unit has no prefixes")

    def build(self, code_shape: Shape) -> Any:
        from aerun.sparsity.threshold_modules import Matryoshka

        return Matryoshka(self.k, self.decay, self.activation, self.sizes(code_shape[0]), self.weight)


@dataclass(frozen=True)
class _PenalizedReLU(_Built):
    """A ReLU with learned parameters of each unit, whose number of active units a penalty of ``weight`` reduces."""

    weight: NonNegative
    rowwise: ClassVar[bool] = True
    fixes_activation: ClassVar[bool] = True
    schedulable = ("weight",)


@dataclass(frozen=True)
class JumpReLU(_PenalizedReLU):
    """Keeps features above the unit's learned threshold: Rajamanoharan et al. 2024b (arXiv:2407.14435).

    code = f H(f - theta), and the penalty L0 = sum_j H(f_j - theta_j), a mean over images. H is
    a step; its straight-through derivatives are those of a kernel K, one on [-1/2, 1/2]:
    d code / d theta = -theta/eps K((f - theta) / eps) and dH / d theta = -1/eps K((f - theta) / eps), with eps =
    ``bandwidth``. ``threshold`` is the initial theta, which stays positive: the parameter is log theta. On feature maps
    a channel has one threshold.
    """

    threshold: Positive
    bandwidth: Positive
    activation: Literal["relu"]
    penalty: ClassVar[str] = "l0"
    metrics = (Metric("l0", "units per image"),)

    def build(self, code_shape: Shape) -> Any:
        from aerun.sparsity.threshold_modules import JumpReLU

        return JumpReLU(self.weight, self.threshold, self.bandwidth, self.activation, code_shape)


@dataclass(frozen=True)
class Gated(_PenalizedReLU):
    """A gate decides which units are active, a magnitude how much: Rajamanoharan et al. 2024a (arXiv:2404.16014).

    code = H(g) ReLU(exp(r) g + b), with the gate g, the encoder's features, and learned r and b for
    each unit (each channel of feature maps). b stands for b_mag - exp(r) b_gate: the features contain the gate's bias.
    Penalties: ``weight`` times sum_j ReLU(g_j), a mean over images, and the reconstruction error of ReLU(g)
    by a frozen copy of the decoder, in the units of the run's loss.
    """

    activation: Literal["relu"]
    penalty: ClassVar[str] = "gate_l1"
    metrics = (Metric("gate_l1"), Metric("gate_reconstruction"))

    def check_settings(self, settings: Any) -> None:
        if settings.model.tied:
            raise ValueError(
                "model.tied=true and sparsity=gated: the gate is trained with a frozen copy of the decoder, whose "
                "weights must not be the encoder's; use model.decoder_init=transpose"
            )

    def build(self, code_shape: Shape) -> Any:
        from aerun.sparsity.threshold_modules import Gated

        return Gated(self.weight, self.activation, code_shape)
