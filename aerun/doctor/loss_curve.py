"""The lines of metrics.jsonl -> what they show of the training."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from aerun.doctor.examination import Curve

DEAD_UNITS = "dead_units"  # of the code; for other layers followed by /LAYER
Line = Mapping[str, Any]


def measure_curve(lines: Sequence[Line], penalty: tuple[str, float] | None = None) -> Curve:
    """The curve of one training; for a run in stages that of its last part (see ``last_stage``).

    ``penalty``: name of the sparsity's penalty, and its weight in units of the loss.
    """
    lines = last_stage(lines)
    losses = _series(lines, "train/loss")
    later = losses[len(losses) // 2 :] if len(losses) >= 4 else losses
    changes = [after - before for before, after in pairwise(later)]
    monitored = _series(lines, "validation/loss")
    # Swings of the training loss do not matter if they are small compared with the validation loss.
    scale = max(
        (abs(statistics.fmean(part)) for part in (later, monitored[len(monitored) // 2 :]) if part), default=0.0
    )
    updates = _series(lines, "train/update_ratio")
    penalties = _penalty_ratios(lines, penalty)
    return Curve(
        epochs=len(losses),
        slope=_final_slope(lines, losses),
        fallen=_total_fall(_series(lines, "train/reconstruction") or losses),
        first_drop=_first_drop(lines),
        jump=statistics.fmean(max(0.0, change) for change in changes) / scale if changes and scale else None,
        ups=sum(change > 0 for change in changes) / len(changes) if changes else None,
        chance=_rise_by_chance(lines),
        rise=monitored[-1] / min(monitored) - 1 if monitored and min(monitored) > 0 else None,
        update=updates[0] if updates else None,
        first_penalty=penalties[0] if penalties else None,
        last_penalty=penalties[-1] if penalties else None,
        died=_epochs_of_death(lines),
    )


def last_stage(lines: Sequence[Line]) -> list[Line]:
    """The lines of a run's fine-tuning (all lines if it has no stages), or else those of its last stage, with the
    stage's prefix removed."""
    whole = [line for line in lines if "train/loss" in line]
    if whole or not lines:
        return whole
    prefix = f"stage{lines[-1].get('stage')}/"
    stage = ({name.removeprefix(prefix): value for name, value in line.items()} for line in lines)
    return [line for line in stage if "train/loss" in line]


def relative_slope(values: Sequence[float]) -> float | None:
    """The share by which the values fell in each of the last steps: a tenth of all steps, at least two."""
    steps = min(max(2, len(values) // 10), len(values) - 1)
    if steps < 1 or not values[-1] > 0 or not values[-1 - steps] > 0:
        return None
    return math.log(values[-1 - steps] / values[-1]) / steps


def _final_slope(lines: Sequence[Line], losses: Sequence[float]) -> float | None:
    """The slope of the validation error or of the training error, whichever is smaller.

    An error that falls on only one of them fluctuates for another reason, such as a sparsity that does nothing in
    evaluation.
    """
    errors = _series(lines, "validation/mse"), _series(lines, "train/reconstruction") or losses
    return min((slope for slope in map(relative_slope, errors) if slope is not None), default=None)


def _total_fall(errors: Sequence[float]) -> float | None:
    return 1 - errors[-1] / errors[0] if len(errors) > 1 and errors[0] > 0 else None


def _first_drop(lines: Sequence[Line]) -> float | None:
    """For a run of one epoch: how far the validation error at its end is below the mean training error."""
    if len(lines) != 1 or not {"train/reconstruction", "validation/reconstruction"} <= lines[0].keys():
        return None
    before, after = (float(lines[0][f"{part}/reconstruction"]) for part in ("train", "validation"))
    return 1 - after / before if before > 0 else None


def _rise_by_chance(lines: Sequence[Line]) -> float | None:
    """The mean rise of an epoch's mean loss, relative to its size, if minibatches were drawn independently.

    The mean absolute change R between minibatches is 2/sqrt(pi) standard deviations s. The mean of n has a deviation of
    s/sqrt(n), and the positive part of the difference of two such means a mean of s/sqrt(n*pi): R/(2*sqrt(n)).
    """
    roughness, steps = _series(lines, "train/loss_roughness"), _series(lines, "step")
    if not roughness or len(steps) < 2 or steps[-1] <= steps[0]:
        return None
    per_epoch = (steps[-1] - steps[0]) / (len(steps) - 1)
    return max(roughness[len(roughness) // 2 :]) / (2 * math.sqrt(per_epoch))


def _penalty_ratios(lines: Sequence[Line], penalty: tuple[str, float] | None) -> list[float]:
    """The weighted penalty over the reconstruction error of each epoch."""
    if penalty is None:
        return []
    name, weight = penalty
    logged = [line for line in lines if f"train/{name}" in line and line.get("train/reconstruction", 0) > 0]
    return [weight * line[f"train/{name}"] / line["train/reconstruction"] for line in logged]


def _epochs_of_death(lines: Sequence[Line]) -> dict[str, int]:
    """By layer, the first epoch since which at least nine units in ten were dead whenever they were measured."""
    epochs: dict[str, int] = {}
    for line in lines:
        for name, value in line.items():
            found = name.split("/")[1:]
            if not found or found[0] != DEAD_UNITS:
                continue
            layer = found[1] if len(found) > 1 else "code"
            if value < 0.9:
                epochs.pop(layer, None)
            else:
                epochs.setdefault(layer, int(line["epoch"]))
    return epochs


def _series(lines: Sequence[Line], name: str) -> list[float]:
    return [float(line[name]) for line in lines if name in line and math.isfinite(line[name])]
