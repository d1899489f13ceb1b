"""The modules that the options of ``thresholds`` build, with their weights and buffers."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from aerun.base.activation import activation, at_least_float32
from aerun.contracts import Pass, Penalty, Shape, Sparsity, Terms


class BatchTopK(nn.Module, Sparsity):
    """See ``thresholds.BatchTopK``. The threshold is part of the weights: loaded models select as the run did."""

    threshold: Tensor
    steps: Tensor

    def __init__(self, k: int, decay: float, activation: str) -> None:
        super().__init__()
        self.k, self.decay, self.activation = k, decay, activation
        self.register_buffer("threshold", torch.zeros(()))
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, features: Tensor, training: bool) -> tuple[Tensor, Terms]:
        """features[B,...] -> code of the same shape, no penalty."""
        code = activation(self.activation)(features)
        if not training:
            return code.where(code >= self.threshold, 0), []
        smallest = code.detach().flatten().topk(self.k * len(code)).values[-1]
        kept = code.where(code >= smallest, 0)
        self._update(kept.detach())
        return kept, []

    @torch.no_grad()
    def _update(self, kept: Tensor) -> None:
        """Move the threshold to the smallest nonzero value, if there is one: a plain average first, a running one
        later."""
        smallest = kept.where(kept != 0, math.inf).amin().to(self.threshold.dtype)
        found = smallest.isfinite()
        self.steps += found
        share = (1 / self.steps.clamp_min(1)).clamp_min(1 - self.decay)
        self.threshold.lerp_(smallest.where(found, self.threshold), share)


class Matryoshka(BatchTopK):
    """See ``thresholds.Matryoshka``. ``sizes``: the units of each prefix."""

    schedulable = ("weight",)

    def __init__(self, k: int, decay: float, activation: str, sizes: list[int], weight: float) -> None:
        super().__init__(k, decay, activation)
        self.sizes, self.weight = sizes, weight

    def penalties(self, run: Pass) -> Terms:
        units = torch.arange(run.code.shape[1], device=run.code.device).view(-1, *[1] * (run.code.dim() - 2))
        errors = [run.error(run.code.where(units < size, 0)) for size in self.sizes]
        return [Penalty("prefixes", torch.stack(errors).sum(), self.weight)]


class JumpReLU(nn.Module, Sparsity):
    """See ``thresholds.JumpReLU``."""

    rowwise = True
    fixes_activation = True
    penalty = "l0"
    schedulable = ("weight",)

    def __init__(self, weight: float, threshold: float, bandwidth: float, activation: str, code_shape: Shape) -> None:
        super().__init__()
        self.weight, self.bandwidth, self.activation = weight, bandwidth, activation
        self.log_threshold = nn.Parameter(_per_unit(code_shape, math.log(threshold)))

    def forward(self, features: Tensor, training: bool) -> tuple[Tensor, Terms]:
        """features[B,D] or [B,C,H,W] -> code of the same shape, penalty ``l0``."""
        values = at_least_float32(features)
        threshold = self.log_threshold.exp()
        fixed = threshold.detach()
        active = (values > fixed).to(values.dtype)
        # ``change`` is zero, with the gradient of the threshold: times a slope, it adds that slope alone.
        change = threshold - fixed
        slope = (((values.detach() - fixed) / self.bandwidth).abs() <= 0.5).to(values.dtype) / -self.bandwidth
        code = values * active + (slope * fixed) * change
        count = active + slope * change
        return code.to(features.dtype), [Penalty("l0", count.flatten(1).sum(1).mean(), self.weight)]


class Gated(nn.Module, Sparsity):
    """See ``thresholds.Gated``."""

    rowwise = True
    fixes_activation = True
    penalty = "gate_l1"
    schedulable = ("weight",)

    def __init__(self, weight: float, activation: str, code_shape: Shape) -> None:
        super().__init__()
        self.weight, self.activation = weight, activation
        self.log_scale = nn.Parameter(_per_unit(code_shape, 0.0))
        self.bias = nn.Parameter(_per_unit(code_shape, 0.0))

    def forward(self, features: Tensor, training: bool) -> tuple[Tensor, Terms]:
        """features[B,D] or [B,C,H,W], the gate -> code of the same shape, penalty ``gate_l1``."""
        values = at_least_float32(features)
        code = (self.log_scale.exp() * values + self.bias).relu().where(values > 0, 0)
        return code.to(features.dtype), [Penalty("gate_l1", values.relu().flatten(1).sum(1).mean(), self.weight)]

    def penalties(self, run: Pass) -> Terms:
        gate = run.features.relu()
        return [Penalty("gate_reconstruction", run._replace(decoder=_frozen(run.decoder)).error(gate), 1.0)]


def _per_unit(code_shape: Shape, value: float) -> Tensor:
    """A value for each unit of a vector, or for each channel of maps, that broadcasts over positions."""
    return torch.full((code_shape[0], *[1] * (len(code_shape) - 1)), value)


def _frozen(decoder: Any) -> Any:
    """The decoder with weights that get no gradient, and with copies of its buffers."""
    weights = {name: value.detach() for name, value in decoder.named_parameters()}
    weights |= {name: value.clone() for name, value in decoder.named_buffers()}
    return lambda code: functional_call(decoder, weights, (code,))
