"""Measuring in turn, and what is made of the numbers.

A machine's speed drifts, so contestants are asked in turn, A B C A B C, and compared round by round: a ratio is the
median of the rounds' own ratios.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class Spread(NamedTuple):
    """Several measurements of one thing."""

    median: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        """``median (low-high)``, each number formatted by ``spec``."""
        return f"{self.median:{spec}} ({self.low:{spec}}-{self.high:{spec}})"


def spread(values: Sequence[float]) -> Spread:
    """Median and range."""
    return Spread(statistics.median(values), min(values), max(values))


def interleave(contestants: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Ask all in turn, so many times; each one's answers, in order."""
    answers: dict[str, list[T]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, ask in contestants.items():
            answers[name].append(ask())
    return answers


def paired(values: Sequence[float], others: Sequence[float]) -> Spread:
    """The spread of ``values[i] / others[i]`` over rounds i."""
    return spread([value / other for value, other in zip(values, others, strict=True)])


def verdict(value: float, target: float, *, at_most: bool = False) -> str:
    """``met`` or ``NOT met``, with the target."""
    met = value <= target if at_most else value >= target
    return f"{'met' if met else 'NOT met'} ({'<=' if at_most else '>='} {target:g})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table that is also readable on a terminal: numbers to the right, the first column to the left."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
        return "| " + " | ".join([cells[0].ljust(widths[0]), *padded[1:]]) + " |"

    rule = "|" + "|".join("-" * (width + 2) if i == 0 else "-" * (width + 1) + ":" for i, width in enumerate(widths))
    return "\n".join([line(head), rule + "|", *map(line, rows)])
