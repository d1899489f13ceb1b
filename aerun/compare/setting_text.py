"""Settings as text: as they are typed on a command line and shown in tables."""

from __future__ import annotations

from aerun.compare.records import Value

MISSING = "–"  # noqa: RUF001


def parse_setting(text: str) -> Value | None:
    """A typed setting in the form of ``flatten_settings``; None if it stands for a missing one."""
    if text in (MISSING, "null", ""):
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return float(text)
    except ValueError:
        return text


def format_setting(value: Value | None) -> str:
    """A setting as it is typed on the command line."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return printable(value)


def printable(text: str) -> str:
    """Replace line breaks and control characters, which would break a table or control the terminal, by spaces."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else " " for letter in text)
