"""The way from the launching side, which does not import torch, to the working side, which does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aerun.config.schema import locate

WORK, CHECK = "aerun.sweep.work.work", "aerun.sweep.check.check"
ESTIMATE = "aerun.sweep.estimate.estimate"


def call(target: str, *arguments: Any) -> Any:
    """Call a function by its dotted name, importing it where this runs."""
    return locate(target)(*arguments)


def ready() -> None:
    """Import what a job needs. It returns nothing: what it imported would be imported by whoever unpacks it."""
    locate(WORK)


def all_ready() -> None:
    """Also what a job needs only in its course."""
    ready()
    for name in ("torch.utils.tensorboard.SummaryWriter", "matplotlib.figure.Figure"):
        locate(name)


@dataclass(frozen=True)
class Finding:
    """Of one configuration: why it cannot work, or how many parameters it has.

    It comes back to the launching side, so it stands where unpacking it imports nothing else.
    """

    error: str | None
    parameters: int | None = None
