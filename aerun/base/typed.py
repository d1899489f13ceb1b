"""What the values of a JSON or YAML file may be: small checks that are combined into the schema of a file."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

# Called with a value's key, for the message, and the value. ValueError: ``test.mse='x': must be a number``.
Check = Callable[[str, Any], None]

LARGEST = 2**63 - 1


def must_be(what: str, fits: Callable[[Any], bool]) -> Check:
    """A check of one value."""

    def check(key: str, value: Any) -> None:
        if not fits(value):
            shown = f"{key}={reprlib.repr(value)}" if key else f"the content, {reprlib.repr(value)}"
            raise ValueError(f"{shown}: must be {what}")

    return check


def is_number(value: Any) -> bool:
    """Whether the value is a number that fits into a float; NaN, infinities and booleans are numbers."""
    return isinstance(value, float) or (isinstance(value, int) and abs(value) <= LARGEST)


def whole(least: int = 0, most: int = LARGEST) -> Check:
    """A whole number in a range."""
    text = f"a whole number of at least {least}" if most == LARGEST else f"a whole number from {least} to {most}"
    return must_be(text, lambda value: type(value) is int and least <= value <= most)


ANY: Check = must_be("anything", lambda _: True)
TEXT = must_be("text", lambda value: isinstance(value, str))
NUMBER = must_be("a number", is_number)
POSITIVE_NUMBER = must_be("a number of at least 0", lambda value: is_number(value) and value >= 0)
TRUTH = must_be("true or false", lambda value: isinstance(value, bool))
MAPPING = must_be("a mapping", lambda value: isinstance(value, Mapping))


def one_of(*words: str) -> Check:
    """One of these texts."""
    return must_be(f"one of {', '.join(words)}", lambda value: isinstance(value, str) and value in words)


def or_null(check: Check) -> Check:
    """The same, or null."""
    return lambda key, value: None if value is None else check(key, value)


def all_of(*checks: Check) -> Check:
    """A value that passes all of these."""

    def check_all(key: str, value: Any) -> None:
        for check in checks:
            check(key, value)

    return check_all


def mapping_of(check: Check) -> Check:
    """A mapping whose values all pass the check."""

    def check_all(key: str, value: Any) -> None:
        MAPPING(key, value)
        for name, item in value.items():
            check(_below(key, name), item)

    return check_all


def list_of(check: Check, least: int = 0, most: int = LARGEST) -> Check:
    """A list of so many values that all pass the check."""
    count = "" if (least, most) == (0, LARGEST) else f" of {least} to {most} values"
    is_list = must_be(f"a list{count}", lambda value: isinstance(value, list) and least <= len(value) <= most)

    def check_all(key: str, value: Any) -> None:
        is_list(key, value)
        for index, item in enumerate(value):
            check(f"{key}[{index}]", item)

    return check_all


def record(checks: Mapping[str, Check], required: Iterable[str] = ()) -> Check:
    """A mapping with these keys, of which only ``required`` may not be missing. Other keys may have any value."""
    needed = tuple(required)

    def check_all(key: str, value: Any) -> None:
        MAPPING(key, value)
        for name in needed:
            if name not in value:
                raise ValueError(f"{_below(key, name)}: is missing")
        for name, check in checks.items():
            if name in value:
                check(_below(key, name), value[name])

    return check_all


def _below(key: str, name: Any) -> str:
    return f"{key}.{name}" if key else str(name)
