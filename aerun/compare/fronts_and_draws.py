"""The Pareto front of the rows in two metrics, and the expected best of several runs of a row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from aerun.compare.groups import Group
from aerun.compare.seed_statistics import expected_best
from aerun.errors import ConfigError


def mark_front(groups: Sequence[Group], metrics: Sequence[str], higher_is_better: Sequence[bool]) -> list[Group]:
    """The groups, with ``on_front`` for those that no other one surpasses in a metric without falling behind in
    another. Groups without a finite mean of every metric are not on the front."""
    signs = [-1 if higher else 1 for higher in higher_is_better]
    costs: list[tuple[float, ...] | None] = []
    for group in groups:
        means = [number.mean for metric in metrics if (number := group.statistic(metric)) is not None]
        known = len(means) == len(metrics) and all(map(math.isfinite, means)) and bool(group.finished)
        costs.append(tuple(sign * mean for sign, mean in zip(signs, means, strict=True)) if known else None)
    others = [cost for cost in costs if cost is not None]
    return [
        replace(group, on_front=cost is not None and not any(_dominates(other, cost) for other in others))
        for group, cost in zip(groups, costs, strict=True)
    ]


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether one is at least as low everywhere and not the same."""
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def with_expected_best(
    groups: Sequence[Group], draws: Sequence[int], metric: str, higher_is_better: bool
) -> list[Group]:
    """The groups with the expected best of so many of their runs, as far as they have so many. ConfigError for a number
    that none has."""
    if any(group.single for group in groups):
        raise ConfigError("--expected-best: draws runs of a row; leave out --no-group, and use --group-by")
    drawn = [drawn_values(group, metric, higher_is_better) for group in groups]
    if max(draws) > (most := max(map(len, drawn))):
        raise ConfigError(
            f"--expected-best {max(draws)}: must be at most {most}, the runs of the largest row; "
            "--group-by KEY joins the runs that differ only in other keys, such as those that a search has drawn"
        )
    return [
        replace(
            group,
            expected_best={m: expected_best(values, m, higher_is_better) for m in draws if m <= len(values)},
        )
        for group, values in zip(groups, drawn, strict=True)
    ]


def drawn_values(group: Group, metric: str, higher_is_better: bool) -> list[float]:
    """The metric of each finished run, and the worst of these for each run that failed or has no finite value: a search
    would have paid for it as well."""
    found = [run.numbers.get(metric, math.nan) for run in group.finished]
    values = [value for value in found if math.isfinite(value)]
    if not values:
        return []
    lost = len(found) - len(values) + sum(run.failed for run in group.runs)
    return values + [min(values) if higher_is_better else max(values)] * lost
