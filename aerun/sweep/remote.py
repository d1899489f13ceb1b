"""The way from the launching side, which does not import torch, to the working side, which does."""

from __future__ import annotations

from typing import Any

from aerun.spec import locate

WORK, CHECK = "aerun.sweep.work.work", "aerun.sweep.check.check"
ESTIMATE = "aerun.sweep.estimate.estimate"


def call(target: str, *arguments: Any) -> Any:
    """Call a function by its dotted name, importing it where this runs."""
    return locate(target)(*arguments)
