"""Distributions of values that are rounded: learned ones, and Laplace's."""

from __future__ import annotations

import math
from itertools import pairwise, zip_longest

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FILTERS = (3, 3, 3)  # of the cumulative distribution
SMALLEST = 1e-9  # a difference


class Density(nn.Module):
    """Learned distributions, one for each of ``qualities`` and ``channels``: Balle et al. 2018, appendix 6.1.

    c(x) = sigmoid(f_4(f_3(f_2(f_1(x))))), f_k(x) = g_k(softplus(H_k) x + b_k), g_k(x) = x + tanh(a_k) tanh(x), and f_4
    without g.
    """

    def __init__(self, qualities: int, channels: int, spread: float) -> None:
        super().__init__()
        self.channels = channels
        widths = (1, *FILTERS, 1)
        scale = spread ** (1 / (len(widths) - 1))
        self.matrices, self.biases, self.factors = nn.ParameterList(), nn.ParameterList(), nn.ParameterList()
        for inputs, outputs in pairwise(widths):
            first = math.log(math.expm1(1 / scale / outputs))
            self.matrices.append(torch.full((qualities, channels, outputs, inputs), first))
            self.biases.append(torch.rand(qualities, channels, outputs, 1) - 0.5)
        for outputs in FILTERS:
            self.factors.append(torch.zeros(qualities, channels, outputs, 1))

    def log_likelihood(self, values: Tensor, quality: Tensor) -> Tensor:
        """values[B,C,N], quality[B] -> log P of the interval of width 1 around each value, in nats."""
        lower, upper = self._logits(values - 0.5, quality), self._logits(values + 0.5, quality)
        # log(sigmoid(u) - sigmoid(l)), as a sum that is exact in both tails.
        between = (upper - lower).clamp_min(SMALLEST)
        return F.logsigmoid(upper) + F.logsigmoid(-lower) + (-torch.expm1(-between)).log()

    def _logits(self, values: Tensor, quality: Tensor) -> Tensor:
        x = values.unsqueeze(2)  # [B,C,1,N]
        for matrix, bias, factor in zip_longest(self.matrices, self.biases, self.factors):
            x = F.softplus(matrix[quality]) @ x + bias[quality]
            if factor is not None:
                x = x + factor[quality].tanh() * x.tanh()
        return x.squeeze(2)


def laplace_log_likelihood(offset: Tensor, scale: Tensor) -> Tensor:
    """log P of the interval of width 1 around each offset from the middle of a Laplace distribution, in nats."""
    distance, half = offset.abs(), 0.5 / scale
    # Without the middle: exp(-distance / scale) sinh(half). With it: 1 - exp(-half) cosh(distance / scale).
    outside = (half - distance / scale) + torch.log(-0.5 * torch.expm1(-2 * half))
    within = torch.log1p(-torch.exp(-half) * torch.cosh(distance.clamp_max(0.5) / scale))
    return outside.where(distance > 0.5, within)
