"""One value against one annotation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from aerun.config.schema import check, construct
from aerun.contracts import Count, Finite, NonNegativeInt, OpenProbability, Positive, Probability
from aerun.errors import ConfigError


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (1, Count),
        (0, NonNegativeInt),
        (0.5, OpenProbability),
        (1, Probability),
        (3, Positive),
        (-2.5, Finite),
        (True, bool),
        ("relu", Literal["relu", "gelu"]),
        (None, Count | None),
        ([1, 2], list[Count]),
        ([], list[Count]),
    ],
)
def test_good_values_pass(value: Any, annotation: Any) -> None:
    assert check("key", value, annotation) == value


@pytest.mark.parametrize(
    ("value", "annotation", "allowed"),
    [
        (0, Count, "at least 1"),
        (1.5, Count, "a whole number"),
        (True, Count, "a whole number"),
        (None, Count, "a whole number"),
        ("1", Count, "a whole number"),
        (float("nan"), Positive, "above 0"),
        (float("inf"), Positive, "above 0"),
        (float("inf"), Finite, "finite"),
        (0, Positive, "above 0"),
        (1.5, Probability, "at most 1"),
        (1.0, OpenProbability, "below 1"),
        (True, Finite, "a number"),
        (1, bool, "true or false"),
        ("rleu", Literal["relu", "gelu"], "Did you mean 'relu'?"),
        ([0], list[Count], "at least 1"),
        (3, list[Count], "a list in brackets, each a whole number, at least 1"),
        ("x", Count | None, "or null"),
    ],
)
def test_bad_values_are_refused_with_what_is_allowed(value: Any, annotation: Any, allowed: str) -> None:
    with pytest.raises(ConfigError, match=r"^group\.key=") as refusal:
        check("group.key", value, annotation)
    assert allowed in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_whole_numbers_become_floats_where_a_float_is_due() -> None:
    assert isinstance(check("key", 3, Positive), float)


@dataclass
class _Example:
    size: Count
    name: str = "x"

    def __post_init__(self) -> None:
        if self.size == 13:
            raise ValueError("size=13: brings bad luck")


def test_construct_checks_names_values_and_the_whole() -> None:
    assert construct(_Example, {"size": 2}, "group") == _Example(2)
    with pytest.raises(ConfigError, match=r"group\.sise: there is no such key\. Did you mean 'size'\?"):
        construct(_Example, {"sise": 2}, "group")
    with pytest.raises(ConfigError, match=r"group\.size: a value is missing"):
        construct(_Example, {}, "group")
    with pytest.raises(ConfigError, match=r"^group\.size=13: brings bad luck$"):
        construct(_Example, {"size": 13}, "group")
