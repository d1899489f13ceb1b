"""Whether a run folder contains the run that a configuration describes. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from aerun.config.identity import differing_keys, identities, identity, is_same_part
from aerun.config.settings import PROTOCOL
from aerun.errors import DataError
from aerun.runs.folder import read_environment

MAX_KEYS = 8  # in a message


def recorded_identities(folder: Path, stored: Mapping[str, Any], counted: Collection[str] = ()) -> list[str]:
    """The digests by which the run in ``folder`` is found, whose configuration is ``stored``. See ``identity``."""
    try:
        device = read_environment(folder).get("device")
    except DataError:
        device = None
    return identities(stored, device, counted)


def find_difference(folder: Path, stored: Mapping[str, Any], config: Mapping[str, Any]) -> str | None:
    """The keys in which ``config`` is not that of the run in ``folder``; None if it is."""
    if identity(config) in recorded_identities(folder, stored):
        return None
    return list_keys(differing_keys(stored, config))


def list_keys(keys: list[str], separator: str = ", ") -> str:
    """Keys for a message, the first few by name."""
    more = f" and {len(keys) - MAX_KEYS} more" if len(keys) > MAX_KEYS else ""
    return separator.join(keys[:MAX_KEYS]) + more


def describe_differences(stored: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """One text for each key by which two configurations describe different runs: ``trainer.epochs: 30, here 40``.

    The keys of another class are left out, because they follow from it.
    """
    keys = differing_keys(stored, config)
    classes = [key.removesuffix("_target_") for key in keys if key.endswith("._target_")]
    named = [key for key in keys if key.endswith("._target_") or not key.startswith(tuple(classes))]
    return [f"{key}: {_value_at(stored, key)}, here {_value_at(config, key)}" for key in named]


def _value_at(config: Any, key: str) -> str:
    for name in key.split("."):
        if not isinstance(config, Mapping) or name not in config:
            return "not set"
        config = config[name]
    return config if isinstance(config, str) else json.dumps(config, default=repr)


def missing_protocols(stored: Mapping[str, Any], summary: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """The protocols of ``config`` by which a finished run has not been evaluated, or only with other keys.

    ``stored`` and ``summary`` are those of the run. One that failed is not missing.
    """
    before, wanted = chosen_protocols(stored), chosen_protocols(config)
    ended = {*summary.get("protocols", before), *summary.get("unanswered", ())}  # old summaries do not list them
    known = {name for name in ended & before.keys() & wanted.keys() if is_same_part(before[name], wanted[name])}
    return [name for name in wanted if name not in known]


def chosen_protocols(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The protocols of a configuration by name. Keys of others may be set, but have no class."""
    nodes = config.get(PROTOCOL) or {}
    return {name: node for name, node in nodes.items() if isinstance(node, Mapping) and "_target_" in node}
