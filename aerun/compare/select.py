"""Which runs, by which keys, in which numbers: the names that a comparison is asked for, checked and resolved."""

from __future__ import annotations

import logging
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from aerun.compare.records import STATES, Run, Value
from aerun.config.schema import nearest
from aerun.config.settings import GROUPS
from aerun.contracts import Metric
from aerun.errors import ConfigError

log = logging.getLogger(__name__)
DEFAULT_METRICS = ("test/mse", "test/psnr", "train_seconds")
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
MISSING = "–"  # noqa: RUF001


def declared_metrics(runs: Iterable[Run]) -> dict[str, Metric]:
    """The metrics that runs declare themselves. Where they disagree on a direction, the first run's counts."""
    found: dict[str, Metric] = {}
    for run in runs:
        for name, metric in run.declared.items():
            known = found.setdefault(name, metric)
            if known.higher_is_better != metric.higher_is_better:
                better = "higher" if known.higher_is_better else "lower"
                log.warning("%s: declares %s in the opposite direction; %s is better here", run.folder, name, better)
    return found


def shown(value: Value | None) -> str:
    """A setting as one would type it."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return printable(value)


def printable(text: str) -> str:
    """The text without line ends and other characters that would break a table, or steer a terminal."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else " " for letter in text)


def parsed(text: str) -> Value | None:
    """A setting as ``flat`` has it, from what was typed; None for one that is missing."""
    if text in (MISSING, "null", ""):
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return float(text)
    except ValueError:
        return text


def setting_names(runs: Iterable[Run]) -> list[str]:
    """Every key of every run: groups first; before others those that were typed, in the order typed."""
    names = dict.fromkeys(key for run in runs for key in run.settings)
    groups = {name.partition(".")[0] for name in names if "." in name} | {"experiment"}
    typed = {name: position for position, name in enumerate(typed_names(runs))}
    order = {name: position for position, name in enumerate((*typed, *GROUPS))}
    return sorted(names, key=lambda name: (name not in groups, order.get(name, len(order))))


def typed_names(runs: Iterable[Run]) -> list[str]:
    """The keys that were given on some run's command line."""
    return list(dict.fromkeys(word.lstrip("+").partition("=")[0] for run in runs for word in run.overrides))


def number_names(runs: Iterable[Run]) -> list[str]:
    """Every number that some run has."""
    return list(dict.fromkeys(name for run in runs for name in run.numbers))


def varied(runs: Sequence[Run]) -> list[str]:
    """The keys whose values differ among the runs; a run without the key counts as a value of its own.

    A key inside a group is left out where it says nothing new: where it follows from the option chosen there
    (``sparsity.k``, which only ``topk`` has and which is always 16), or repeats another key that does, or one that was
    typed (``sparsity.activation``, which is the model's). A job that has not begun says nothing of the keys that it
    was not given.
    """
    differing = [name for name in setting_names(runs) if len(_values(name, runs)) > 1]
    following = {name for name in differing if _follows(name, runs)}
    typed = set(typed_names(runs))

    def repeated(name: str) -> bool:
        others = (following | typed) - {name}
        return "." in name and name not in typed and any(_repeats(name, other, runs) for other in others)

    return [name for name in differing if name not in following and not repeated(name)]


def _values(name: str, runs: Iterable[Run]) -> set[Value | None]:
    return {run.settings.get(name) for run in runs if not run.partial or name in run.settings}


def _follows(name: str, runs: Iterable[Run]) -> bool:
    """Whether the option of the key's group decides its value."""
    group, dot, _ = name.partition(".")
    if not dot:
        return False
    by_option: dict[Value | None, list[Run]] = {}
    for run in runs:
        by_option.setdefault(run.settings.get(group), []).append(run)
    return all(len(_values(name, part)) <= 1 for part in by_option.values())


def _repeats(name: str, other: str, runs: Iterable[Run]) -> bool:
    """Whether a key has the value of another in every run that has it."""
    return all(
        other in run.settings and run.settings[name] == run.settings[other] for run in runs if name in run.settings
    )


def check_keys(names: Iterable[str], runs: Sequence[Run], option: str) -> None:
    """ConfigError for a key that no run has."""
    known = setting_names(runs)
    for name in names:
        if name not in known:
            raise ConfigError(f"{option} {name}: no run has such a key.{nearest(name, known)}")


def resolve_metrics(names: Iterable[str], runs: Sequence[Run]) -> tuple[str, ...]:
    """The numbers' full names: ``svm_error`` for ``test/svm_error``. ConfigError for one that no run has."""
    known = [*DEFAULT_METRICS, *number_names(runs)]
    full = []
    for name in names:
        found = next((candidate for candidate in (name, f"test/{name}") if candidate in known), None)
        if found is None:
            raise ConfigError(f"--metric {name}: no run has such a number.{nearest(name, known)}")
        full.append(found)
    return tuple(full)


@dataclass(frozen=True)
class Condition:
    """One ``--where``: a key, a number or ``state``, compared with a value."""

    name: str
    comparison: str
    text: str

    @classmethod
    def parse(cls, text: str) -> Condition:
        """``key=value``, or with ``!=``, ``<``, ``<=``, ``>``, ``>=``."""
        match = re.fullmatch(r"\s*([^\s=!<>]+)\s*(!=|<=|>=|==|=|<|>)\s*(.*?)\s*", text)
        if match is None:
            raise ConfigError(f"--where '{text}': must be key=value, or with !=, <, <=, > or >= between them")
        name, comparison, value = match.groups()
        if comparison in COMPARISONS and not isinstance(parsed(value), float):
            raise ConfigError(f"--where '{text}': '{value}' is not a number, which {comparison} needs")
        return cls(name, comparison.replace("==", "="), value)

    def value(self, run: Run) -> Value | None:
        """What the run has under the name."""
        if self.name == "verdict":
            return ", ".join(run.verdicts) or ("healthy" if run.finished else None)
        return run.state if self.name == "state" else run.settings.get(self.name, run.numbers.get(self.name))

    def holds(self, run: Run) -> bool:
        """Whether the run meets the condition; one without the number is neither above nor below anything."""
        value, wanted = self.value(run), parsed(self.text)
        if self.comparison in COMPARISONS:
            is_number = isinstance(value, float) and isinstance(wanted, float)
            return is_number and COMPARISONS[self.comparison](value, wanted)  # type: ignore[arg-type]
        same = value == wanted or (value is not None and shown(value) == self.text)
        return same == (self.comparison == "=")


def select(runs: Sequence[Run], conditions: Iterable[str]) -> list[Run]:
    """The runs that meet all conditions. ConfigError for an unknown key, or where a condition leaves nothing."""
    chosen = list(runs)
    for text in conditions:
        condition = Condition.parse(text)
        known = ["state", "verdict", *setting_names(runs), *number_names(runs)]
        if condition.name not in known:
            raise ConfigError(f"--where '{text}': no run has {condition.name}.{nearest(condition.name, known)}")
        before, chosen = chosen, [run for run in chosen if condition.holds(run)]
        if not chosen:
            values = sorted({shown(condition.value(run)) for run in before})
            words = STATES if condition.name == "state" and condition.text not in STATES else values
            there = f"; {condition.name} is {', '.join(words)}" if len(words) <= 12 else ""
            raise ConfigError(f"--where '{text}': holds for no run{there}")
    return chosen
