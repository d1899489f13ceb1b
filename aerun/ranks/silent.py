"""What ranks other than the first have for logs, pictures and checkpoints: they write nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from aerun.runs.pictures import Report
from aerun.runs.tracking import Tracker
from aerun.training.checkpoint import Checkpointer
from aerun.training.progress import Progress


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
