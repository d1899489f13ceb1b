"""Compare runs: find the keys that varied, average over seeds, and sort."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from aerun.compare.fronts_and_draws import mark_front, with_expected_best
from aerun.compare.groups import Baseline, Failure, Group, collect_baselines, failure_cause
from aerun.compare.paired import pair_with_baseline
from aerun.compare.records import Run
from aerun.compare.selection import (
    DEFAULT_METRICS,
    check_direction,
    check_keys,
    declared_metrics,
    default_metrics,
    number_names,
    resolve_metrics,
    select_runs,
    setting_names,
    varied_keys,
)
from aerun.compare.setting_text import format_setting, parse_setting
from aerun.errors import ConfigError, nearest
from aerun.metrics.declared import Metrics, metric_of


@dataclass(frozen=True)
class Question:
    """What to show: metrics, the keys to group by and to average over, which runs, and their order.

    ``over``: keys to average over. ``group_by``: instead, the only keys not to average over. ``keys``: more keys to
    show. ``best``: only so many groups. ``against``: conditions that choose the baseline row. ``expected_best``:
    numbers of draws. ``pareto``: two metrics. The other attributes are the options of the same names of
    ``aerun-compare``.
    """

    metrics: tuple[str, ...] = ()
    over: tuple[str, ...] = ("seed",)
    group_by: tuple[str, ...] | None = None
    grouped: bool = True
    where: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    sort: str | None = None
    descending: bool = False
    best: int | None = None
    against: tuple[str, ...] = ()
    expected_best: tuple[int, ...] = ()
    pareto: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """The content of the table, the files, the pictures and the page.

    ``keys`` identify a group; ``over`` are the keys that differ inside groups, with their number of values. ``total``
    is the number of groups, of which ``groups`` may be the best. ``declared``: metrics that the runs declare.
    ``sorted_by``: the number by which the groups are sorted; None if they are sorted by a key, or chosen by ``best``.
    """

    runs: list[Run]
    keys: list[str]
    over: dict[str, int]
    metrics: list[str]
    groups: list[Group]
    baselines: list[Baseline]
    total: int
    declared: Metrics = field(default_factory=dict)
    sorted_by: str | None = None
    pareto: tuple[str, ...] = ()

    def higher_is_better(self, metric: str) -> bool:
        """Whether the highest value of the metric is the best."""
        return metric_of(metric, self.declared).higher_is_better

    @property
    def metric(self) -> str:
        """The first metric, which ranks the groups."""
        return self.metrics[0]

    @property
    def reported(self) -> str:
        """The metric whose interval and differences are shown: the first one of the test set, or the first of all."""
        return next((metric for metric in self.metrics if metric.startswith("test/")), self.metric)

    @property
    def choice(self) -> str | None:
        """What to know if rows are chosen by their test results; None if they are not."""
        chosen = next((name for name in (self.metric, self.sorted_by or "") if name.startswith("test/")), None)
        if chosen is None or self.total < 2:
            return None
        text = f"chosen by {chosen}: the best of several rows on the test set is an optimistic estimate"
        other = f"validation/{chosen.removeprefix('test/')}"
        known = any(other in run.numbers for run in self.runs)
        return f"{text}; --metric {other},{chosen} chooses by validation" if known else text

    @property
    def differing_seeds(self) -> bool:
        """Whether rows are means over different seeds, because some runs are missing or have not finished."""
        seeds = {frozenset(run.settings.get("seed") for run in group.finished) for group in self.groups}
        return "seed" in self.over and len(seeds - {frozenset()}) > 1

    @property
    def has_pca(self) -> bool:
        """Whether errors can be divided by those of PCA."""
        return "test/mse" in self.metrics and any(group.mse_over_pca is not None for group in self.groups)

    @property
    def states(self) -> dict[str, int]:
        """The number of runs in each state."""
        return dict(Counter(run.state for run in self.runs).most_common())

    @property
    def collapsed(self) -> list[tuple[Run, str]]:
        """Runs whose reconstructions count as one picture, each with the reason."""
        return [(run, run.collapse) for run in self.runs if run.collapse is not None]

    @property
    def failures(self) -> list[Failure]:
        """Failed runs by their error messages, whose numbers may differ; the most frequent first."""
        found: dict[str, list[Run]] = {}
        for run in self.runs:
            if run.failed:
                found.setdefault(re.sub(r"\d[\d.e+-]*", "#", f"{run.state}{failure_cause(run)}"), []).append(run)
        return sorted(
            (Failure(failure_cause(runs[0]), tuple(runs)) for runs in found.values()), key=lambda f: -len(f.runs)
        )

    def ungrouped(self) -> Comparison:
        """The same runs, one row for each."""
        keys = [*self.keys, *self.over]
        groups = [Group({key: run.settings.get(key) for key in keys}, (run,), True, self.declared) for run in self.runs]
        return replace(self, keys=keys, over={}, groups=groups, total=len(groups))

    def ranked(self) -> list[Group]:
        """The groups with a finite first metric in a finished run, best first."""
        sign = -1 if self.higher_is_better(self.metric) else 1
        measured = [(group, group.statistic(self.metric)) for group in self.groups if group.best_run(self.metric)]
        finite = [(group, number.mean) for group, number in measured if number and math.isfinite(number.mean)]
        return [group for group, mean in sorted(finite, key=lambda pair: sign * pair[1])]


def compare(runs: Sequence[Run], question: Question | None = None) -> Comparison:
    """Group, average and sort the runs. ConfigError for a key or a number that no run has."""
    question = question or Question()
    pareto = resolve_metrics(question.pareto, runs, "--pareto")
    if pareto and len(pareto) != 2:
        raise ConfigError(f"--pareto {','.join(question.pareto)}: must be two numbers, NAME,NAME")
    question = replace(question, metrics=(*resolve_metrics(question.metrics, runs), *pareto))
    check_keys(question.keys, runs, "--keys")
    check_keys(question.group_by or (), runs, "--group-by")
    check_keys(set(question.over) - {"seed"}, runs, "--over")
    chosen = select_runs(runs, question.where)
    differing = varied_keys(chosen)
    keys, over = _split_keys(differing, question)
    metrics = list(dict.fromkeys(question.metrics)) or default_metrics(chosen)
    declared = declared_metrics(chosen)
    groups = [replace(group, declared=declared) for group in _group_runs(chosen, keys, question.grouped)]
    counts = {key: len({run.settings.get(key) for run in chosen}) for key in over}
    baselines = collect_baselines(chosen, metrics)
    comparison = Comparison(chosen, keys, counts, metrics, groups, baselines, len(groups), declared, pareto=pareto)
    comparison = _sort_groups(_annotate(comparison, question), question)
    if question.best is not None:
        ordered = comparison.ranked()[: question.best]
        if not ordered:
            raise ConfigError(f"--best: no run has finished with a finite {comparison.metric} yet")
        return replace(comparison, groups=ordered, sorted_by=None)
    return comparison


def _annotate(comparison: Comparison, question: Question) -> Comparison:
    """The groups with what the question asks of them in addition to their numbers."""
    groups, higher = comparison.groups, comparison.higher_is_better
    if question.against:
        over, reported = comparison.over, comparison.reported
        groups = pair_with_baseline(groups, question.against, comparison.keys, over, reported)
    if question.expected_best:
        groups = with_expected_best(groups, question.expected_best, comparison.metric, higher(comparison.metric))
    if comparison.pareto:
        for metric in comparison.pareto:
            check_direction(metric, comparison.declared)
        groups = mark_front(groups, comparison.pareto, [higher(metric) for metric in comparison.pareto])
    return replace(comparison, groups=groups)


def _split_keys(differing: list[str], question: Question) -> tuple[list[str], list[str]]:
    """The keys that identify a group, and the keys that differ inside groups."""
    if not question.grouped:
        return list(dict.fromkeys([*differing, *question.keys])), []
    if question.group_by is None:
        keys = [key for key in differing if key not in question.over]
        keys += [key for key in question.keys if key not in keys]
    else:
        keys = list(dict.fromkeys([*question.group_by, *question.keys]))
    return keys, [key for key in differing if key not in keys]


def _group_runs(runs: Sequence[Run], keys: Sequence[str], grouped: bool) -> list[Group]:
    members: dict[tuple[object, ...], list[Run]] = {}
    for number, run in enumerate(runs):
        # Types are compared too: 1.0 equals True, but trainer.epochs=1 is not trainer.epochs=true.
        values = tuple((type(run.settings.get(key)), run.settings.get(key)) for key in keys)
        members.setdefault(values if grouped else (number,), []).append(run)
    return [
        Group({key: part[0].settings.get(key) for key in keys}, tuple(part), single=not grouped)
        for part in members.values()
    ]


def _sort_groups(comparison: Comparison, question: Question) -> Comparison:
    """Sort by the first metric, best first, or as asked; groups without a number always come last."""
    name = question.sort or comparison.metric
    check_direction(comparison.metric, comparison.declared)
    if question.sort and name in setting_names(comparison.runs):

        def by_key(group: Group) -> tuple[bool, float, str]:
            value = group.values.get(name, group.runs[0].settings.get(name))
            number = parse_setting(value) if isinstance(value, str) else value
            return not isinstance(number, float), number if isinstance(number, float) else 0.0, format_setting(value)

        return replace(comparison, groups=sorted(comparison.groups, key=by_key, reverse=question.descending))
    known = [*DEFAULT_METRICS, *number_names(comparison.runs)]
    name = name if name in known or f"test/{name}" not in known else f"test/{name}"
    if name not in known:
        known += setting_names(comparison.runs)
        raise ConfigError(f"--sort {name}: no run has this key or number.{nearest(name, known)}")
    if name != comparison.metric:
        check_direction(name, comparison.declared)
    sign = -1 if comparison.higher_is_better(name) != question.descending else 1

    def by_number(group: Group) -> tuple[bool, bool, bool, float]:
        number = group.statistic(name)
        is_finite = number is not None and math.isfinite(number.mean)
        return (
            group.on_front is False,
            not is_finite,
            not group.finished,
            sign * number.mean if is_finite and number else 0.0,
        )

    return replace(comparison, groups=sorted(comparison.groups, key=by_number), sorted_by=name)
