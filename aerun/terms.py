"""What the parts of an objective hand to the training step."""

from __future__ import annotations

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
