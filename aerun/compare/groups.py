"""Groups of runs: their numbers over seeds, and their failures."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from aerun.compare.records import Run, Value
from aerun.compare.seed_statistics import PairedDifference, Statistic
from aerun.compare.setting_text import format_setting, printable
from aerun.metrics.declared import Metrics, metric_of

BASELINES = {"mean_image": "mean image", "pca": "PCA", "linear": "best linear map"}


@dataclass(frozen=True)
class Group:
    """Runs that differ only in the keys that are averaged over. ``single``: one run that is not averaged.

    What was asked for: ``paired``, the difference from the baseline row; ``expected_best``, by number of draws;
    ``on_front``, whether it is on the Pareto front.
    """

    values: Mapping[str, Value | None]
    runs: tuple[Run, ...]
    single: bool = False
    declared: Metrics = field(default_factory=dict)  # metrics that the compared runs declare themselves
    paired: PairedDifference | None = None
    expected_best: Mapping[int, float] = field(default_factory=dict)
    on_front: bool | None = None

    @property
    def measured(self) -> tuple[Run, ...]:
        """The runs whose numbers are shown: the finished ones; a single run in any state."""
        return self.runs if self.single else self.finished

    @property
    def finished(self) -> tuple[Run, ...]:
        """The finished runs. Copies of one run in several folders count once."""
        distinct = {
            (frozenset(run.settings.items()), run.numbers.get("test/mse")): run
            for run in reversed(self.runs)
            if run.finished
        }
        return tuple(reversed(distinct.values()))

    @property
    def label(self) -> str:
        """``model=conv, sparsity=topk``."""
        known = ((key, value) for key, value in self.values.items() if value is not None)
        return ", ".join(f"{key}={format_setting(value)}" for key, value in known) or "all runs"

    @property
    def words(self) -> tuple[str, ...]:
        """Its values for charts: ``conv``, ``no noise``, ``lr=0.003``."""
        words = []
        for key, value in self.values.items():
            if value is None:
                continue
            text = format_setting(value)
            is_option = isinstance(value, str) and "." not in key
            words.append(
                f"{key.rpartition('.')[2]}={text}" if not is_option else f"no {key}" * (text == "none") or text
            )
        return tuple(words) or ("all runs",)

    def statistic(self, metric: str) -> Statistic | None:
        """The mean of a metric over the group's runs; None if no run has it."""
        return Statistic.from_values([run.numbers[metric] for run in self.measured if metric in run.numbers])

    @property
    def mse_over_pca(self) -> float | None:
        """The test error divided by that of PCA with the same code size; below 1 is better than any linear code."""
        both = [run.numbers for run in self.measured if {"test/mse", "baselines/pca/mse"} <= run.numbers.keys()]
        errors, references = (sum(numbers[name] for numbers in both) for name in ("test/mse", "baselines/pca/mse"))
        return errors / references if references else None

    def best_run(self, metric: str) -> Run | None:
        """The finished run with the best finite value of the metric; None if there is none."""
        sign = -1 if metric_of(metric, self.declared).higher_is_better else 1
        measured = [run for run in self.finished if math.isfinite(run.numbers.get(metric, math.nan))]
        return min(measured, key=lambda run: sign * run.numbers[metric], default=None)

    @property
    def state(self) -> str:
        """Unfinished and collapsed runs, in words; empty if all runs finished and none collapsed."""
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
        """The doctor's verdicts on the finished runs, the most frequent first; empty if all are healthy."""
        names = Counter(name for run in self.finished for name in run.verdicts)
        total = len(self.finished)
        counted = (name if count == total else f"{count} of {total} {name}" for name, count in names.most_common())
        return ", ".join(counted)


def progress(run: Run) -> str:
    """The state of an unfinished run, and the last epoch that it reached."""
    epoch, epochs = run.numbers.get("epoch"), run.settings.get("trainer.epochs")
    if epoch is None:
        return run.state
    if "stage" in run.numbers:
        return f"{run.state}, stage {run.numbers['stage']:.0f}, epoch {epoch:.0f}"
    return f"{run.state}, epoch {epoch:.0f} of {epochs:.0f}" if isinstance(epochs, float) else run.state


@dataclass(frozen=True)
class Baseline:
    """The results of a constant or a linear map: the lowest and highest of all runs, by metric."""

    name: str
    numbers: Mapping[str, tuple[float, float]]


def collect_baselines(runs: Sequence[Run], metrics: Sequence[str]) -> list[Baseline]:
    """The baselines of the runs in these metrics; PCA separately for each number of components."""
    found: dict[tuple[int, float, str], dict[str, list[float]]] = {}
    for run in runs:
        for order, (name, label) in enumerate(BASELINES.items()):
            size = run.numbers.get("code_size", 0.0) if name == "pca" else 0.0
            text = f"{label}, {size:.0f} components" if size else label
            for metric in metrics:
                value = run.numbers.get(f"baselines/{name}/{metric.removeprefix('test/')}")
                if metric.startswith("test/") and value is not None:
                    found.setdefault((order, size, text), {}).setdefault(metric, []).append(value)
    return [
        Baseline(key[2], {metric: (min(values), max(values)) for metric, values in found[key].items()})
        for key in sorted(found)
    ]


@dataclass(frozen=True)
class Failure:
    """One cause of failure, and the runs that failed by it."""

    text: str
    runs: tuple[Run, ...]


def failure_cause(run: Run) -> str:
    """Why a run failed, in one line."""
    first, *_ = (run.error or "").strip().splitlines() or ["no error message recorded"]
    return printable(first)
