"""Compose and check all points of a sweep before its first job."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from aerun.compare.conditions import Condition, Language
from aerun.config.compose import finish_config, group_choices, resolve
from aerun.config.explain import explain
from aerun.config.override_syntax import expand_lists
from aerun.config.parse import parse
from aerun.config.settings import GROUPS, Settings
from aerun.errors import AerunError, ConfigError
from aerun.metrics.declared import Metrics, declared_by
from aerun.runs.folder import flatten_settings
from aerun.sweep.composition import Composition, describe, lines
from aerun.sweep.points import Point


@dataclass
class ComposedPoint:
    """A point with its resolved configuration, or with the error that makes it invalid.

    ``excluded``: it does not meet ``sweep.where``, and is not checked. ``lacking``: keys of that condition without a
    value.
    """

    overrides: Point
    config: dict[str, Any] = field(default_factory=dict)
    choices: dict[str, str] = field(default_factory=dict)
    error: str | None = None
    excluded: bool = False
    lacking: list[str] = field(default_factory=list)
    metrics: Metrics = field(default_factory=dict)  # that its parts and callbacks declare
    checksum: str | None = None  # of its data, once they have been read


class Composer:
    """Composes points as Hydra's own launchers do: from the same files, search path and flags.

    Hydra takes 60 ms for one composition. Points with the same options share one; see ``Composition``.

    ``sweep_defaults`` are the default options (group -> option) that the sweep began with. They stay its defaults, so
    that a repeated command finds its jobs after conf/train.yaml has changed.
    """

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self.loader, self.master = loader, master
        self.parser = OverridesParser.create(config_loader=loader)
        typed: Any = OmegaConf.to_container(master.hydra.overrides.task, resolve=False)
        self.typed: list[str] = typed  # points may be lines of a file
        self._words: dict[str, Override] = {}
        self._bases: dict[tuple[str, ...], Composition] = {}
        self._own_bases: dict[tuple[str, ...], Composition] = {}  # without foreign keys
        self._groups: dict[str, bool] = {}
        self._checked: dict[str, str | None] = {}
        self._sweep_keys: set[str] = set()
        self._sweep_options: dict[str, set[str]] = {}
        self.sweep_defaults: dict[str, str] = {}
        self._where: Condition | None = None

    def learn_keys(self, points: Iterable[Point]) -> None:
        """Note the keys and options of a sweep's points, before they are composed.

        A key that a point's options do not have is then left out, if other points of the sweep chose options that have
        it: with sparsity=none,topk sparsity.k=4,8 the first option is one run. A key that no point has is an error.
        """
        seen = set[tuple[str, ...]]()
        for point in points:
            with contextlib.suppress(Exception):  # reported for the point itself
                shared = lines(self._split(point)[0])
                if shared not in seen:
                    seen.add(shared)
                    base = self._base(shared)
                    self._sweep_keys |= base.keys
                    for group, option in base.choices.items():
                        self._sweep_options.setdefault(group, set()).add(option)
        self._own_bases.clear()

    def set_condition(self, where: str | None) -> None:
        """Exclude the points that do not meet a condition on the sweep's keys, which must be known by now."""
        if where is not None:
            self._where = Language(self._sweep_keys | {"experiment"}, "sweep.where=", "point").parse(where)

    @functools.cached_property
    def defaults(self) -> dict[str, str]:
        """The option of each group where none is typed, by conf/train.yaml."""
        return {group: option for group, option in self._load([])[0].items() if group in GROUPS}

    def __call__(self, point: Point) -> ComposedPoint:
        """Compose and check one point; an invalid one has its ``error`` set."""
        result = ComposedPoint(point)
        try:
            result.overrides, result.choices, composed = self._compose(point)
            result.config = finish_config(composed, self.typed)
            if self._where is not None:
                values = {**result.choices, **flatten_settings(result.config, result.choices)}
                result.excluded = not self._where.holds(values)
                result.lacking = sorted(self._where.keys - values.keys())
            if result.excluded:
                return result
            if result.config.get("resume") is not None:
                raise ConfigError(
                    "resume: continues one run, without -m; repeat a sweep's command to continue the sweep"
                )
            settings = parse(result.config, result.choices, expand_lists(result.overrides))
            result.metrics = declared_by(settings.parts().values())
            self._check_dataset(settings, result.config)
        except Exception as error:
            text = explain(error)
            if text is None:
                raise
            result.error = text
        return result

    def _compose(self, point: Point) -> tuple[Point, dict[str, str], dict[str, Any]]:
        """The overrides of a point that count, the options of its groups and its resolved configuration."""
        shared, of_keys = self._split(point)
        chosen = lines(shared)
        base = self._own_base(chosen)
        absent = [override for override in of_keys if self._is_of_other_option(override.key_or_group, base)]
        if absent:
            left_out = {override.input_line for override in absent}
            point = [word for word in point if word not in left_out]
            of_keys = [override for override in of_keys if override not in absent]
        deleted = [override for override in of_keys if override.is_delete()]
        if deleted:
            base = self._own_base((*chosen, *lines(deleted)))
        values = [override for override in of_keys if not override.is_delete()]
        try:
            return point, base.choices, base.with_values(values, self.typed)
        except OmegaConfBaseException:
            choices, composed = self._compose_by_hydra(point)  # its error messages are better
            return point, choices, resolve(composed, self.typed)

    def _parse(self, words: Iterable[str]) -> list[Override]:
        """The overrides of words, each of which is parsed once."""
        found = []
        for word in words:
            if word not in self._words:
                [self._words[word]] = self.parser.parse_overrides([word])
            found.append(self._words[word])
        return found

    def _split(self, point: Point) -> tuple[list[Override], list[Override]]:
        """A point's overrides: those that choose options or add keys, and those that set or delete existing keys."""
        shared, of_keys = list[Override](), list[Override]()
        for override in self._parse(expand_lists(point)):
            (of_keys if self._is_plain(override) else shared).append(override)
        return shared, of_keys

    def _base(self, shared: tuple[str, ...]) -> Composition:
        if shared not in self._bases:
            self._bases[shared] = describe(*self._compose_by_hydra(list(shared)))
        return self._bases[shared]

    def _own_base(self, shared: tuple[str, ...]) -> Composition:
        if shared not in self._own_bases:
            self._own_bases[shared] = self._without_foreign_keys(self._base(shared))
        return self._own_bases[shared]

    def _is_of_other_option(self, key: str, base: Composition) -> bool:
        """Whether the options of a point lack a key that those of another point of the sweep have."""
        return "." in key and key not in base.keys and key in self._sweep_keys

    def has_key(self, point: Point, key: str) -> bool:
        """Whether the options of a point have a key, or no point of the sweep has it, which is an error of its own."""
        try:
            return not self._is_of_other_option(key, self._own_base(lines(self._split(point)[0])))
        except Exception:  # reported for the point itself
            return True

    def _without_foreign_keys(self, base: Composition) -> Composition:
        """The base without what an experiment sets for one option of a group, if another of the sweep's is chosen."""
        if base.choices.get("experiment", "None") == "None":
            return base
        foreign = set[str]()
        for group, options in self._sweep_options.items():
            if group in GROUPS and len(options) > 1 and base.choices.get(group) in options:
                keys = {option: self._base((f"{group}={option}",)).keys for option in options}
                others = set[str]().union(*keys.values()) - keys[base.choices[group]]
                foreign |= {key for key in others & base.keys if key.startswith(f"{group}.")}
        if not foreign:
            return base
        return base.without(foreign)

    def _compose_by_hydra(self, point: Point) -> tuple[dict[str, str], DictConfig]:
        choices, composed = self._load(point)
        typed = {word.partition("=")[0] for word in point}
        earlier = [
            f"{group}={option}"
            for group, option in self.sweep_defaults.items()
            if option != self.defaults[group] == choices.get(group) and group not in typed
        ]
        return self._load([*earlier, *point]) if earlier else (choices, composed)

    def _load(self, point: Point) -> tuple[dict[str, str], DictConfig]:
        composed = self.loader.load_sweep_config(self.master, expand_lists(point))
        choices = group_choices(composed.hydra.runtime.choices)
        with open_dict(composed):
            del composed["hydra"]
        return choices, composed

    def _is_plain(self, override: Override) -> bool:
        """Whether the override sets an existing key, or deletes one, and does not choose a group's option."""
        key = override.key_or_group
        if key not in self._groups:
            self._groups[key] = "/" in key or bool(self.loader.get_group_options(key))
        if override.package is not None or self._groups[key]:
            return False
        return override.type == OverrideType.CHANGE or (override.is_delete() and "." in key)

    def _check_dataset(self, settings: Settings, config: Mapping[str, Any]) -> None:
        """Run the data set's own check of its settings, once for all points with the same data set."""
        key = repr(config["dataset"])
        if key not in self._checked:
            self._checked[key] = None
            try:
                settings.dataset.check()
            except AerunError as error:
                self._checked[key] = str(error)
        text = self._checked[key]
        if text is not None:
            raise ConfigError(text)

    def values(self, point: Point) -> dict[str, Any]:
        """The typed settings of a point by key."""
        return {
            override.get_key_element().lstrip("+"): None if override.is_delete() else _to_plain(override.value())
            for override in self._parse(point)
        }


def _to_plain(value: Any) -> Any:
    """Replace Hydra's own string type in an override's value."""
    if isinstance(value, list):
        return [_to_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _to_plain(item) for key, item in value.items()}
    return value if isinstance(value, bool | int | float) or value is None else str(value)
