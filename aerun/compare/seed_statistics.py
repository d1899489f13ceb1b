"""Statistics over seeds: means with intervals, paired differences, and the expected best of several draws.

Means and their intervals need nothing but the standard library; scipy is imported for the tests of differences only.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate, pairwise

CONFIDENCE = 0.95
ROUNDING = 1e-9  # of a mean difference, below which its standard deviation is that of floating-point numbers
MIN_PAIRS = 3  # seeds below which an interval or a test says next to nothing


@dataclass(frozen=True)
class Statistic:
    """The mean of ``n`` runs, and their sample standard deviation if there are at least two."""

    mean: float
    std: float | None
    n: int

    @classmethod
    def from_values(cls, values: Sequence[float]) -> Statistic | None:
        """The statistic of these values; None if there are none."""
        if not values:
            return None
        if not all(map(math.isfinite, values)):
            return cls(sum(values), None, len(values))
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % confidence interval of the mean by Student's t, for independent and normal values; None without a
        standard deviation."""
        if self.std is None:
            return None
        half = t_quantile(self.n - 1) * self.std / math.sqrt(self.n)
        return self.mean - half, self.mean + half


@lru_cache
def t_quantile(freedom: int) -> float:
    """The t that |T| stays below with a probability of 0.95, for that many degrees of freedom (at least 1).

    Bisection of the closed form for whole degrees of freedom: Abramowitz and Stegun 1964, equations 26.7.3 and 26.7.4.
    """
    low, high = 0.0, math.pi / 2  # of the angle whose tangent is t / sqrt(freedom)
    while (angle := (low + high) / 2) not in (low, high):
        low, high = (angle, high) if _t_probability(angle, freedom) < CONFIDENCE else (low, angle)
    return math.tan(angle) * math.sqrt(freedom)


def _t_probability(angle: float, freedom: int) -> float:
    """P(|T| < sqrt(freedom) tan(angle))."""
    odd = freedom % 2
    term, total = (math.cos(angle), 0.0) if odd else (1.0, 0.0)
    for power in range(2 + odd, freedom + 1, 2):
        total += term
        term *= math.cos(angle) ** 2 * (power - 1) / power
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total


@dataclass(frozen=True)
class PairedDifference:
    """A row minus its baseline in one metric, one difference for each common seed.

    ``runs``: the numbers of finished runs of the row and of the baseline. ``p_t`` and ``p_wilcoxon``: two-sided
    p-values of the paired t-test and of Wilcoxon's signed-rank test; None where they are not defined. ``p_t_holm`` and
    ``p_wilcoxon_holm``: the same, corrected for the number of rows that were tested.
    """

    metric: str
    baseline: str
    differences: tuple[float, ...]
    runs: tuple[int, int]
    p_t: float | None = None
    p_wilcoxon: float | None = None
    p_t_holm: float | None = None
    p_wilcoxon_holm: float | None = None

    @property
    def statistic(self) -> Statistic | None:
        """The mean difference, with its standard deviation and interval."""
        return Statistic.from_values(self.differences)

    @property
    def effect_size(self) -> float | None:
        """Cohen's d_z, the mean difference over its standard deviation (Lakens 2013, equation 6,
        https://doi.org/10.3389/fpsyg.2013.00863); None if the differences vary by no more than rounding."""
        statistic = self.statistic
        if statistic is None or statistic.std is None or statistic.std <= ROUNDING * abs(statistic.mean):
            return None
        return statistic.mean / statistic.std


def with_tests(pairs: Sequence[PairedDifference]) -> list[PairedDifference]:
    """The differences with their p-values, corrected over all of them by Holm's method."""
    tested = [replace(pair, p_t=p_t, p_wilcoxon=p_w) for pair in pairs for p_t, p_w in [_p_values(pair)]]
    by_t, by_wilcoxon = holm([pair.p_t for pair in tested]), holm([pair.p_wilcoxon for pair in tested])
    return [
        replace(pair, p_t_holm=p_t, p_wilcoxon_holm=p_w)
        for pair, p_t, p_w in zip(tested, by_t, by_wilcoxon, strict=True)
    ]


def _p_values(pair: PairedDifference) -> tuple[float | None, float | None]:
    """Of the paired t-test and of Wilcoxon's; None for fewer than two differences, or if all are equal."""
    if pair.effect_size is None:
        return None, None
    from scipy.stats import ttest_1samp, wilcoxon

    return float(ttest_1samp(pair.differences, 0.0).pvalue), float(wilcoxon(pair.differences).pvalue)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p-values corrected by Holm's step-down method (Holm 1979, https://www.jstor.org/stable/4615733); None is not
    counted."""
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    steps = [min(1.0, p * (len(known) - rank)) for rank, (p, _) in enumerate(known)]
    corrected: list[float | None] = [None] * len(p_values)
    for (_, index), step in zip(known, accumulate(steps, max), strict=True):
        corrected[index] = step
    return corrected


def expected_best(values: Sequence[float], draws: int, higher_is_better: bool) -> float:
    """The expected best of ``draws`` independent draws from the distribution of these values, whatever it is.

    Dodge et al. 2019, "Show Your Work", equations 2 to 4 (https://arxiv.org/abs/1909.03004): the i-th of n sorted
    values is the maximum with a probability of (i/n)^draws - ((i-1)/n)^draws.
    """
    ordered = sorted(values, reverse=not higher_is_better)
    below = [(rank / len(ordered)) ** draws for rank in range(len(ordered) + 1)]
    return math.fsum(value * (high - low) for value, (low, high) in zip(ordered, pairwise(below), strict=True))
