"""The argument parser of all commands, whose errors are one line, and types of arguments."""

from __future__ import annotations

import argparse
import math
import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from aerun.base.program import version_line
from aerun.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """Raises ConfigError instead of printing the usage; ``--help`` ends with ``examples``; has ``--version``."""

    def __init__(self, description: str, examples: str, prog: str | None = None) -> None:
        super().__init__(
            prog=prog,
            description=textwrap.fill(" ".join(description.split()), shutil.get_terminal_size().columns - 2),
            epilog=f"examples:\n{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.add_argument("--version", action=_ShowVersion, help="show the versions of aerun, torch and Hydra")

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError instead of printing the usage and exiting."""
        raise ConfigError(f"{message}; see --help")


class _ShowVersion(argparse.Action):
    """Like argparse's own action, but looks the versions up only when asked."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(version_line())
        parser.exit()


def whole_number(text: str) -> int | None:
    """The whole number, from 0, that a text is written as; None for any other text."""
    try:
        return int(text) if text.isdecimal() else None  # not isdigit, which superscripts are
    except ValueError:  # more digits than Python converts
        return None


def distance_or_auto(text: str) -> float | str:
    """A distance, 0 or more, or ``auto``."""
    if text == "auto":
        return text
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}': must be a distance, 0 or more, or auto")
    return value


def count(text: str) -> int:
    """``type=`` of an argument: a whole number, at least 1."""
    if not (number := whole_number(text)):
        raise argparse.ArgumentTypeError(f"'{text}': must be a whole number, at least 1")
    return number


def label(text: str) -> int:
    """``type=`` of a class: a whole number, from 0."""
    if (number := whole_number(text)) is None:
        raise argparse.ArgumentTypeError(f"'{text}': must be a whole number, from 0")
    return number


def positive(text: str) -> float:
    """``type=`` of an argument: a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}': must be a number above 0")
    return value


def share(text: str) -> float:
    """``type=`` of an argument: a number above 0, at most 1."""
    value = positive(text)
    if value > 1:
        raise argparse.ArgumentTypeError(f"'{text}': must be a number above 0, at most 1")
    return value


def pixels(text: str) -> tuple[int, int]:
    """``type=`` of a picture's size: WIDTHxHEIGHT, or N for a square, from 300 to 8,000 pixels a side."""
    sides = [whole_number(side) or 0 for side in text.split("x")]
    if len(sides) > 2 or not all(300 <= side <= 8000 for side in sides):
        raise argparse.ArgumentTypeError(f"'{text}': must be WIDTHxHEIGHT or N, from 300 to 8000 pixels a side")
    return sides[0], sides[-1]


def png_file(text: str) -> Path:
    """``type=`` of a picture to write: a path that ends in .png."""
    path = Path(text)
    if path.suffix != ".png":
        raise argparse.ArgumentTypeError(f"'{text}': must end in .png")
    return path


def seed(text: str) -> int:
    """``type=`` of a seed: a whole number that NumPy and scikit-learn accept."""
    number = whole_number(text)
    if number is None or number >= 2**32:
        raise argparse.ArgumentTypeError(f"'{text}': must be a whole number from 0 to {2**32 - 1}")
    return number
