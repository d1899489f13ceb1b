"""The whole sweep before its first job: every point composed, typed, range-checked and cross-checked."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from aerun.config.compose import group_choices, run_config
from aerun.config.explain import explain
from aerun.config.identity import identity
from aerun.config.parse import parse
from aerun.config.settings import Settings
from aerun.errors import AerunError, ConfigError
from aerun.sweep.index import Index
from aerun.sweep.job import Job, names
from aerun.sweep.points import Point


@dataclass
class Composed:
    """One point, and its resolved configuration or why it cannot work."""

    overrides: Point
    config: dict[str, Any] = field(default_factory=dict)
    choices: dict[str, str] = field(default_factory=dict)
    error: str | None = None


class Composer:
    """Composes points as Hydra's own launchers would: the same files, search path and flags.

    Hydra takes 60 ms for a configuration. Points that choose the same options share one composition, to which their
    values are applied as Hydra itself applies them.
    """

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self.loader, self.master = loader, master
        self.parser = OverridesParser.create(config_loader=loader)
        self._bases: dict[tuple[str, ...], tuple[dict[str, str], DictConfig]] = {}
        self._groups: dict[str, bool] = {}
        self._checked: dict[str, str | None] = {}

    def __call__(self, point: Point) -> Composed:
        """Compose and check one point; what is wrong with it stands in ``error``."""
        result = Composed(point)
        try:
            result.choices, composed = self._composed(point)
            result.config = run_config(composed)
            if result.config.get("resume") is not None:
                raise ConfigError("resume: continues one run, without -m; a sweep goes on by its own command")
            self._check(parse(result.config, result.choices, point), result.config)
        except Exception as error:
            text = explain(error)
            if text is None:
                raise
            result.error = text
        return result

    def _composed(self, point: Point) -> tuple[dict[str, str], DictConfig]:
        """The options chosen at a point, and its configuration."""
        parsed = self.parser.parse_overrides(point)
        plain = [override for override in parsed if self._is_plain(override)]
        shared = tuple(override.input_line or "" for override in parsed if override not in plain)
        if shared not in self._bases:
            self._bases[shared] = self._from_hydra(list(shared))
        choices, base = self._bases[shared]
        config = copy.deepcopy(base)
        try:
            for override in plain:
                OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        except OmegaConfBaseException:
            return self._from_hydra(point)  # it has the better words for what is wrong
        return choices, config

    def _from_hydra(self, point: Point) -> tuple[dict[str, str], DictConfig]:
        composed = self.loader.load_sweep_config(self.master, point)
        choices = group_choices(composed.hydra.runtime.choices)
        with open_dict(composed):
            del composed["hydra"]
        return choices, composed

    def _is_plain(self, override: Override) -> bool:
        """Whether it gives a value to a key that there is, and chooses no option."""
        key = override.key_or_group
        if key not in self._groups:
            self._groups[key] = "/" in key or bool(self.loader.get_group_options(key))
        return override.type == OverrideType.CHANGE and override.package is None and not self._groups[key]

    def _check(self, settings: Settings, config: Mapping[str, Any]) -> None:
        """What the data set sees at first sight, once for all points that share it."""
        if hasattr(settings.dataset, "check"):
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
        """The settings of a point by key, typed."""
        parsed = self.parser.parse_overrides(list(point))
        return {
            override.get_key_element().lstrip("+"): None if override.is_delete() else _plain(override.value())
            for override in parsed
        }


def _plain(value: Any) -> Any:
    """An override's value without Hydra's own string type."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value if isinstance(value, bool | int | float) or value is None else str(value)


def jobs_of(
    composed: Iterable[Composed], composer: Composer, swept: Sequence[str], index: Index, folder: Path
) -> list[Job]:
    """The jobs of sound points; points of one and the same run are one job, and a known one keeps its folder.

    ``swept`` are the keys that vary in this command; those that varied before in this sweep count too.
    """
    known = index.names()
    varied = list(dict.fromkeys((*index.varied(), *(key.lstrip("+") for key in swept))))
    points = {identity(point.config): point for point in reversed(list(composed))}
    points = dict(reversed(points.items()))
    values = []
    for point in points.values():
        given = composer.values(point.overrides)
        values.append({key: given[key] for key in varied if key in given})
    fresh = [i for i, digest in enumerate(points) if digest not in known]
    fresh_names = names([values[i] for i in fresh], [list(points)[i] for i in fresh], known.values())
    named = known | {list(points)[i]: name for i, name in zip(fresh, fresh_names, strict=True)}
    return [
        Job(named[digest], folder / named[digest], point.config, point.choices, point.overrides, given, digest)
        for (digest, point), given in zip(points.items(), values, strict=True)
    ]
