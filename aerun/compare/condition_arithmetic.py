"""Arithmetic with keys in conditions: numbers and keys with ``+ - * /`` and parentheses.

Nothing is evaluated by Python: a formula is read by its parser and computed from four operations.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Collection, Mapping

from aerun.compare.records import Value
from aerun.compare.setting_text import parse_setting

Values = Mapping[str, Value | None]  # by key; a missing key is None
Number = Callable[[Values], Value | None]

ARITHMETIC: dict[type, Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def read_arithmetic(text: str, known: Collection[str]) -> tuple[frozenset[str], Number] | None:
    """A number computed from keys, with the keys; a key alone has any value. None if the text is neither."""
    text = text.strip()
    if text in known:
        return frozenset({text}), lambda values: values.get(text)
    if (number := as_number(text)) is not None:
        return frozenset(), lambda _: number
    names: dict[str, str] = {}

    def place(match: re.Match[str]) -> str:
        return names.setdefault(match[0], f"K{len(names)}_")

    present = sorted((re.escape(name) for name in known if name in text), key=len, reverse=True)
    formula = re.sub(rf"(?<![\w.])(?:{'|'.join(present)})(?![\w.])", place, text) if present else text
    if not re.fullmatch(r"(?:K\d+_|\d[\d.]*(?:e[+-]?\d+)?|[\s+\-*/()])+", formula, re.IGNORECASE):
        return None
    try:
        tree = ast.parse(formula, mode="eval").body
        compute = _compute(tree, {short: name for name, short in names.items()})
    except (SyntaxError, ValueError, KeyError, OverflowError, MemoryError):
        return None
    return frozenset(names), compute


def _compute(node: ast.expr, names: Mapping[str, str]) -> Callable[[Values], float | None]:
    """What a formula computes. KeyError or ValueError for anything but the four operations on numbers and names."""
    if isinstance(node, ast.Name):
        key = names[node.id]
        return lambda values: as_number(values.get(key))
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        number = float(node.value)
        return lambda _: number
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        sign, inner = (-1.0 if isinstance(node.op, ast.USub) else 1.0), _compute(node.operand, names)
        return lambda values: None if (value := inner(values)) is None else sign * value
    if isinstance(node, ast.BinOp):
        operation = ARITHMETIC[type(node.op)]
        left, right = _compute(node.left, names), _compute(node.right, names)
        return lambda values: _operate(operation, left(values), right(values))
    raise ValueError("not arithmetic")


def _operate(operation: Callable[[float, float], float], left: float | None, right: float | None) -> float | None:
    if left is None or right is None or (operation is operator.truediv and right == 0):
        return None
    return operation(left, right)


def as_number(value: Value | None) -> float | None:
    """The value as a number; None if it is none."""
    if isinstance(value, str):
        parsed = parse_setting(value)
        return parsed if isinstance(parsed, float) else None
    return None if value is None or isinstance(value, bool) else value
