"""Why a number is not finite, from the inputs and from how far the weights have moved, and what to try."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from aerun.dataset.data import as_float, head
from aerun.errors import DivergedError
from aerun.training.parts import Parts

EXAMINED_IMAGES = 256
LARGE_INPUT = 100.0  # images are in [0,1], standardized inputs around 0
SMALL_CHANGE = 1e-3  # of the weights by one update, relative to their size: too little to make the loss infinite
GOOD_CHANGE = 0.03  # of the weights by one update at the beginning of a training


def divergence(parts: Parts, what: str, updates: int, changes: Sequence[float] = ()) -> DivergedError:
    """The error for a number that is not finite.

    ``what``: the number, and where it occurred. ``updates``: how many updates the weights have had. ``changes``: the
    relative changes of the weights by the recorded ones, see ``History``. The text ends in ``; try`` and what may help.
    """
    rate = float(parts.optimizer.param_groups[0]["initial_lr"])
    kept = "; earlier checkpoints are kept" if updates else ""
    if updates and not (changes and max(changes) < SMALL_CHANGE):
        if changes and changes[0] > GOOD_CHANGE:
            factor = min(0.1, GOOD_CHANGE / changes[0])
            what += f". The first update changed the weights by {changes[0]:.2g} times their size"
        else:
            factor = 0.1
        return DivergedError(f"{what}{kept}; try optimizer.lr={rate * factor:.2g}")
    seen = "Nothing was updated before" if not updates else f"Updates changed the weights by at most {max(changes):.2g}"
    low, high = input_range(parts)
    if max(abs(low), abs(high)) <= LARGE_INPUT:
        return DivergedError(
            f"{what}. {seen}, and the inputs of the encoder lie in [{low:.3g}, {high:.3g}]: the initial "
            f"weights or the loss are the cause{kept}; try smaller initial weights, or another loss"
        )
    remedy = "dataset.normalize=standardise"
    if parts.loss.needs_unit_range:
        remedy = "loss=mse " + remedy
    if parts.autoencoder.output_activation is not torch.positive:
        remedy += " model.output_activation=identity"
    return DivergedError(f"{what}. {seen}: the inputs range from {low:.3g} to {high:.3g}{kept}; try {remedy}")


def input_range(parts: Parts) -> tuple[float, float]:
    """The smallest and the largest value that the encoder gets of the first training images."""
    with torch.no_grad():
        images = parts.autoencoder.standardise_input(as_float(head(parts.data.train, EXAMINED_IMAGES).inputs[:]))
    low, high = float(images.min()), float(images.max())
    return (low, high) if math.isfinite(low) and math.isfinite(high) else (-math.inf, math.inf)
