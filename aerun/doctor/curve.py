"""The lines of metrics.jsonl -> what they tell of the training."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from aerun.doctor.examination import Curve

DEAD_UNITS = "dead_units"  # of the code; of another layer with its name
Line = Mapping[str, Any]


def curve_of(lines: Sequence[Line], penalty: tuple[str, float] | None = None) -> Curve:
    """``penalty``: name and weight of the sparsity's, in units of the loss. Of a run in stages those after the last
    stage count, or those of the last stage where there is no fine-tuning."""
    lines = last_stage(lines)
    losses = _series(lines, "train/loss")
    later = losses[len(losses) // 2 :] if len(losses) >= 4 else losses
    changes = [after - before for before, after in pairwise(later)]
    monitored = _series(lines, "validation/loss")
    # What an error on training images does that is small beside that on others is of no account.
    scale = max(
        (abs(statistics.fmean(part)) for part in (later, monitored[len(monitored) // 2 :]) if part), default=0.0
    )
    updates = _series(lines, "train/update_ratio")
    rough = _series(lines, "train/loss_roughness")
    shares = _penalties(lines, penalty)
    return Curve(
        epochs=len(losses),
        slope=_falling(lines, losses),
        fallen=_fallen(_series(lines, "train/reconstruction") or losses),
        first_drop=_first_drop(lines),
        jump=statistics.fmean(max(0.0, change) for change in changes) / scale if changes and scale else None,
        ups=sum(change > 0 for change in changes) / len(changes) if changes else None,
        roughness=max(rough[len(rough) // 2 :], default=None),
        rise=monitored[-1] / min(monitored) - 1 if monitored and min(monitored) > 0 else None,
        update=updates[0] if updates else None,
        last_update=updates[-1] if updates else None,
        first_penalty=shares[0] if shares else None,
        last_penalty=shares[-1] if shares else None,
        died=_died(lines),
    )


def last_stage(lines: Sequence[Line]) -> list[Line]:
    """Lines after the last stage of a greedy run, or those of the last stage, by the run's own names."""
    own = [line for line in lines if "train/loss" in line]
    if own or not lines:
        return own
    prefix = f"stage{lines[-1].get('stage')}/"
    stage = ({name.removeprefix(prefix): value for name, value in line.items()} for line in lines)
    return [line for line in stage if "train/loss" in line]


def slope(values: Sequence[float]) -> float | None:
    """By what share of themselves the values fell in each of the last steps: a tenth of all, at least two."""
    steps = min(max(2, len(values) // 10), len(values) - 1)
    if steps < 1 or not values[-1] > 0 or not values[-1 - steps] > 0:
        return None
    return math.log(values[-1 - steps] / values[-1]) / steps


def _falling(lines: Sequence[Line], losses: Sequence[float]) -> float | None:
    """The slope of the validation error or, where it is smaller, of the training images': an error that falls on one of
    them alone goes up and down for other reasons, as it does where a sparsity acts otherwise in evaluation."""
    errors = _series(lines, "validation/mse"), _series(lines, "train/reconstruction") or losses
    return min((fall for fall in map(slope, errors) if fall is not None), default=None)


def _fallen(errors: Sequence[float]) -> float | None:
    return 1 - errors[-1] / errors[0] if len(errors) > 1 and errors[0] > 0 else None


def _first_drop(lines: Sequence[Line]) -> float | None:
    """How far the validation error after the only epoch lies below the mean of that epoch: 0 where it does not fall."""
    if len(lines) != 1 or not {"train/reconstruction", "validation/reconstruction"} <= lines[0].keys():
        return None
    before, after = (float(lines[0][f"{part}/reconstruction"]) for part in ("train", "validation"))
    return 1 - after / before if before > 0 else None


def _penalties(lines: Sequence[Line], penalty: tuple[str, float] | None) -> list[float]:
    """The weighted penalty over the reconstruction error, epoch by epoch."""
    if penalty is None:
        return []
    name, weight = penalty
    there = [line for line in lines if f"train/{name}" in line and line.get("train/reconstruction", 0) > 0]
    return [weight * line[f"train/{name}"] / line["train/reconstruction"] for line in there]


def _died(lines: Sequence[Line]) -> dict[str, int]:
    died: dict[str, int] = {}
    for line in lines:
        for name, value in line.items():
            found = name.split("/")[1:]
            if not found or found[0] != DEAD_UNITS:
                continue
            layer = found[1] if len(found) > 1 else "code"
            if value < 0.9:
                died.pop(layer, None)
            else:
                died.setdefault(layer, int(line["epoch"]))
    return died


def _series(lines: Sequence[Line], name: str) -> list[float]:
    return [float(line[name]) for line in lines if name in line and math.isfinite(line[name])]
