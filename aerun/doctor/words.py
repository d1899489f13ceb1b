"""Numbers of the evidence in words."""

from __future__ import annotations

from aerun.doctor.examination import Examination


def explained(e: Examination) -> str:
    """How much of the variance comes back."""
    fit = e.fit
    if fit is None:
        return ""
    if fit.explained < -9:
        return f"the error is {1 - fit.explained:.2g} times that of the mean image"
    return f"{fit.explained:.2f} of the variance explained"


def times(e: Examination, key: str, factor: float) -> str:
    """An override: the present value times a factor."""
    value = e.options.number(key)
    return f"{key}={rounded(value * factor)}" if value is not None else f"{key} times {factor:g}"


def rounded(value: float) -> str:
    """Two digits."""
    return f"{value:.2g}"


def ranges(numbers: list[int]) -> str:
    """[0, 1, 2, 5] -> ``0-2, 5``."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] == number - 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{part[0]}" if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)
