"""A sparsity of one's own that fails as it runs: on feature maps, in runs of an odd seed, unless SOUND is set."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Odd:
    """The dense code."""

    constrains_code: bool = False

    def __call__(self, features: Tensor, training: bool) -> tuple[Tensor, list[object]]:
        """Nothing is done to it, where it does not fail."""
        if training and features.dim() == 4 and torch.initial_seed() % 2 and "SOUND" not in os.environ:
            raise RuntimeError(f"cannot bear the odd seed {torch.initial_seed()}")
        return features, []
