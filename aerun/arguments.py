"""An argument parser that says what is wrong in one line, as everything here does."""

from __future__ import annotations

import argparse
from typing import NoReturn

from aerun.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """Raises ConfigError in place of printing the usage; ``examples`` stand below the options."""

    def __init__(self, description: str, examples: str, prog: str | None = None) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=f"examples:\n{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; --help shows how")


def count(text: str) -> int:
    """For ``type=`` of an argument: a whole number, at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}': must be a whole number, at least 1")
    return int(text)
