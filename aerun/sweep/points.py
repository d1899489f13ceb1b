"""The points of a sweep: expand the overrides on the command line into one list of overrides for each run."""

from __future__ import annotations

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

from aerun.base.files import require_regular
from aerun.config.override_syntax import expand_words
from aerun.contracts import Count, Seed
from aerun.errors import ConfigError

Point = list[str]  # the overrides of one run


@dataclass(frozen=True)
class Axis:
    """One typed key: its values as overrides, or an interval to draw from."""

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
        """An override with a value that is drawn uniformly, or uniformly in the logarithm."""
        if self.interval is None:
            return random.choice(self.overrides)
        low, high = self.interval
        if self.logarithmic:
            value = math.exp(random.uniform(math.log(low), math.log(high)))
            return self.at(min(max(round(value), low), high) if self.whole else value)
        return self.at(random.randint(int(low), int(high)) if self.whole else random.uniform(low, high))

    def at(self, value: float) -> str:
        """The override for a value of the interval, rounded to six digits unless that leaves the interval."""
        short = int(value) if self.whole else float(f"{value:.6g}")
        within = self.interval is None or self.interval[0] <= short <= self.interval[1]
        return f"{self.key}={short if within else value!r}"


def axes(words: Sequence[str], parser: OverridesParser) -> list[Axis]:
    """The axes of typed overrides. If a key is typed twice, the last one counts, as in Hydra."""
    found = {override.get_key_element(): override for override in parser.parse_overrides(list(words))}
    return [_axis(key, override) for key, override in found.items()]


def _axis(key: str, override: Override) -> Axis:
    if override.is_delete():
        return Axis(key, [override.input_line or key])
    if not override.is_sweep_override():
        return Axis(key, [f"{key}={override.get_value_element_as_str()}"])
    if override.is_discrete_sweep():
        values = list(dict.fromkeys(f"{key}={value}" for value in override.sweep_string_iterator()))
        if not values:
            raise ConfigError(f"{override.input_line}: there is no such option, so that nothing would run")
        return Axis(key, values)
    interval = override.value()
    assert isinstance(interval, IntervalSweep)
    low, high = interval.start, interval.end
    if low is None or high is None or not low < high:
        raise ConfigError(f"{override.input_line}: an interval needs two numbers, the lower one first")
    logarithmic = "log" in interval.tags
    if logarithmic and low <= 0:
        raise ConfigError(f"{override.input_line}: a logarithmic interval must be above 0")
    return Axis(key, [], (float(low), float(high)), isinstance(low, int) and isinstance(high, int), logarithmic)


def all_combinations(axes: Sequence[Axis]) -> list[Point]:
    """Every combination; the last axis varies fastest. ConfigError for an interval, which has no list of values."""
    _check_no_intervals(axes)
    return [list(point) for point in itertools.product(*(axis.overrides for axis in axes))]


def each_value(axes: Sequence[Axis]) -> list[Point]:
    """Few points that contain every listed value at least once, without the keys of intervals."""
    listed = [axis.overrides for axis in axes if axis.interval is None]
    first = [words[0] for words in listed]
    return [first] + [
        [*first[:place], word, *first[place + 1 :]] for place, words in enumerate(listed) for word in words[1:]
    ]


def _check_no_intervals(axes: Sequence[Axis]) -> None:
    for axis in axes:
        if axis.interval is not None:
            raise ConfigError(
                f"{axis.key}: an interval has no list of values; use hydra/sweeper=random or optuna to draw from it, "
                "or choice(…) or range(…)"
            )


class Points(Protocol):
    """Chooses all points of a sweep before its first run."""

    def points(self, axes: Sequence[Axis], parser: OverridesParser) -> list[Point]:
        """The overrides of every run."""
        ...


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Every combination of the given values."""

    def points(self, axes: Sequence[Axis], parser: OverridesParser) -> list[Point]:
        """The product of all axes."""
        return all_combinations(axes)


@dataclass(frozen=True, kw_only=True)
class Zip:
    """Values paired by position. ``keys``: pair only these and combine them with all values of the others."""

    keys: list[str] | None = None

    def points(self, axes: Sequence[Axis], parser: OverridesParser) -> list[Point]:
        """The paired values, combined with the others. ConfigError for lists of different lengths."""
        _check_no_intervals(axes)
        known = [axis.key for axis in axes if axis.is_swept]
        for key in self.keys or []:
            if key not in known:
                raise ConfigError(f"hydra.sweeper.keys: {key} is not swept. Swept: {', '.join(known) or 'nothing'}")
        paired = [axis for axis in axes if axis.is_swept and (self.keys is None or axis.key in self.keys)]
        others = all_combinations([axis for axis in axes if axis not in paired])
        lengths = {axis.key: len(axis.overrides) for axis in paired}
        if len(set(lengths.values())) > 1:
            counts = ", ".join(f"{key} has {length}" for key, length in lengths.items())
            raise ConfigError(f"hydra/sweeper=zip: paired keys need equally many values; {counts}")
        pairs = list(zip(*(axis.overrides for axis in paired), strict=True)) if paired else [()]
        return [[*other, *pair] for pair in pairs for other in others]


@dataclass(frozen=True, kw_only=True)
class Random:
    """``runs`` random draws from the given values and intervals; the same ``seed`` gives the same draws.

    Keys in ``crossed`` are not drawn: each draw is combined with all their values.
    """

    runs: Count
    seed: Seed
    crossed: list[str]

    def points(self, axes: Sequence[Axis], parser: OverridesParser) -> list[Point]:
        """The draws, combined with the crossed keys. With the same seed, a longer sweep starts with the shorter one."""
        drawn = [axis for axis in axes if axis.is_swept and axis.key not in self.crossed]
        others = all_combinations([axis for axis in axes if axis not in drawn])
        generator = random.Random(self.seed)
        draws = [[axis.draw(generator) for axis in drawn] for _ in range(self.runs)]
        return [[*other, *draw] for draw in draws for other in others]


@dataclass(frozen=True, kw_only=True)
class File:
    """One run for each line of overrides, combined with the typed ones; ``#`` starts a comment."""

    file: str

    def points(self, axes: Sequence[Axis], parser: OverridesParser) -> list[Point]:
        """The file's lines, combined with the typed overrides. ConfigError names the file and the line."""
        path = Path(self.file).expanduser()
        try:
            require_regular(path)
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
            raise ConfigError(f"hydra.sweeper.file={self.file}: contains no runs")
        others = all_combinations(axes)
        return [[*other, *point] for point in points for other in others]

    def _line(self, words: list[str], parser: OverridesParser) -> list[Point]:
        found = axes(expand_words(words, several=True), parser)
        for axis in found:
            if axis.key.startswith(("sweep.", "hydra.", "hydra/")):
                raise ConfigError(f"{axis.key}: applies to the whole sweep; set it on the command line")
        return all_combinations(found) if found else []
