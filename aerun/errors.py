"""Errors for the user: shown as one line, without a traceback."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

# Control characters, line breaks, and marks that change the direction of writing.
INVISIBLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def visible(text: str) -> str:
    """The text with every control character as JSON escapes it, so that it stays in its line and commands no
    terminal."""
    return INVISIBLE.sub(lambda found: SHORT.get(found[0]) or f"\\u{ord(found[0]):04x}", text)


class AerunError(Exception):
    """An error that the user can fix; its text is complete, in one line."""

    def __str__(self) -> str:
        """The text. Names of files and values of somebody else's may contain control characters, which are escaped."""
        return visible(super().__str__())


class ConfigError(AerunError):
    """An invalid key or value, or options that are incompatible."""


class DataError(AerunError):
    """A file or folder is missing, damaged, or of the wrong kind."""


class DivergedError(AerunError):
    """Training produced a loss that is not finite. The text ends in ``; try`` and what may help."""


class StorageError(AerunError):
    """A file of the run folder cannot be written."""


class BusyError(ConfigError):
    """Another process is writing to the run folder."""


class PrunedError(AerunError):
    """A search stopped the run early because it was not promising."""


class CallbackError(AerunError):
    """A user's callback raised an error."""


class KilledError(AerunError):
    """A process of the run ended without an error report."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """``" Did you mean 'x'?"`` with the allowed name closest to ``name``, or "" if none is close."""
    lower = {candidate.lower(): candidate for candidate in allowed}
    match = difflib.get_close_matches(name.lower(), list(lower), n=1, cutoff=0.5)
    return f" Did you mean '{lower[match[0]]}'?" if match else ""
