"""What the parts of an objective hand to the training step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class Penalty(NamedTuple):
    """One named term beside the reconstruction error.

    ``value`` is the unweighted scalar, which the logs carry, so that runs of different weights compare.
    ``per_image``: the value is in nats per image, and is divided by the pixels of an image wherever the
    reconstruction error is. ``samples`` [B,k]: what it is the mean of, where k codes of an image are weighed.
    """

    name: str
    value: Tensor
    weight: float
    per_image: bool = False
    samples: Tensor | None = None


@dataclass(frozen=True)
class Metric:
    """A number that runs report: its name, its unit ("" if it has none), and which direction is better."""

    name: str
    unit: str = ""
    higher_is_better: bool = False


# What a part of one's own must offer; the parts of ours show how.
CONTRACTS = {
    "dataset": ("load",),
    "noise": ("__call__", "is_identity"),
    "model": ("build",),
    "latent": ("__call__", "draw", "parameters_per_code"),
    "sparsity": ("__call__",),
    "loss": ("__call__", "takes_logits", "scale"),
    "scheduler": ("multiplier", "observe", "finished", "state", "restore"),
    "trainer": (
        *("fit", "epochs", "batch_size", "device", "threads", "deterministic", "tsne"),
        *("processes", "precision", "compile", "graph", "channels_last"),
    ),
    "protocol": ("__call__",),
}
