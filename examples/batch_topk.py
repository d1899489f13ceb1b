"""A sparsity: images of one minibatch share out a number of nonzero values among themselves."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from aerun.base.activation import activation
from aerun.contracts import Activation, Count, Decay, Shape, Sparsity, Terms


class BatchTopK(nn.Module, Sparsity):
    """Keeps the k B largest values of a minibatch of B images: Bussmann, Leask & Nanda 2024, "BatchTopK Sparse
    Autoencoders" (arXiv:2412.06410).

    An image may have more or fewer than ``k``. Evaluated images must not depend on each other: there the values above a
    threshold are kept, the running average of the smallest value that a minibatch kept.
    """

    rowwise = False  # a row's values compete with those of all rows

    threshold: Tensor
    steps: Tensor

    def __init__(self, k: Count, activation: Activation, decay: Decay) -> None:
        super().__init__()
        self.k, self.activation, self.decay = k, activation, decay
        self.register_buffer("threshold", torch.zeros(()))
        self.register_buffer("steps", torch.zeros(()))

    def check_settings(self, settings: Any) -> None:
        size = settings.model.code_size
        if size is not None and self.k > size:
            raise ValueError(f"sparsity.k={self.k}: is more than model.code_size={size}")

    def check_code(self, code_shape: Shape) -> None:
        if self.k > math.prod(code_shape):
            raise ValueError(f"sparsity.k={self.k}: is more than the {math.prod(code_shape)} values of a code")

    def forward(self, features: Tensor, training: bool) -> tuple[Tensor, Terms]:
        """features[B,...] -> code of the same shape, no penalty."""
        code = activation(self.activation)(features)
        if not training:
            return code.where(code >= self.threshold, 0), []
        smallest = code.detach().flatten().topk(self.k * len(code)).values[-1]
        self.steps += 1
        # The average of all steps at first, later one that forgets.
        self.threshold.lerp_(smallest.to(self.threshold.dtype), (1 / self.steps).clamp_min(1 - self.decay))
        return code.where(code >= smallest, 0), []
