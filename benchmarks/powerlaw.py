"""How a cost grows: a + b n^p."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

EXPONENTS = np.arange(0.05, 4.0, 0.002)
FLAT = 1.1  # costs that differ by less do not tell what they grow with


class PowerLaw(NamedTuple):
    """``fixed + factor * n ** exponent``, and the largest relative error of a measured point."""

    fixed: float
    factor: float
    exponent: float
    misfit: float

    def __call__(self, n: np.ndarray) -> np.ndarray:
        return self.fixed + self.factor * n**self.exponent

    def __str__(self) -> str:
        """The exponent and the misfit."""
        return f"{self.exponent:.2f} ({100 * self.misfit:.0f} %)" if self.factor else "flat"


def fit(counts: Sequence[float], costs: Sequence[float]) -> PowerLaw:
    """The law with the smallest relative errors, in the sense of least squares; neither part is negative.

    Without the fixed part, a slope in log-log axes would take a start-up that costs the same for every n for
    sub-linear growth. For each exponent the other two follow by linear least squares; the exponents are tried in turn.
    Costs that hardly differ, or fall, give a law without growth.
    """
    n, cost = np.asarray(counts, float), np.asarray(costs, float)
    best, least = PowerLaw(float(cost.mean()), 0.0, 0.0, float(np.abs(cost / cost.mean() - 1).max())), np.inf
    if cost.max() < FLAT * cost.min():
        return best
    for exponent in EXPONENTS:
        power = (n / n.max()) ** exponent
        # Both columns over the costs: residuals are then relative.
        solution = np.linalg.lstsq(np.stack([1 / cost, power / cost], 1), np.ones_like(n), rcond=None)[0]
        fixed, factor = solution
        if fixed < 0:
            fixed, factor = 0.0, (power / cost).sum() / ((power / cost) ** 2).sum()
        if factor < 0:
            continue
        errors = (fixed + factor * power) / cost - 1
        if (errors**2).sum() < least:
            least = (errors**2).sum()
            values = (fixed, factor / n.max() ** exponent, exponent, np.abs(errors).max())
            best = PowerLaw(*map(float, values))
    return best
