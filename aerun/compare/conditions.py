"""The language of conditions: ``aerun-compare --where`` selects runs by it, and ``sweep.where`` the points of a sweep.

condition   key=value   key!=value   a<b  a<=b  a>b  a>=b   key in one,other   key not in one,other
            condition and condition   condition or condition   not condition   (condition)
a, b        keys and numbers with + - * / and parentheses: model.code_size*2
value       as typed on a command line; one of several, one,other; a key with a dot, or arithmetic with such keys
"""

from __future__ import annotations

import itertools
import math
import operator
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from aerun.compare.condition_arithmetic import Number, Values, as_number, read_arithmetic
from aerun.compare.records import Value
from aerun.compare.setting_text import format_setting, parse_setting
from aerun.errors import ConfigError, nearest

ORDERS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
OPERATORS = re.compile(r"!=|<=|>=|==|=|<|>|\s+not\s+in\s+|\s+in\s+(?=\S)")
MAX_LENGTH = 1000  # characters of a condition
BRACKETS = {"(": ")", "[": "]", "{": "}"}


@dataclass(frozen=True)
class Condition:
    """A condition on the values of keys. ``keys``: those that it reads."""

    text: str
    keys: frozenset[str]
    holds: Callable[[Values], bool]


@dataclass(frozen=True)
class Language:
    """What conditions may name: the ``known`` keys. ``option``: what is typed, for messages; ``owner``: of the keys."""

    known: Collection[str]
    option: str = "--where "
    owner: str = "run"

    def parse(self, text: str) -> Condition:
        """The condition that a text says. ConfigError for one that cannot be read, and for unknown keys.

        A comparison with a missing number is false, whichever way it compares.
        """
        try:
            if len(text) > MAX_LENGTH:
                raise ConfigError(f"is longer than {MAX_LENGTH} characters")
            condition = self._any(text)
        except RecursionError:
            raise ConfigError(f"{self.option}'{text[:40]}…': has too many parentheses") from None
        except ConfigError as error:
            raise ConfigError(f"{self.option}'{text}': {error}") from None
        return Condition(text, condition.keys, condition.holds)

    def _any(self, text: str) -> Condition:
        parts = [self._all(part) for part in _split(text, "or")]
        return parts[0] if len(parts) == 1 else _join(text, parts, any)

    def _all(self, text: str) -> Condition:
        parts = [self._one(part.strip()) for part in _split(text, "and")]
        return parts[0] if len(parts) == 1 else _join(text, parts, all)

    def _one(self, text: str) -> Condition:
        if negated := re.match(r"not\b(?=\s*\()|not\s+", text):
            inner = self._one(text[negated.end() :].strip())
            return Condition(text, inner.keys, lambda values: not inner.holds(values))
        if text.startswith("(") and next((end for end, depth in _depths(text) if depth == 0), 0) == len(text) - 1:
            return self._any(text[1:-1])
        return self._comparison(text)

    def _comparison(self, text: str) -> Condition:
        at_top = {place for place, depth in _depths(text) if depth == 0}
        found = next((match for match in OPERATORS.finditer(text) if match.start() in at_top), None)
        if found is None or not text[: found.start()].strip():
            raise ConfigError("must be key=value, or have !=, <, <=, > or >= in place of =")
        left, sign, right = text[: found.start()].strip(), " ".join(found[0].split()), text[found.end() :].strip()
        keys, value = self._left(left)
        if sign in ORDERS:
            more, limit = self._number(right, sign)
            compare = ORDERS[sign]
            return Condition(text, keys | more, lambda values: _in_order(compare, value(values), limit(values)))
        if sign.endswith("in") and _is_enclosed(right):
            right = right[1:-1]
        wanted = [self._wanted(item) for item in (right, *_items(right))]
        more = frozenset[str]().union(*(keys for keys, _ in wanted))
        expected = not sign.startswith(("!", "not"))
        return Condition(
            text, keys | more, lambda values: any(test(value(values), values) for _, test in wanted) == expected
        )

    def _left(self, text: str) -> tuple[frozenset[str], Number]:
        found = read_arithmetic(text, self.known)
        if found is None or not found[0]:
            names = [name for name in re.findall(r"[^\s=!<>()*+]+", text) if name not in self.known]
            name = next((name for name in names if as_number(name) is None), text)
            raise ConfigError(f"no {self.owner} has {name}.{nearest(name, self.known)}")
        return found

    def _number(self, text: str, sign: str) -> tuple[frozenset[str], Number]:
        found = read_arithmetic(text, self.known)
        if found is None:
            raise ConfigError(f"{sign} compares numbers, and '{text}' is not a number{_or_key(text, self.known)}")
        return found

    def _wanted(self, text: str) -> tuple[frozenset[str], Callable[[Value | None, Values], bool]]:
        """A test of whether a value is the typed one, or that of the typed keys."""
        dotted = [name for name in self.known if "." in name and "/" not in name]
        found = read_arithmetic(text, dotted)
        if found is not None and found[0]:
            other = found[1]
            return found[0], lambda value, values: _is_equal(value, other(values))
        typed = text.strip()
        plain = typed[1:-1] if re.fullmatch(r"'[^']*'|\"[^\"]*\"", typed) else typed
        return frozenset(), lambda value, _: _is_typed(value, plain)


def _join(text: str, parts: list[Condition], how: Callable[[Iterator[bool]], bool]) -> Condition:
    keys = frozenset[str]().union(*(part.keys for part in parts))
    return Condition(text, keys, lambda values: how(part.holds(values) for part in parts))


def _depths(text: str) -> Iterator[tuple[int, int]]:
    """Every place of the text with the number of brackets around it; inside quotes at least one."""
    open_brackets: list[str] = []
    quote = ""
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
            yield place, len(open_brackets) + 1
            continue
        if letter in "'\"" and letter in text[place + 1 :] and not text[place - 1 : place].isalnum():
            quote = letter
        elif letter in BRACKETS:
            open_brackets.append(BRACKETS[letter])
        elif open_brackets and letter == open_brackets[-1]:
            open_brackets.pop()
        yield place, len(open_brackets)


def _split(text: str, word: str) -> list[str]:
    """The text between the words that are outside of brackets and quotes."""
    at_top = {place for place, depth in _depths(text) if depth == 0}
    parts, start = [], 0
    for match in re.finditer(rf"(?<=[\s)]){word}(?=[\s(])", text):
        if match.start() in at_top:
            parts.append(text[start : match.start()])
            start = match.end()
    return [*parts, text[start:]]


def _items(text: str) -> list[str]:
    """The values between commas; those inside brackets are of a list."""
    at_top = {place for place, depth in _depths(text) if depth == 0}
    cuts = sorted([-1, *(place for place in at_top if text[place] == ","), len(text)])
    return [text[start + 1 : end] for start, end in itertools.pairwise(cuts)]


def _is_enclosed(text: str) -> bool:
    """Whether one pair of brackets is around all of the text."""
    return text[:1] in ("(", "[") and next((end for end, depth in _depths(text) if depth == 0), -1) == len(text) - 1


def _in_order(compare: Callable[[float, float], bool], left: Value | None, right: Value | None) -> bool:
    first, second = as_number(left), as_number(right)
    return first is not None and second is not None and compare(first, second)


def _is_equal(value: Value | None, other: Value | None) -> bool:
    """Whether two keys have the same value; computed numbers are rounded."""
    first, second = as_number(value), as_number(other)
    if first is not None and second is not None:
        return math.isclose(first, second, rel_tol=1e-12)
    return value is not None and value == other


def _or_key(text: str, known: Collection[str]) -> str:
    hint = nearest(text, known) if "." in text else ""
    return f".{hint}" if hint else ""


def _list_items(text: str) -> list[Value | None]:
    """The brackets, commas and settings of a typed list, of which lists may be items."""
    parts = (part.strip(" '\"") for part in re.split(r"([\[\],])", text))
    return [parse_setting(part) for part in parts if part]


def _is_typed(value: Value | None, text: str) -> bool:
    """Whether a value is the typed one. The items of a list are compared as settings: [1e-3] is [0.001]."""
    if isinstance(value, str) and value.startswith("[") and text.startswith("["):
        return _list_items(value) == _list_items(text)
    wanted = parse_setting(text)
    return value == wanted or (value is not None and format_setting(value) in (text, format_setting(wanted)))
