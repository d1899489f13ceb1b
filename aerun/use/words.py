"""Words for a number of things."""

from __future__ import annotations


def plural(number: int, thing: str) -> str:
    """1 picture, 2 pictures, 8,000 pictures."""
    return f"{number:,} {thing}" + "s" * (number != 1)
