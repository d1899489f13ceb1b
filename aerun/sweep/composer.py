"""Compose and check all points of a sweep before its first job."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from aerun.config.compose import group_choices, run_config
from aerun.config.explain import explain, known_keys
from aerun.config.override_syntax import expand_lists
from aerun.config.parse import parse
from aerun.config.settings import GROUPS, Settings
from aerun.errors import AerunError, ConfigError
from aerun.sweep.points import Point


@dataclass
class ComposedPoint:
    """A point with its resolved configuration, or with the error that makes it invalid."""

    overrides: Point
    config: dict[str, Any] = field(default_factory=dict)
    choices: dict[str, str] = field(default_factory=dict)
    error: str | None = None
    checksum: str | None = None  # of its data, once they have been read


@dataclass(frozen=True)
class _Base:
    """A composition that points share: the options of its groups, its configuration, and all its dotted keys."""

    choices: dict[str, str]
    config: DictConfig
    keys: frozenset[str]


class Composer:
    """Composes points as Hydra's own launchers do: from the same files, search path and flags.

    Hydra takes 60 ms for one composition. Points with the same options share one, to which their values are applied as
    Hydra applies them.

    ``sweep_defaults`` are the default options (group -> option) that the sweep began with. They stay its defaults, so
    that a repeated command finds its jobs after conf/train.yaml has changed.
    """

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self.loader, self.master = loader, master
        self.parser = OverridesParser.create(config_loader=loader)
        typed: Any = OmegaConf.to_container(master.hydra.overrides.task, resolve=False)
        self.typed: list[str] = typed  # points may be lines of a file
        self._bases: dict[tuple[str, ...], _Base] = {}
        self._groups: dict[str, bool] = {}
        self._checked: dict[str, str | None] = {}
        self._sweep_keys: set[str] = set()
        self._sweep_options: dict[str, set[str]] = {}
        self.sweep_defaults: dict[str, str] = {}

    def learn_keys(self, points: Iterable[Point]) -> None:
        """Note the keys and options of a sweep's points, before they are composed.

        A key that a point's options do not have is then left out, if other points of the sweep chose options that have
        it: with sparsity=none,topk sparsity.k=4,8 the first option is one run. A key that no point has is an error.
        """
        for point in points:
            shared = tuple(override.input_line or "" for override in self._split(point)[0])
            with contextlib.suppress(Exception):  # reported for the point itself
                base = self._base(shared)
                self._sweep_keys |= base.keys
                for group, option in base.choices.items():
                    self._sweep_options.setdefault(group, set()).add(option)

    @functools.cached_property
    def defaults(self) -> dict[str, str]:
        """The option of each group where none is typed, by conf/train.yaml."""
        return {group: option for group, option in self._load([])[0].items() if group in GROUPS}

    def __call__(self, point: Point) -> ComposedPoint:
        """Compose and check one point; an invalid one has its ``error`` set."""
        result = ComposedPoint(point)
        try:
            result.overrides, result.choices, composed = self._compose(point)
            result.config = run_config(composed, self.typed)
            if result.config.get("resume") is not None:
                raise ConfigError(
                    "resume: continues one run, without -m; repeat a sweep's command to continue the sweep"
                )
            self._check_dataset(parse(result.config, result.choices, expand_lists(result.overrides)), result.config)
        except Exception as error:
            text = explain(error)
            if text is None:
                raise
            result.error = text
        return result

    def _compose(self, point: Point) -> tuple[Point, dict[str, str], DictConfig]:
        """The overrides of a point that count, the options of its groups and its configuration."""
        shared, of_keys = self._split(point)
        lines = [override.input_line or "" for override in shared]
        base = self._without_foreign_keys(self._base(tuple(lines)))
        absent = [override for override in of_keys if self._is_of_other_option(override.key_or_group, base)]
        if absent:
            left_out = {override.input_line for override in absent}
            point = [word for word in point if word not in left_out]
            of_keys = [override for override in of_keys if override not in absent]
        deleted = [override.input_line or "" for override in of_keys if override.is_delete()]
        if deleted:
            base = self._without_foreign_keys(self._base((*lines, *deleted)))
        config = copy.deepcopy(base.config)
        try:
            for override in of_keys:
                if not override.is_delete():
                    OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        except OmegaConfBaseException:
            choices, config = self._compose_by_hydra(point)  # its error messages are better
            return point, choices, config
        return point, base.choices, config

    def _split(self, point: Point) -> tuple[list[Override], list[Override]]:
        """A point's overrides: those that choose options or add keys, and those that set or delete existing keys."""
        parsed = self.parser.parse_overrides(expand_lists(point))
        of_keys = [override for override in parsed if self._is_plain(override)]
        return [override for override in parsed if override not in of_keys], of_keys

    def _base(self, shared: tuple[str, ...]) -> _Base:
        if shared not in self._bases:
            choices, config = self._compose_by_hydra(list(shared))
            plain = OmegaConf.to_container(config, resolve=False)
            assert isinstance(plain, dict)
            keys = frozenset(known_keys({str(key): value for key, value in plain.items()}))
            self._bases[shared] = _Base(choices, config, keys)
        return self._bases[shared]

    def _is_of_other_option(self, key: str, base: _Base) -> bool:
        """Whether the options of a point lack a key that those of another point of the sweep have."""
        return "." in key and key not in base.keys and key in self._sweep_keys

    def _without_foreign_keys(self, base: _Base) -> _Base:
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
        config = copy.deepcopy(base.config)
        with open_dict(config):
            for key in foreign:
                parent, _, name = key.rpartition(".")
                OmegaConf.select(config, parent).pop(name, None)
        return _Base(base.choices, config, base.keys - foreign)

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
        parsed = self.parser.parse_overrides(list(point))
        return {
            override.get_key_element().lstrip("+"): None if override.is_delete() else _to_plain(override.value())
            for override in parsed
        }


def _to_plain(value: Any) -> Any:
    """Replace Hydra's own string type in an override's value."""
    if isinstance(value, list):
        return [_to_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _to_plain(item) for key, item in value.items()}
    return value if isinstance(value, bool | int | float) or value is None else str(value)
