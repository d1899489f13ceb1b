"""Types and ranges of the values of keys: ``k: Count`` rejects ``sparsity.k=0`` before torch is imported."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal


@dataclass(frozen=True)
class Range:
    """An interval of numbers; a bound of None means no bound. NaN and infinities are never inside."""

    low: float | None = None
    high: float | None = None
    low_open: bool = False
    high_open: bool = False

    def __contains__(self, value: float) -> bool:
        if isinstance(value, float) and not math.isfinite(value):
            return False
        above = self.low is None or (value > self.low if self.low_open else value >= self.low)
        below = self.high is None or (value < self.high if self.high_open else value <= self.high)
        return above and below

    def __str__(self) -> str:
        low = None if self.low is None else f"{'above' if self.low_open else 'at least'} {self.low}"
        high = None if self.high is None else f"{'below' if self.high_open else 'at most'} {self.high}"
        return " and ".join(part for part in (low, high) if part) or "finite"


Finite = Annotated[float, Range()]
Positive = Annotated[float, Range(0, low_open=True)]
NonNegative = Annotated[float, Range(0)]
Probability = Annotated[float, Range(0, 1)]
OpenProbability = Annotated[float, Range(0, 1, low_open=True, high_open=True)]
Fraction = Annotated[float, Range(0, 1, low_open=True)]
Decay = Annotated[float, Range(0, 1, high_open=True)]
Count = Annotated[int, Range(1)]
Size = Annotated[int, Range(1, 1_000_000)]
Seed = Annotated[int, Range(0, 2**63 - 1)]
NonNegativeInt = Annotated[int, Range(0)]
Activation = Literal["identity", "relu", "leaky_relu", "elu", "selu", "gelu", "silu", "softplus", "tanh", "sigmoid"]
