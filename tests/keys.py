"""What a test says to a data set unless it says otherwise."""

from __future__ import annotations

from typing import Any

# The keys that every data set has, all at their plainest.
PLAIN: dict[str, Any] = {
    "validation": 0,
    "train_limit": None,
    "split_seed": 0,
    "normalize": "none",
    "input_transform": [],
    "target_transform": [],
    "memory_limit": None,
}
