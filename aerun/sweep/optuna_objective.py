"""What a search optimizes: its metrics, and which direction of each is better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from aerun.errors import nearest
from aerun.metrics.declared import BY_NAME, NONE, Metrics, find_metric

Direction = Literal["minimize", "maximize"]
METRIC_KEY, DIRECTION_KEY = "hydra.sweeper.metric", "hydra.sweeper.direction"


@dataclass(frozen=True)
class Objective:
    """A metric and its better direction. ``note``: what the user should know about them, in one line."""

    metric: str
    direction: Direction
    note: str | None = None


def objectives(
    metrics: Sequence[str], directions: Sequence[Direction | None], declared: Metrics = NONE
) -> list[Objective]:
    """The objectives of a search. A direction of None is the declared one. ``declared``: by the parts of its runs."""
    return [_objective(metric, given, declared) for metric, given in zip(metrics, directions, strict=True)]


def _objective(name: str, given: Direction | None, declared: Metrics) -> Objective:
    metric = find_metric(name, declared)
    if metric is None:
        hint = nearest(name.rpartition("/")[2], [*declared, *BY_NAME])
        assumed = "" if given else f"; lower is better, unless {DIRECTION_KEY}=maximize"
        note = f"{METRIC_KEY}={name}: nothing declares this metric.{hint} The search fails if runs lack it{assumed}"
        return Objective(name, given or "minimize", note)
    better: Direction = "maximize" if metric.higher_is_better else "minimize"
    if given is None or given == better:
        return Objective(name, better)
    word = "higher" if metric.higher_is_better else "lower"
    note = f"{DIRECTION_KEY}={given}: {word} is better for {name}; use {DIRECTION_KEY}={better}"
    return Objective(name, given, note)
