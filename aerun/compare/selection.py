"""Select runs, keys and metrics: check the names that a comparison was asked for, and resolve them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from aerun.compare.conditions import Condition, Language
from aerun.compare.records import STATES, Run, Value
from aerun.compare.setting_text import format_setting
from aerun.config.settings import GROUPS
from aerun.errors import ConfigError, nearest
from aerun.metrics.declared import NONE, Metrics, find_metric

log = logging.getLogger(__name__)
DEFAULT_METRICS = ("test/mse", "test/psnr", "train_seconds")
DEFAULT_RANKING = "validation/mse"  # stands before them if all runs have it
MAX_LISTED_VALUES = 12  # in an error message


def declared_metrics(runs: Iterable[Run]) -> Metrics:
    """The metrics that runs declare. If runs disagree on a direction, the first run's counts."""
    found = dict(NONE)
    for run in runs:
        for name, metric in run.declared.items():
            first = found.setdefault(name, metric)
            if first.higher_is_better != metric.higher_is_better:
                better = "higher" if first.higher_is_better else "lower"
                log.warning("%s: declares %s in the opposite direction; here %s is better", run.folder, name, better)
    return found


def default_metrics(runs: Sequence[Run]) -> list[str]:
    """Validation ranks if all finished runs have it, or all that have begun if none has finished."""
    known = number_names(runs)
    measured = [run for run in runs if run.finished] or [run for run in runs if run.numbers]
    ranking = [DEFAULT_RANKING] if measured and all(DEFAULT_RANKING in run.numbers for run in measured) else []
    return ranking + [name for name in DEFAULT_METRICS if name in known or name == DEFAULT_METRICS[0]]


def check_direction(metric: str, declared: Metrics) -> None:
    """Warn if nothing declares which direction of a metric that ranks is better."""
    if find_metric(metric, declared) is None:
        log.warning("%s: nothing declares its direction, so lower is better here; see docs/extend.md, Metrics", metric)


def setting_names(runs: Iterable[Run]) -> list[str]:
    """Every key of every run: groups first, then the keys on command lines, in that order, then the others."""
    names = dict.fromkeys(key for run in runs for key in run.settings)
    groups = {name.partition(".")[0] for name in names if "." in name} | {"experiment"}
    typed = {name: position for position, name in enumerate(typed_names(runs))}
    order = {name: position for position, name in enumerate((*typed, *GROUPS))}
    return sorted(names, key=lambda name: (name not in groups, order.get(name, len(order))))


def typed_names(runs: Iterable[Run]) -> list[str]:
    """The keys on the command line of any run."""
    return list(dict.fromkeys(word.lstrip("+").partition("=")[0] for run in runs for word in run.overrides))


def number_names(runs: Iterable[Run]) -> list[str]:
    """The names of all numbers of all runs."""
    return list(dict.fromkeys(name for run in runs for name in run.numbers))


def varied_keys(runs: Sequence[Run]) -> list[str]:
    """The keys whose values differ between the runs; a missing key counts as a value.

    A key inside a group is left out if it follows from the group's option (``sparsity.k``, which only ``topk`` has and
    which is always 16), or if it always equals another such key or a typed one (``sparsity.activation``, which is the
    model's). For a job that has not started, only the keys in its overrides are known.
    """
    differing = [name for name in setting_names(runs) if len(_values(name, runs)) > 1]
    implied = {name for name in differing if _follows_from_option(name, runs)}
    typed = set(typed_names(runs))

    def repeated(name: str) -> bool:
        others = (implied | typed) - {name}
        return "." in name and name not in typed and any(_always_equals(name, other, runs) for other in others)

    return [name for name in differing if name not in implied and not repeated(name)]


def _values(name: str, runs: Iterable[Run]) -> set[Value | None]:
    return {run.settings.get(name) for run in runs if not run.partial or name in run.settings}


def _follows_from_option(name: str, runs: Iterable[Run]) -> bool:
    """Whether the option of the key's group determines its value."""
    group, dot, _ = name.partition(".")
    if not dot:
        return False
    by_option: dict[Value | None, list[Run]] = {}
    for run in runs:
        by_option.setdefault(run.settings.get(group), []).append(run)
    return all(len(_values(name, part)) <= 1 for part in by_option.values())


def _always_equals(name: str, other: str, runs: Iterable[Run]) -> bool:
    """Whether a key has the same value as another in every run that has it."""
    return all(
        other in run.settings and run.settings[name] == run.settings[other] for run in runs if name in run.settings
    )


def check_keys(names: Iterable[str], runs: Sequence[Run], option: str) -> None:
    """Raise ConfigError for a key that no run has."""
    known = setting_names(runs)
    for name in names:
        if name not in known:
            raise ConfigError(f"{option} {name}: no run has this key.{nearest(name, known)}")


def resolve_metrics(names: Iterable[str], runs: Sequence[Run], option: str = "--metric") -> tuple[str, ...]:
    """Full names of numbers: ``test/svm_error`` for ``svm_error``. ConfigError for one that no run has."""
    known = [*DEFAULT_METRICS, *number_names(runs)]
    full = []
    for name in names:
        found = next((candidate for candidate in (name, f"test/{name}") if candidate in known), None)
        if found is None:
            raise ConfigError(f"{option} {name}: no run has this number.{nearest(name, known)}")
        full.append(found)
    return tuple(full)


def select_runs(runs: Sequence[Run], conditions: Iterable[str]) -> list[Run]:
    """The runs that meet all conditions. ConfigError for an unknown key, or if no run is left."""
    chosen = list(runs)
    language = language_of(runs)
    for text in conditions:
        condition = language.parse(text)
        previous, chosen = chosen, [run for run in chosen if condition.holds(values_of(run))]
        if not chosen:
            raise ConfigError(f"--where '{text}': matches no run{_known_values(condition, previous)}")
    return chosen


def language_of(runs: Sequence[Run], option: str = "--where ") -> Language:
    """Conditions on these runs."""
    return Language(["state", "verdict", *setting_names(runs), *number_names(runs)], option)


def values_of(run: Run) -> dict[str, Value | None]:
    """What conditions on a run may name."""
    verdict = ", ".join(run.verdicts) or ("healthy" if run.finished else None)
    return {**run.numbers, **run.settings, "state": run.state, "verdict": verdict}


def _known_values(condition: Condition, runs: Iterable[Run]) -> str:
    """For a message: the values of the one key that a condition reads."""
    if len(condition.keys) > 1:
        return ""
    [key] = condition.keys
    values = sorted({format_setting(values_of(run).get(key)) for run in runs})
    if key == "state" and not any(state in condition.text for state in STATES):
        values = list(STATES)
    return f"; {key} is {', '.join(values)}" if len(values) <= MAX_LISTED_VALUES else ""
