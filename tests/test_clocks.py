"""No test depends on how fast the machine is: times belong in benchmarks, and limits only end what hangs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = sorted(Path(__file__).resolve().parent.rglob("test_*.py"))
CLOCKS = {"monotonic", "perf_counter", "process_time", "monotonic_ns", "perf_counter_ns", "time_ns"}
SHORTEST_LIMIT = 120  # seconds
LIMITS = {"timeout", "seconds"}  # arguments of subprocess and of tests.sweep.launching
WAITING = {"run", "communicate", "wait", "await_that", "check_output", "join", "get"}


def reads_clock(node: ast.AST, names: set[str]) -> bool:
    """Whether an expression calls a clock, or uses a variable that was set from one."""
    return any(
        (isinstance(part, ast.Attribute) and part.attr in CLOCKS)
        or (isinstance(part, ast.Attribute) and ast.unparse(part) == "time.time")
        or (isinstance(part, ast.Name) and part.id in names)
        for part in ast.walk(node)
    )


def clock_names(tree: ast.AST) -> set[str]:
    """The variables that are set from a clock."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and reads_clock(node.value, set()):
            found |= {part.id for target in node.targets for part in ast.walk(target) if isinstance(part, ast.Name)}
    return found


def faults(text: str) -> Iterator[str]:
    """What in a test depends on the machine's speed."""
    for function in (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)):
        names = clock_names(function)
        for node in ast.walk(function):
            if isinstance(node, ast.Assert) and reads_clock(node.test, names):
                yield f"line {node.lineno}: asserts on a clock"
            if not isinstance(node, ast.Call) or ast.unparse(node.func).rpartition(".")[2] not in WAITING:
                continue
            for limit in node.keywords:
                value = limit.value.value if isinstance(limit.value, ast.Constant) else None
                if limit.arg in LIMITS and isinstance(value, int | float) and value < SHORTEST_LIMIT:
                    yield f"line {node.lineno}: {limit.arg}={value}, below {SHORTEST_LIMIT}"


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_a_test_counts_work_and_not_seconds(path: Path) -> None:
    assert list(faults(path.read_text())) == []


def test_what_depends_on_speed_is_found() -> None:
    slow = "def test_x():\n    clock = time.monotonic()\n    f()\n    assert time.monotonic() - clock < 5\n"
    assert list(faults(slow)) == ["line 4: asserts on a clock"]
    late = "def test_x():\n    took = time.perf_counter() - begun\n    assert 0 < took\n"
    assert list(faults(late)) == ["line 3: asserts on a clock"]
    assert list(faults("def f():\n    run(x, timeout=60)\n")) == ["line 2: timeout=60, below 120"]
    assert list(faults("def f():\n    run(x, timeout=300)\n    write_gif(p, seconds=0.2)\n")) == []
