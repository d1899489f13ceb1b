"""The course of a number during training: a penalty's weight, the k of a sparsity, the level of a noise, a capacity.

A schedule ends at the number that its ``key`` has in the configuration. Evaluation, and so the choice of the best
epoch, uses that number throughout, so that epochs can be compared. Values depend on the step's number alone. In a run
with stages, every stage has the whole course.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from aerun.contracts import Count, Finite, Fraction, Moment, Positive, Schedule


@dataclass(frozen=True, kw_only=True)
class _Ramp(Schedule):
    """From ``start`` to the key's number over the first ``epochs`` (null: over the whole run), and constant then."""

    key: str
    start: Finite
    epochs: Positive | None

    def check_settings(self, settings: Any) -> None:
        epochs, trainer = self.epochs, settings.trainer
        if epochs is not None and trainer.epochs and trainer.steps is None and epochs > trainer.epochs:
            raise ValueError(f"epochs={epochs:g} is longer than the run, trainer.epochs={trainer.epochs}")

    def check_final(self, final: float) -> Sequence[float]:
        return (self.start,)


@dataclass(frozen=True, kw_only=True)
class Linear(_Ramp):
    """start + s (final - start), for the share s of the epochs that is done.

    For ``latent.beta`` from 0 this is the warm-up of Bowman et al. 2016 (arXiv:1511.06349) and Sønderby et al. 2016
    (arXiv:1602.02282); for ``latent.capacity`` that of Burgess et al. 2018 (arXiv:1804.03599); for ``sparsity.k`` that
    of Makhzani & Frey 2013 (arXiv:1312.5663), section 4.2.1.
    """

    def value(self, at: Moment, final: float) -> float:
        return self.start + at.share_of(self.epochs) * (final - self.start)


@dataclass(frozen=True, kw_only=True)
class Cosine(_Ramp):
    """start + (1 - cos(pi s)) / 2 (final - start), for the share s of the epochs that is done."""

    def value(self, at: Moment, final: float) -> float:
        return self.start + 0.5 * (1 - math.cos(math.pi * at.share_of(self.epochs))) * (final - self.start)


@dataclass(frozen=True, kw_only=True)
class Exponential(_Ramp):
    """start (final / start)^s, for the share s of the epochs that is done."""

    def check_final(self, final: float) -> Sequence[float]:
        if self.start <= 0 or final <= 0:
            raise ValueError(f"start={self.start:g} and {self.key}={final:g}: both must be above 0")
        return (self.start,)

    def value(self, at: Moment, final: float) -> float:
        return float(self.start * (final / self.start) ** at.share_of(self.epochs))


@dataclass(frozen=True, kw_only=True)
class Cyclical(Schedule):
    """``cycles`` equal parts of the run: in each the number rises linearly from ``start`` to that of the key over the
    share ``ramp``, and stays there. Fu et al. 2019, "Cyclical Annealing Schedule" (arXiv:1903.10145), equations 6 and 7
    (4 cycles, a ramp of 0.5)."""

    key: str
    start: Finite
    cycles: Count
    ramp: Fraction

    def check_final(self, final: float) -> Sequence[float]:
        return (self.start,)

    def value(self, at: Moment, final: float) -> float:
        return self.start + at.share_of_cycle(self.cycles, self.ramp) * (final - self.start)


@dataclass(frozen=True, kw_only=True)
class Steps(Schedule):
    """``values``, each until the epoch (counted from 0) at its place in ``until``; after the last, the key's number."""

    key: str
    values: list[Finite]
    until: list[Positive]

    def __post_init__(self) -> None:
        if len(self.values) != len(self.until) or not self.values:
            raise ValueError(f"values={self.values} and until={self.until}: must have one epoch for each value")
        if any(before >= after for before, after in pairwise(self.until)):
            raise ValueError(f"until={self.until}: epochs must rise")

    def check_final(self, final: float) -> Sequence[float]:
        return self.values

    def value(self, at: Moment, final: float) -> float:
        return [*self.values, final][bisect_right(self.until, at.step / at.steps_per_epoch)]
