"""What ranks other than the first have for logs, pictures and checkpoints: they write nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from aerun.checkpoint import Checkpointer, Progress
from aerun.report import Report
from aerun.signals import StopSignals
from aerun.tracking import Tracker


class SilentTracker(Tracker):
    """Logs nothing."""

    def __init__(self) -> None:
        super().__init__(Path(), events=False)

    def flush(self) -> None:
        """Nothing to flush."""

    def metrics(self, epoch: int, step: int, **numbers: Any) -> None:
        """No line."""


class SilentReport(Report):
    """Shows nothing."""

    def epoch(self, step: int) -> None:
        """No pictures."""


class Reader(Checkpointer):
    """Restores, and saves nothing."""

    def __init__(self, folder: Path, model: nn.Module, optimizer: Optimizer) -> None:
        super().__init__(folder, model, optimizer, None)

    def epoch(self, progress: Progress, *, last: bool) -> bool:
        """Nothing is to be saved."""
        return False

    def save(self, progress: Progress) -> None:
        """The first rank does."""

    def save_best(self) -> None:
        """The first rank does."""

    def _check_best(self, progress: Progress) -> None:
        """The first rank does."""


class Wishes(StopSignals):
    """Signals to a rank, which heeds them only when all have agreed to."""

    def interruptible(self) -> Any:
        """Nothing is: the other ranks would wait for ever."""
        import contextlib

        return contextlib.nullcontext()
