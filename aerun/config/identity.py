"""Whether two configurations describe the same run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

# Keys that do not affect the result of a run.
IGNORED_KEYS = ("resume", "sweep")
# Keys that were added later, with the values that have no effect. They are ignored, so that older sweeps can be
# continued.
LATER_KEYS: Mapping[str, Mapping[str, Any]] = {"dataset": {"flip": False, "zoom": 0.0}, "trainer": {"monitor": "loss"}}
LATER_GROUPS = ("callback",)  # ignored if none of their options is chosen


def identity(config: Mapping[str, Any]) -> str:
    """A digest of the resolved configuration, equal for equal runs, however they were typed."""
    content = {
        key: _without_later_keys(key, value)
        for key, value in config.items()
        if key not in IGNORED_KEYS and not (key in LATER_GROUPS and not value)
    }
    return hashlib.sha256(json.dumps(_canonical(content), sort_keys=True).encode()).hexdigest()


def _without_later_keys(group: str, node: Any) -> Any:
    later = LATER_KEYS.get(group, {})
    if not isinstance(node, Mapping) or not later:
        return node
    return {key: value for key, value in node.items() if key not in later or value != later[key]}


def _canonical(value: Any) -> Any:
    """The value with whole numbers as integers: a learning rate of 1.0 equals one of 1."""
    if isinstance(value, Mapping):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
