"""Learning-rate schedules, as a factor on the optimizer's base rate.

A factor is a function of the step and of what was observed before it, so that a run continued from a checkpoint
goes on exactly where it was. ``observe`` is told the monitored loss once per evaluation: that of the validation
part, or of training where there is none.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any

from aerun.config.schema import Count, Decay, NonNegative, NonNegativeInt, OpenProbability


class Scheduler:
    """What every schedule offers; as it stands it keeps the base rate."""

    def multiplier(self, step: int, *, total_steps: int, steps_per_epoch: int) -> float:
        """The multiplier of the base rate for the update number ``step`` (0 is the first)."""
        return 1.0

    def observe(self, loss: float) -> None:
        """Take note of the monitored loss."""

    def finished(self, base_rate: float) -> bool:
        """Whether the run should end, its optimizer having that base rate."""
        return False

    def state(self) -> dict[str, Any]:
        """What a continued run must know, as JSON values."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` returned."""


@dataclass
class Constant(Scheduler):
    """The base rate throughout."""


@dataclass
class Plateau(Scheduler):
    """The rate falls by ``factor`` when the loss has not improved for more than ``patience`` evaluations.

    An improvement is a loss below best * (1 - threshold), as torch's ReduceLROnPlateau has it in its relative
    mode. The run ends when the rate falls below ``stop_lr``.
    """

    factor: OpenProbability
    patience: NonNegativeInt
    threshold: Decay
    stop_lr: NonNegative
    best: float = field(default=math.inf, init=False)
    waited: int = field(default=0, init=False)
    drops: int = field(default=0, init=False)

    def multiplier(self, step: int, *, total_steps: int, steps_per_epoch: int) -> float:
        return float(self.factor**self.drops)

    def observe(self, loss: float) -> None:
        if loss < self.best * (1 - self.threshold):
            self.best, self.waited = loss, 0
            return
        self.waited += 1
        if self.waited > self.patience:
            self.drops, self.waited = self.drops + 1, 0

    def finished(self, base_rate: float) -> bool:
        return base_rate * self.factor**self.drops < self.stop_lr

    def state(self) -> dict[str, Any]:
        best = None if math.isinf(self.best) else self.best
        return {"best": best, "waited": self.waited, "drops": self.drops}

    def restore(self, state: dict[str, Any]) -> None:
        self.best = math.inf if state["best"] is None else state["best"]
        self.waited, self.drops = state["waited"], state["drops"]


@dataclass
class Cosine(Scheduler):
    """Linear warm-up over ``warmup_epochs``, then half a cosine, down to ``final_factor`` when the run ends.

    Loshchilov & Hutter 2017, "SGDR" (arXiv:1608.03983), without restarts.
    """

    warmup_epochs: NonNegative
    final_factor: Decay

    def multiplier(self, step: int, *, total_steps: int, steps_per_epoch: int) -> float:
        warmup = min(round(self.warmup_epochs * steps_per_epoch), total_steps)
        if step < warmup:
            return (step + 1) / warmup
        progress = (step - warmup) / max(1, total_steps - warmup)
        return self.final_factor + (1 - self.final_factor) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


@dataclass
class MultiStep(Scheduler):
    """The rate is multiplied by ``gamma`` at the start of each epoch in ``milestones`` (counted from 0)."""

    milestones: list[Count]
    gamma: OpenProbability

    def multiplier(self, step: int, *, total_steps: int, steps_per_epoch: int) -> float:
        return float(self.gamma ** bisect_right(sorted(self.milestones), step // steps_per_epoch))
