"""Parts of one's own that fail as they run, unless SOUND is set.

A sparsity fails on feature maps, in runs of an odd seed; the process of a protocol is killed.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import Any

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


@dataclass
class Deadly:
    """A number that it takes a living process to report."""

    def check_data(self, data: Any, autoencoder: Any) -> None:
        """It evaluates every model."""

    def __call__(self, subject: Any) -> dict[str, float]:
        """The number of test images."""
        if "SOUND" not in os.environ:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"survivors": float(len(subject.data.test))}
