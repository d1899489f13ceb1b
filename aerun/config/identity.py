"""What makes two configurations the same run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

# What a run's outcome does not depend on.
NOT_IDENTITY = ("resume", "sweep")
# Keys that came after sweeps had been run, at the values that change nothing: without them a sweep goes on as the same.
CAME_LATER: Mapping[str, Mapping[str, Any]] = {"dataset": {"flip": False, "zoom": 0.0}}
GROUPS_CAME_LATER = ("callback",)  # none of their options was chosen then


def identity(config: Mapping[str, Any]) -> str:
    """A digest of the resolved configuration. Whatever it was typed as, the same run has the same."""
    content = {
        key: _as_before(key, value)
        for key, value in config.items()
        if key not in NOT_IDENTITY and not (key in GROUPS_CAME_LATER and not value)
    }
    return hashlib.sha256(json.dumps(_canonical(content), sort_keys=True).encode()).hexdigest()


def _as_before(group: str, node: Any) -> Any:
    later = CAME_LATER.get(group, {})
    if not isinstance(node, Mapping) or not later:
        return node
    return {key: value for key, value in node.items() if key not in later or value != later[key]}


def _canonical(value: Any) -> Any:
    """Whole numbers as such: a learning rate of 1.0 is one of 1."""
    if isinstance(value, Mapping):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
