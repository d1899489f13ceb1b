"""Learning-rate schedules, as a factor on the optimizer's base rate.

The factor is a function of the step and of the numbers observed before it, so a resumed run continues exactly.
``observe`` is called after each evaluation with the number that ``trainer.monitor`` names, so that lower is better.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any

from aerun.contracts import Count, Decay, NonNegative, NonNegativeInt, OpenProbability, Scheduler


@dataclass
class Constant(Scheduler):
    """The base rate throughout: a factor of 1, as the contract has it."""


@dataclass
class Plateau(Scheduler):
    """The rate falls by ``factor`` when the monitored number has not improved for more than ``patience`` evaluations.

    An improvement is a number below best * (1 - threshold), as in the relative mode of torch's ReduceLROnPlateau; if
    higher is better, above best * (1 + threshold). The run ends when the rate falls below ``stop_lr``.
    """

    factor: OpenProbability
    patience: NonNegativeInt
    threshold: Decay
    stop_lr: NonNegative
    best: float = field(default=math.inf, init=False)
    waited: int = field(default=0, init=False)
    drops: int = field(default=0, init=False)

    def check_settings(self, settings: Any) -> None:
        for key, optimizer in (
            ("optimizer", settings.optimizer),
            *(("trainer.stage_optimizer", optimizer) for optimizer in settings.stage_optimizers),
        ):
            if optimizer.lr is not None and self.stop_lr >= optimizer.lr:
                phase = "run" if key == "optimizer" else "stage"
                raise ValueError(
                    f"scheduler.stop_lr={self.stop_lr} is not below {key}.lr={optimizer.lr}: the {phase} would end "
                    "immediately"
                )

    def multiplier(self, step: int, *, total_steps: int, steps_per_epoch: int) -> float:
        return float(self.factor**self.drops)

    def observe(self, loss: float) -> None:
        if loss < self.best * (1 - math.copysign(self.threshold, self.best)):
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
    """Linear warm-up over ``warmup_epochs``, then half a cosine down to ``final_factor`` at the end of the run.

    Loshchilov & Hutter 2017, "SGDR" (arXiv:1608.03983), without restarts.
    """

    warmup_epochs: NonNegative
    final_factor: Decay

    def check_settings(self, settings: Any) -> None:
        trainer, warmup = settings.trainer, self.warmup_epochs
        if trainer.epochs and trainer.steps is None and warmup > trainer.epochs:
            raise ValueError(
                f"scheduler.warmup_epochs={warmup} is longer than the run, trainer.epochs={trainer.epochs}"
            )
        stages = trainer.stage_epochs
        shortest = min((count for count in (stages if isinstance(stages, list) else [stages]) if count), default=None)
        if shortest is not None and warmup > shortest:
            raise ValueError(f"scheduler.warmup_epochs={warmup} is longer than a stage, trainer.stage_epochs={stages}")

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
