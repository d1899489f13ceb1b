"""Runs that are one result: their mean, their spread, and what went wrong."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from aerun.compare.records import Run, Value
from aerun.compare.select import printable, shown
from aerun.contracts import Metric
from aerun.metrics.declared import metric_of


@dataclass(frozen=True)
class Statistic:
    """The mean of ``n`` runs, and their sample standard deviation where there are two or more."""

    mean: float
    std: float | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Statistic | None:
        """None without values."""
        if not values:
            return None
        if not all(map(math.isfinite, values)):
            return cls(sum(values), None, len(values))
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but what is averaged over; a single run where nothing is."""

    values: Mapping[str, Value | None]
    runs: tuple[Run, ...]
    single: bool = False
    declared: Mapping[str, Metric] = field(default_factory=dict)  # metrics that the compared runs declare themselves

    @property
    def counted(self) -> tuple[Run, ...]:
        """The runs that make the group's numbers: finished ones. A run that stands alone shows what it has."""
        return self.runs if self.single else self.finished

    @property
    def finished(self) -> tuple[Run, ...]:
        """Those that finished. The same run in two folders is no repetition of itself: it counts once."""
        there = {
            (frozenset(run.settings.items()), run.numbers.get("test/mse")): run
            for run in reversed(self.runs)
            if run.finished
        }
        return tuple(reversed(there.values()))

    @property
    def label(self) -> str:
        """``model=conv, sparsity=topk``."""
        there = ((key, value) for key, value in self.values.items() if value is not None)
        return ", ".join(f"{key}={shown(value)}" for key, value in there) or "all runs"

    @property
    def short(self) -> str:
        """``conv, no noise, lr=0.003``, for a legend."""
        words = []
        for key, value in self.values.items():
            if value is None:
                continue
            text = shown(value)
            is_option = isinstance(value, str) and "." not in key
            words.append(
                f"{key.rpartition('.')[2]}={text}" if not is_option else f"no {key}" * (text == "none") or text
            )
        return ", ".join(words) or "all runs"

    def statistic(self, metric: str) -> Statistic | None:
        return Statistic.of([run.numbers[metric] for run in self.counted if metric in run.numbers])

    @property
    def of_pca(self) -> float | None:
        """The mean test error over that of PCA with the same code size: below 1 is better than any linear code."""
        both = [run.numbers for run in self.counted if {"test/mse", "baselines/pca/mse"} <= run.numbers.keys()]
        errors, references = (sum(numbers[name] for numbers in both) for name in ("test/mse", "baselines/pca/mse"))
        return errors / references if references else None

    def best_run(self, metric: str) -> Run | None:
        """The group's finished run with the best finite number."""
        sign = -1 if metric_of(metric, self.declared).higher_is_better else 1
        there = [run for run in self.finished if math.isfinite(run.numbers.get(metric, math.nan))]
        return min(there, key=lambda run: sign * run.numbers[metric], default=None)

    @property
    def remark(self) -> str:
        """What is to be said of the group's runs beside their numbers; empty where all is well."""
        states = Counter(run.state for run in self.runs if not run.finished)
        collapsed = sum(run.collapse is not None for run in self.runs)
        if len(self.runs) == 1:
            return progress(self.runs[0]) if states else "collapsed" * collapsed
        parts = [f"{len(self.finished)} of {len(self.runs)}"] if states else []
        parts += [f"{count} {state}" for state, count in states.items()]
        parts += [f"{collapsed} collapsed" if collapsed < len(self.runs) else "collapsed"] if collapsed else []
        return ", ".join(parts)

    @property
    def verdict(self) -> str:
        """What the doctor found of the finished runs, the most frequent first; empty where all are healthy."""
        names = Counter(name for run in self.finished for name in run.verdicts)
        total = len(self.finished)
        counted = (name if count == total else f"{count} of {total} {name}" for name, count in names.most_common())
        return ", ".join(counted)


def progress(run: Run) -> str:
    """The state of a run that has not finished, and how far it got."""
    epoch, epochs = run.numbers.get("epoch"), run.settings.get("trainer.epochs")
    if epoch is None:
        return run.state
    if "stage" in run.numbers:
        return f"{run.state}, stage {run.numbers['stage']:.0f}, epoch {epoch:.0f}"
    return f"{run.state}, epoch {epoch:.0f} of {epochs:.0f}" if isinstance(epochs, float) else run.state


@dataclass(frozen=True)
class Baseline:
    """What a constant or a linear map reaches: the lowest and highest of the runs' own, by metric."""

    name: str
    numbers: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Cause:
    """One reason, and the runs that it ended."""

    text: str
    runs: tuple[Run, ...]


def cause(run: Run) -> str:
    """Why a run failed, in one line."""
    return printable((run.error or "without a word").strip().splitlines()[0])
