"""Select runs, keys and metrics: check the names that a comparison was asked for, and resolve them."""

from __future__ import annotations

import logging
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from aerun.compare.records import STATES, Run, Value
from aerun.config.schema import nearest
from aerun.config.settings import GROUPS
from aerun.errors import ConfigError
from aerun.metrics.declared import NONE, Metrics, find_metric

log = logging.getLogger(__name__)
DEFAULT_METRICS = ("test/mse", "test/psnr", "train_seconds")
DEFAULT_RANKING = "validation/mse"  # stands before them if all runs have it
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
MISSING = "–"  # noqa: RUF001
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


def format_setting(value: Value | None) -> str:
    """A setting as it is typed on the command line."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return printable(value)


def printable(text: str) -> str:
    """Replace line breaks and control characters, which would break a table or control the terminal, by spaces."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else " " for letter in text)


def parse_setting(text: str) -> Value | None:
    """A typed setting in the form of ``flat``; None if it stands for a missing one."""
    if text in (MISSING, "null", ""):
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return float(text)
    except ValueError:
        return text


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


@dataclass(frozen=True)
class Condition:
    """One ``--where`` or ``--against``: a key, a number, ``state`` or ``verdict``, compared with a value."""

    name: str
    comparison: str
    text: str

    @classmethod
    def parse(cls, text: str, option: str = "--where") -> Condition:
        """Parse ``key=value`` or ``key=one,other``; the operator may also be ``!=``, ``<``, ``<=``, ``>`` or ``>=``."""
        match = re.fullmatch(r"\s*([^\s=!<>]+)\s*(!=|<=|>=|==|=|<|>)\s*(.*?)\s*", text)
        if match is None:
            raise ConfigError(f"{option} '{text}': must be key=value, or have !=, <, <=, > or >= in place of =")
        name, comparison, value = match.groups()
        if comparison in COMPARISONS and not isinstance(parse_setting(value), float):
            raise ConfigError(f"{option} '{text}': {comparison} compares numbers, and '{value}' is not a number")
        return cls(name, comparison.replace("==", "="), value)

    def value(self, run: Run) -> Value | None:
        """The run's value under the condition's name; None if it has none."""
        if self.name == "verdict":
            return ", ".join(run.verdicts) or ("healthy" if run.finished else None)
        return run.state if self.name == "state" else run.settings.get(self.name, run.numbers.get(self.name))

    def holds(self, run: Run) -> bool:
        """Whether the run meets the condition; a missing number is neither above nor below any value."""
        value = self.value(run)
        if self.comparison in COMPARISONS:
            wanted = parse_setting(self.text)
            number = parse_setting(value) if isinstance(value, str) else value
            is_number = isinstance(number, float) and isinstance(wanted, float)
            return is_number and COMPARISONS[self.comparison](number, wanted)  # type: ignore[arg-type]
        one_of = [self.text, *re.split(r",(?![^\[]*\])", self.text)]  # commas inside brackets are those of a list
        return any(_is_typed(value, text.strip()) for text in one_of) == (self.comparison == "=")


def _list_items(text: str) -> list[Value | None]:
    """The brackets, commas and settings of a typed list, of which lists may be items."""
    parts = (part.strip(" '\"") for part in re.split(r"([\[\],])", text))
    return [parse_setting(part) for part in parts if part]


def _is_typed(value: Value | None, text: str) -> bool:
    """Whether a value is the typed one. The items of a list are compared as settings: [1e-3] is [0.001]."""
    if isinstance(value, str) and value.startswith("[") and text.startswith("["):
        return _list_items(value) == _list_items(text)
    wanted = parse_setting(text)
    return value == wanted or (value is not None and format_setting(value) in (text, format_setting(wanted)))


def select_runs(runs: Sequence[Run], conditions: Iterable[str]) -> list[Run]:
    """The runs that meet all conditions. ConfigError for an unknown key, or if no run is left."""
    chosen = list(runs)
    for text in conditions:
        condition = Condition.parse(text)
        known = ["state", "verdict", *setting_names(runs), *number_names(runs)]
        if condition.name not in known:
            raise ConfigError(f"--where '{text}': no run has {condition.name}.{nearest(condition.name, known)}")
        previous, chosen = chosen, [run for run in chosen if condition.holds(run)]
        if not chosen:
            values = sorted({format_setting(condition.value(run)) for run in previous})
            words = STATES if condition.name == "state" and condition.text not in STATES else values
            known_values = f"; {condition.name} is {', '.join(words)}" if len(words) <= MAX_LISTED_VALUES else ""
            raise ConfigError(f"--where '{text}': matches no run{known_values}")
    return chosen
