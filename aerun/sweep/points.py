"""Which runs a sweep has: from what was typed to lists of overrides."""

from __future__ import annotations

import contextlib
import itertools
import math
import random
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException

from aerun.config.schema import Count, Seed
from aerun.errors import ConfigError

Point = list[str]  # the overrides of one run


@dataclass(frozen=True)
class Axis:
    """One key as typed: its values as overrides, or an interval to draw from."""

    key: str
    overrides: list[str]
    interval: tuple[float, float] | None = None
    whole: bool = False
    logarithmic: bool = False

    @property
    def is_swept(self) -> bool:
        """Whether it has more than one value."""
        return self.interval is not None or len(self.overrides) > 1

    def draw(self, random: random.Random) -> str:
        """An override with a value drawn uniformly, or uniformly in the logarithm."""
        if self.interval is None:
            return random.choice(self.overrides)
        low, high = self.interval
        if self.logarithmic:
            value = math.exp(random.uniform(math.log(low), math.log(high)))
            return self.at(min(max(round(value), low), high) if self.whole else value)
        return self.at(random.randint(int(low), int(high)) if self.whole else random.uniform(low, high))

    def at(self, value: float) -> str:
        """The override with that value of the interval, to six digits where those are still within."""
        short = int(value) if self.whole else float(f"{value:.6g}")
        within = self.interval is None or self.interval[0] <= short <= self.interval[1]
        return f"{self.key}={short if within else value!r}"


def axes(words: Sequence[str], parser: OverridesParser) -> list[Axis]:
    """The axes of typed overrides; of a key that is typed twice the last counts, as in Hydra."""
    found = {override.get_key_element(): override for override in parser.parse_overrides(list(words))}
    return [_axis(key, override) for key, override in found.items()]


def _axis(key: str, override: Override) -> Axis:
    if override.is_delete():
        return Axis(key, [override.input_line or key])
    if not override.is_sweep_override():
        return Axis(key, [f"{key}={override.get_value_element_as_str()}"])
    if override.is_discrete_sweep():
        return Axis(key, list(dict.fromkeys(f"{key}={value}" for value in override.sweep_string_iterator())))
    interval = override.value()
    assert isinstance(interval, IntervalSweep)
    low, high = interval.start, interval.end
    if low is None or high is None or not low < high:
        raise ConfigError(f"{override.input_line}: the interval's ends must be two numbers, the lower first")
    logarithmic = "log" in interval.tags
    if logarithmic and low <= 0:
        raise ConfigError(f"{override.input_line}: a logarithmic interval lies above 0")
    return Axis(key, [], (float(low), float(high)), isinstance(low, int) and isinstance(high, int), logarithmic)


def crossed(axes: Sequence[Axis]) -> list[Point]:
    """Every combination, the last axis running fastest. ConfigError for an interval, which has no list of values."""
    _refuse_intervals(axes)
    return [list(point) for point in itertools.product(*(axis.overrides for axis in axes))]


def _refuse_intervals(axes: Sequence[Axis]) -> None:
    for axis in axes:
        if axis.interval is not None:
            raise ConfigError(
                f"{axis.key}: an interval has no list of values; hydra/sweeper=random or optuna draws from it, "
                "or use choice(…) or range(…)"
            )


def late(words: Sequence[str], groups: Sequence[str]) -> list[str]:
    """The command line, with ``sparsity.k=4`` as a sweep of one value where ``sparsity`` itself is swept.

    Hydra first composes a configuration without what is swept: its ``sparsity`` may have no such key.
    """
    parser = OverridesParser.create()
    typed: dict[str, Override] = {}
    for word in words:
        with contextlib.suppress(HydraException):  # flags, and what Hydra will refuse in its own words
            typed[word] = parser.parse_override(word)
    swept = {override.key_or_group for override in typed.values() if override.is_sweep_override()}
    result = []
    for word in words:
        override = typed.get(word)
        key, _, value = word.partition("=")
        is_late = override is not None and "." in key and key.partition(".")[0] in swept.intersection(groups)
        plain = is_late and not override.is_sweep_override() and not override.is_delete()  # type: ignore[union-attr]
        result.append(f"{key}=choice({value})" if plain else word)
    return result


class Points(Protocol):
    """Which runs a sweep has: all known before the first begins."""

    def points(self, axes: Sequence[Axis], parser: OverridesParser) -> list[Point]:
        """The overrides of every run."""
        ...


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Every combination of the values given."""

    def points(self, axes: Sequence[Axis], parser: OverridesParser) -> list[Point]:
        """The product."""
        return crossed(axes)


@dataclass(frozen=True, kw_only=True)
class Zip:
    """Values taken together, first with first; ``keys`` if only these, the others being crossed with them."""

    keys: list[str] | None = None

    def points(self, axes: Sequence[Axis], parser: OverridesParser) -> list[Point]:
        """The paired values, crossed with the rest. ConfigError for lists of different lengths."""
        _refuse_intervals(axes)
        known = [axis.key for axis in axes if axis.is_swept]
        for key in self.keys or []:
            if key not in known:
                raise ConfigError(f"hydra.sweeper.keys: {key} is not swept. Swept: {', '.join(known) or 'nothing'}")
        paired = [axis for axis in axes if axis.is_swept and (self.keys is None or axis.key in self.keys)]
        others = crossed([axis for axis in axes if axis not in paired])
        lengths = {axis.key: len(axis.overrides) for axis in paired}
        if len(set(lengths.values())) > 1:
            counts = ", ".join(f"{key} has {length}" for key, length in lengths.items())
            raise ConfigError(f"hydra/sweeper=zip: values taken together must be equally many; {counts}")
        pairs = list(zip(*(axis.overrides for axis in paired), strict=True)) if paired else [()]
        return [[*other, *pair] for pair in pairs for other in others]


@dataclass(frozen=True, kw_only=True)
class Random:
    """``runs`` draws from the values and intervals given, the same ones for the same ``seed``.

    The keys in ``crossed`` are not drawn: every draw is run with each of their values.
    """

    runs: Count
    seed: Seed
    crossed: list[str]

    def points(self, axes: Sequence[Axis], parser: OverridesParser) -> list[Point]:
        """The draws, crossed. A longer sweep of the same seed begins with the shorter one's."""
        drawn = [axis for axis in axes if axis.is_swept and axis.key not in self.crossed]
        others = crossed([axis for axis in axes if axis not in drawn])
        generator = random.Random(self.seed)
        draws = [[axis.draw(generator) for axis in drawn] for _ in range(self.runs)]
        return [[*other, *draw] for draw in draws for other in others]


@dataclass(frozen=True, kw_only=True)
class File:
    """One run a line: overrides as they would be typed; ``#`` begins a comment. Crossed with what is typed beside."""

    file: str

    def points(self, axes: Sequence[Axis], parser: OverridesParser) -> list[Point]:
        """The file's lines, crossed with the rest. ConfigError names the file and the line."""
        path = Path(self.file).expanduser()
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"hydra.sweeper.file={self.file}: cannot be read ({error})") from error
        points = []
        for number, line in enumerate(lines, 1):
            try:
                words = shlex.split(line, comments=True)
                found = self._line(words, parser)
            except Exception as error:
                raise ConfigError(f"{path}, line {number}: {' '.join(str(error).split())}") from error
            points += found
        if not points:
            raise ConfigError(f"hydra.sweeper.file={self.file}: lists no run")
        typed = crossed(axes)
        return [[*other, *point] for point in points for other in typed]

    def _line(self, words: list[str], parser: OverridesParser) -> list[Point]:
        found = axes(words, parser)
        for axis in found:
            if axis.key.startswith(("sweep.", "hydra.", "hydra/")):
                raise ConfigError(f"{axis.key}: belongs to the sweep as a whole; it goes on the command line")
        return crossed(found) if found else []
