"""Learning-rate schedules against those of torch.optim.lr_scheduler, step by step."""

from __future__ import annotations

import copy
import json
import math
import random
from typing import Any

import pytest
import torch
from torch.optim import SGD, lr_scheduler

from aerun.scheduler import Constant, Cosine, MultiStep, Plateau

BASE, STEPS_PER_EPOCH, TOTAL = 0.1, 7, 40


def optimizer() -> SGD:
    return SGD([torch.nn.Parameter(torch.zeros(1))], lr=BASE)


def multipliers(scheduler: Any, total_steps: int = TOTAL) -> list[float]:
    return [
        scheduler.multiplier(step, total_steps=total_steps, steps_per_epoch=STEPS_PER_EPOCH)
        for step in range(total_steps)
    ]


def torch_multipliers(scheduler: Any, total_steps: int = TOTAL) -> list[float]:
    """The rates that torch's scheduler gives the updates when it is stepped after each."""
    rates = []
    for _ in range(total_steps):
        rates.append(scheduler.get_last_lr()[0] / BASE)
        scheduler.optimizer.step()
        scheduler.step()
    return rates


def losses(seed: int, count: int = 120) -> list[float]:
    """A noisy fall to a level, with repeated values, so that all of improving, waiting and ties occur."""
    draw = random.Random(seed)
    return [round(1 / (1 + 0.2 * step) + 0.3 + 0.1 * draw.random(), 2) for step in range(count)]


def test_constant_is_one_and_never_finishes() -> None:
    assert multipliers(Constant()) == [1.0] * TOTAL
    assert not Constant().finished(1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("patience", [0, 1, 4])
@pytest.mark.parametrize(("factor", "threshold"), [(0.1, 0.0001), (0.5, 0.05), (0.9, 0.0)])
def test_plateau_drops_where_torch_drops(seed: int, patience: int, factor: float, threshold: float) -> None:
    ours = Plateau(factor, patience, threshold, 0.0)
    theirs = lr_scheduler.ReduceLROnPlateau(
        optimizer(), factor=factor, patience=patience, threshold=threshold, threshold_mode="rel", eps=0
    )
    for loss in losses(seed):
        ours.observe(loss)
        theirs.step(loss)
        rate = BASE * ours.multiplier(0, total_steps=TOTAL, steps_per_epoch=STEPS_PER_EPOCH)
        assert rate == pytest.approx(theirs.get_last_lr()[0], rel=1e-9)
    assert ours.drops > 0


def test_plateau_waits_for_more_than_its_patience() -> None:
    scheduler = Plateau(0.5, 2, 0.0, 0.0)
    seen = []
    for loss in [1.0, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.5, 0.5]:
        scheduler.observe(loss)
        seen.append(scheduler.multiplier(0, total_steps=1, steps_per_epoch=1))
    assert seen == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]


def test_plateau_counts_nan_as_no_improvement() -> None:
    scheduler = Plateau(0.5, 0, 0.0, 0.0)
    for loss in [1.0, math.nan]:
        scheduler.observe(loss)
    assert (scheduler.best, scheduler.drops) == (1.0, 1)


@pytest.mark.parametrize(("stop_lr", "drops"), [(0.06, 1), (0.03, 2), (0.025, 3), (0.001, 7)])
def test_plateau_finishes_once_the_rate_is_below_stop_lr(stop_lr: float, drops: int) -> None:
    scheduler = Plateau(0.5, 0, 0.0, stop_lr)
    scheduler.observe(1.0)
    finished_after = [scheduler.finished(BASE)]
    for _ in range(10):
        scheduler.observe(2.0)
        finished_after.append(scheduler.finished(BASE))
    assert finished_after == [False] * drops + [True] * (11 - drops)


def test_plateau_without_stop_lr_never_finishes() -> None:
    scheduler = Plateau(0.1, 0, 0.0, 0.0)
    for _ in range(100):
        scheduler.observe(1.0)
    assert scheduler.drops == 99 and not scheduler.finished(BASE)


@pytest.mark.parametrize(
    "scheduler",
    [Constant(), Plateau(0.5, 3, 0.01, 1e-6), Cosine(1.0, 0.0), MultiStep([2, 4], 0.1)],
    ids=lambda scheduler: type(scheduler).__name__,
)
@pytest.mark.parametrize("pause", [0, 1, 17, 60])
def test_a_restored_schedule_goes_on_as_if_never_stopped(scheduler: Any, pause: int) -> None:
    whole, first, second = (copy.deepcopy(scheduler) for _ in range(3))
    sequence = losses(0)
    for loss in sequence[:pause]:
        whole.observe(loss)
        first.observe(loss)
    second.restore(json.loads(json.dumps(first.state(), allow_nan=False)))
    for loss in sequence[pause:]:
        whole.observe(loss)
        second.observe(loss)
        assert multipliers(second) == multipliers(whole)
        assert second.finished(BASE) == whole.finished(BASE)
    assert second.state() == whole.state()


@pytest.mark.parametrize("total_steps", [1, 2, 40, 41])
@pytest.mark.parametrize("final_factor", [0.0, 0.1])
def test_cosine_without_warmup_is_torchs(total_steps: int, final_factor: float) -> None:
    theirs = lr_scheduler.CosineAnnealingLR(optimizer(), T_max=total_steps, eta_min=final_factor * BASE)
    ours = multipliers(Cosine(0.0, final_factor), total_steps)
    assert ours == pytest.approx(torch_multipliers(theirs, total_steps), abs=1e-9)


@pytest.mark.parametrize("final_factor", [0.0, 0.1])
def test_cosine_ends_at_its_final_factor(final_factor: float) -> None:
    end = Cosine(1.0, final_factor).multiplier(TOTAL, total_steps=TOTAL, steps_per_epoch=STEPS_PER_EPOCH)
    assert end == pytest.approx(final_factor, abs=1e-12)


@pytest.mark.parametrize(("warmup_epochs", "steps"), [(1.0, 7), (2.0, 14), (0.5, 4), (0.25, 2)])
def test_warmup_is_linear_and_reaches_one_at_its_last_step(warmup_epochs: float, steps: int) -> None:
    values = multipliers(Cosine(warmup_epochs, 0.1))
    assert values[:steps] == pytest.approx([(step + 1) / steps for step in range(steps)])
    assert max(values) == 1


def test_after_the_warmup_the_cosine_takes_the_steps_that_are_left() -> None:
    left = TOTAL - 2 * STEPS_PER_EPOCH
    theirs = lr_scheduler.CosineAnnealingLR(optimizer(), T_max=left, eta_min=0.1 * BASE)
    ours = multipliers(Cosine(2.0, 0.1))[2 * STEPS_PER_EPOCH :]
    assert ours == pytest.approx(torch_multipliers(theirs, left), abs=1e-9)


def test_a_warmup_longer_than_the_run_fills_it() -> None:
    assert multipliers(Cosine(100.0, 0.0), 10) == pytest.approx([(step + 1) / 10 for step in range(10)])


@pytest.mark.parametrize("milestones", [[2, 4], [4, 2], [1], [2, 2, 3], [50]])
@pytest.mark.parametrize("gamma", [0.1, 0.5])
def test_multistep_is_torchs_stepped_once_an_epoch(milestones: list[int], gamma: float) -> None:
    theirs = lr_scheduler.MultiStepLR(optimizer(), milestones, gamma)
    epochs = torch_multipliers(theirs, math.ceil(TOTAL / STEPS_PER_EPOCH))
    expected = [epochs[step // STEPS_PER_EPOCH] for step in range(TOTAL)]
    assert multipliers(MultiStep(milestones, gamma)) == pytest.approx(expected, rel=1e-9)
