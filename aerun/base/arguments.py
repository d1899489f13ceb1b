"""An argument parser whose errors are one line, and types of arguments."""

from __future__ import annotations

import argparse
import math
from typing import NoReturn

from aerun.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """Raises ConfigError instead of printing the usage; ``examples`` are printed below the options."""

    def __init__(self, description: str, examples: str, prog: str | None = None) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=f"examples:\n{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see --help")


def count(text: str) -> int:
    """``type=`` of an argument: a whole number, at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}': must be a whole number, at least 1")
    return int(text)


def positive(text: str) -> float:
    """``type=`` of an argument: a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}': must be a number above 0")
    return value


def seed(text: str) -> int:
    """``type=`` of a seed: a whole number that NumPy and scikit-learn accept."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"'{text}': must be a whole number from 0 to {2**32 - 1}")
    return int(text)
