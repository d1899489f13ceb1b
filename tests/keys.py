"""Default keys of data sets in tests."""

from __future__ import annotations

from typing import Any

# The keys shared by all data sets, at their simplest values.
PLAIN: dict[str, Any] = {
    "validation": 0,
    "train_limit": None,
    "split_seed": 0,
    "normalize": "none",
    "input_transform": [],
    "target_transform": [],
    "memory_limit": None,
}
