"""What to say of a run's learning-rate schedule before training."""

from __future__ import annotations

import logging
import math

from aerun.config.settings import Settings
from aerun.contracts import Scheduler

log = logging.getLogger(__name__)


def warn_of_jump(settings: Settings, before: int) -> None:
    """Say that a run made longer than ``before`` epochs continues at another learning rate than it had."""
    per_epoch, schedule = 100, settings.scheduler  # any number of steps: the schedule is a function of the share
    last, total = before * per_epoch - 1, settings.trainer.epochs * per_epoch
    had, has = (schedule.multiplier(last, total_steps=n, steps_per_epoch=per_epoch) for n in (last + 1, total))
    if not math.isclose(had, has, abs_tol=1e-9):
        log.warning(
            "%s: the learning rate, which had come to %.3g of optimizer.lr at the end of %d epochs, continues at %.3g, "
            "because the schedule extends over the whole run",
            settings.name("scheduler"),
            had,
            before,
            has,
        )


def has_no_effect(schedule: Scheduler, total: int, per_epoch: int) -> bool:
    """Whether a schedule that depends on the step alone leaves the rate as it is in all ``total`` steps."""
    if type(schedule).multiplier is Scheduler.multiplier or type(schedule).observe is not Scheduler.observe:
        return False
    steps = (*range(0, total, per_epoch), total - 1)
    return all(schedule.multiplier(step, total_steps=total, steps_per_epoch=per_epoch) == 1 for step in steps)
