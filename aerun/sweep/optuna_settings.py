"""The settings of a search: the node ``hydra.sweeper`` of ``hydra/sweeper=optuna``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from aerun.contracts import Count, NonNegativeInt, Seed
from aerun.sweep.optuna_objective import Direction


@dataclass(frozen=True, kw_only=True)
class OptunaSettings:
    """A study of ``trials`` trials, stored in the sweep's folder as study.log.

    ``metric``: of the best epoch in metrics.jsonl (``validation/mse``, which does not include penalties), or in the
    summary (``best_loss``); a list of several makes the result a Pareto front. ``direction``: of each metric; None for
    the one that the metric declares. ``pruner``: stops a trial that is worse than earlier ones at the same epoch, but
    never within its first ``warmup_epochs``, nor before ``startup_trials`` trials have ended. Keys in ``crossed`` are
    not searched: a trial has one run for each of their values, its result is their mean, and only the first can be
    pruned.
    """

    trials: Count
    metric: str | list[str]
    direction: Direction | list[Direction] | None
    sampler: Literal["tpe", "random", "gp", "nsgaii"]
    pruner: Literal["median", "hyperband", "none"]
    startup_trials: NonNegativeInt
    warmup_epochs: NonNegativeInt
    seed: Seed
    crossed: list[str]

    def __post_init__(self) -> None:
        metrics = self.metrics
        if not metrics or len(set(metrics)) < len(metrics):
            raise ValueError(f"metric=[{','.join(metrics)}]: must be one metric, or several different ones")
        if isinstance(self.direction, list) and len(self.direction) != len(metrics):
            raise ValueError(
                f"direction=[{','.join(self.direction)}]: must be one for each of {len(metrics)} metrics, or null"
            )
        if self.is_pruned and not metrics[0].startswith(("validation/", "train/")):
            raise ValueError(
                f"metric={metrics[0]}: is not known during training; use hydra.sweeper.pruner=none or validation/…"
            )

    @property
    def metrics(self) -> list[str]:
        """All metrics."""
        return [self.metric] if isinstance(self.metric, str) else self.metric

    @property
    def directions(self) -> Sequence[Direction | None]:
        """The direction of each metric, as far as it is given."""
        return self.direction if isinstance(self.direction, list) else [self.direction] * len(self.metrics)

    @property
    def is_pruned(self) -> bool:
        """Whether unpromising runs are stopped. With several metrics no run is worse than others before its end."""
        return self.pruner != "none" and len(self.metrics) == 1
