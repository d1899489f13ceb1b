"""How far a run has come."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Progress:
    """Where a run stands: what a continued run must know beside weights and optimizer state.

    ``epoch`` counts finished epochs, evaluation included; ``partial`` holds the loss terms of the unfinished epoch
    (see ``aerun.training.history``). In a run with stages (see ``aerun.training.stages``) ``stage`` is the current one,
    from 1; it began after ``stage_epoch`` epochs and ``stage_step`` steps, and best, mark, waited, ended and scheduler
    are its own.
    """

    epoch: int = 0
    step: int = 0
    best_epoch: int | None = None
    best_loss: float | None = None
    mark: float | None = None
    waited: int = 0
    ended: bool = False
    train_seconds: float = 0.0
    train_images: int = 0
    compile_seconds: float = 0.0
    wall_seconds: float = 0.0
    scheduler: dict[str, Any] = field(default_factory=dict)
    partial: dict[str, Any] = field(default_factory=dict)
    stage: int = 0
    stage_epoch: int = 0
    stage_step: int = 0

    def begin(self, stage: int, scheduler: dict[str, Any]) -> None:
        """Go on to a stage, the scheduler being in that state."""
        self.stage, self.stage_epoch, self.stage_step = stage, self.epoch, self.step
        self.best_epoch = self.best_loss = self.mark = None
        self.waited, self.ended, self.scheduler, self.partial = 0, False, scheduler, {}
