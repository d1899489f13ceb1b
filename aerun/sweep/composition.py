"""A composition by Hydra that the points with the same options share, and the configurations of these points."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict

from aerun.config.compose import resolve
from aerun.config.explain import known_keys
from aerun.config.interpolations import is_linked, linked_keys


@dataclass(frozen=True)
class Composition:
    """The options of the groups, and the configuration before values are set and interpolations resolved.

    ``keys``: all its dotted keys. ``value_keys``: those of values that are not mappings. ``linked``: see
    ``linked_keys``.
    """

    choices: dict[str, str]
    config: DictConfig
    keys: frozenset[str]
    value_keys: frozenset[str]
    linked: frozenset[str]
    _resolved: dict[tuple[str, ...], dict[str, Any]] = field(default_factory=dict)

    def with_values(self, overrides: Sequence[Override], typed: Sequence[str]) -> dict[str, Any]:
        """The resolved configuration with these values of existing keys. ``typed``: what the user typed.

        OmegaConf takes 10 ms. So it sets and resolves what interpolations read or write, once for all points with the
        same such values; the others are set in a copy of the result. OmegaConfBaseException for a value that cannot be
        set.
        """
        is_simple = all(self._is_simple(override) for override in overrides)
        free, linked = list[Override](), list[Override]()
        for override in overrides:
            is_free = is_simple and not is_linked(override.key_or_group, self.linked)
            (free if is_free else linked).append(override)
        key = (*lines(linked), "", *typed)
        if key not in self._resolved:
            config = copy.deepcopy(self.config)
            for override in linked:
                OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
            self._resolved[key] = resolve(config, typed)
        result: dict[str, Any] = _copy(self._resolved[key])
        for override in free:
            *parents, name = override.key_or_group.split(".")
            functools.reduce(lambda node, parent: node[parent], parents, result)[name] = override.value()
        return result

    def _is_simple(self, override: Override) -> bool:
        """Whether it sets one value, which no interpolation makes depend on others, and is no mapping of several."""
        return override.key_or_group in self.value_keys and "{" not in str(override.value())

    def without(self, keys: Iterable[str]) -> Composition:
        """The same without these keys."""
        config = copy.deepcopy(self.config)
        with open_dict(config):
            for key in keys:
                parent, _, name = key.rpartition(".")
                OmegaConf.select(config, parent).pop(name, None)
        return describe(self.choices, config)


def describe(choices: dict[str, str], config: DictConfig) -> Composition:
    """A composition with its keys."""
    unresolved: Any = OmegaConf.to_container(config, resolve=False)
    keys, values = frozenset(known_keys(unresolved)), frozenset(_value_keys(unresolved))
    return Composition(choices, config, keys, values, linked_keys(unresolved))


def _value_keys(node: Mapping[Any, Any], path: str = "") -> Iterator[str]:
    """The dotted keys of all values that are not mappings."""
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _value_keys(value, f"{path}{key}.")
        elif isinstance(key, str) and "." not in key:
            yield f"{path}{key}"


def lines(overrides: Iterable[Override]) -> tuple[str, ...]:
    """Overrides as typed."""
    return tuple(override.input_line or "" for override in overrides)


def _copy(node: Any) -> Any:
    """A copy of plain mappings and lists."""
    if isinstance(node, dict):
        return {key: _copy(value) for key, value in node.items()}
    return [_copy(value) for value in node] if isinstance(node, list) else node
