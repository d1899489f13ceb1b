"""A sparsity with a weight of its own: a learned threshold that every value is shrunk by."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aerun.contracts import Diagnostic, Metric, Positive, Sparsity, Terms


class SoftThreshold(nn.Module, Sparsity):
    """sign(f) max(|f| - theta, 0): Gregor & LeCun 2010, "Learning Fast Approximations of Sparse Coding" (ICML).

    ``threshold`` is the initial theta. It stays positive, because the parameter is its logarithm.
    """

    rowwise = True  # a row's code depends on that row alone
    fixes_activation = True
    metrics = (Metric("threshold"),)

    def __init__(self, threshold: Positive) -> None:
        super().__init__()
        self.log_threshold = nn.Parameter(torch.tensor(threshold).log())

    def forward(self, features: Tensor, training: bool) -> tuple[Tensor, Terms]:
        """features[B,...] -> code of the same shape, no penalty."""
        threshold = self.log_threshold.exp()
        code = features - features.clamp(-threshold, threshold)
        return code, [Diagnostic("threshold", threshold)]
