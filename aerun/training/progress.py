"""The progress of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Progress:
    """What a resumed run needs in addition to weights and optimizer state.

    ``epoch`` counts epochs that are trained and evaluated; ``partial`` contains the loss terms of the unfinished epoch
    (see ``aerun.training.history``). ``best_loss`` is the best value of ``trainer.monitor``; ``mark`` is the one that
    patience compares with, ``waited`` the evaluations since. In a run with stages (see ``aerun.training.stages``),
    ``stage`` is the number of the current stage, from 1, which began after ``stage_epoch`` epochs and ``stage_step``
    steps; best, mark, waited, ended, stopped (by an observer) and scheduler are those of the stage.
    """

    epoch: int = 0
    step: int = 0
    best_epoch: int | None = None
    best_loss: float | None = None
    mark: float | None = None
    waited: int = 0
    ended: bool = False
    stopped: bool = False
    train_seconds: float = 0.0
    train_images: int = 0
    compile_seconds: float = 0.0
    wall_seconds: float = 0.0
    scheduler: dict[str, Any] = field(default_factory=dict)
    partial: dict[str, Any] = field(default_factory=dict)
    stage: int = 0
    stage_epoch: int = 0
    stage_step: int = 0

    def start_stage(self, stage: int, scheduler: dict[str, Any]) -> None:
        """Start a stage with the scheduler in that state."""
        self.stage, self.stage_epoch, self.stage_step = stage, self.epoch, self.step
        self.best_epoch = self.best_loss = self.mark = None
        self.waited, self.ended, self.stopped = 0, False, False
        self.scheduler, self.partial = scheduler, {}
