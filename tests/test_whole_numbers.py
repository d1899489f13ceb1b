"""Text from the outside counts as a whole number only if ``int`` takes it."""

from __future__ import annotations

import argparse
import ast
import sys
from pathlib import Path

import pytest

from aerun.base.arguments import count, seed, whole_number
from aerun.base.device import default_threads, node_count
from aerun.cli.compare import _best_before_path
from aerun.compare.collect import _natural_order
from aerun.runs.init_from import _outside_in

ROOT = Path(__file__).resolve().parent.parent
STRANGE = ["²", "1²", "①", "٣", "", "-1", "+1", "1_0", " 1", "1.0", "9" * 5000, "\udcb2"]


def test_no_text_is_judged_by_isdigit() -> None:
    """``"²".isdigit()`` is true, and ``int("²")`` raises."""
    paths = [
        path for folder in ("aerun", "scripts", "examples", "benchmarks") for path in (ROOT / folder).rglob("*.py")
    ]
    used = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in paths
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("isdigit", "isnumeric")
    ]
    assert len(paths) > 200 and used == []


def test_it_is_what_int_takes() -> None:
    """Of every character, alone and after a digit."""
    for code in range(sys.maxunicode + 1):
        for text in (chr(code), f"1{chr(code)}"):
            number = whole_number(text)
            assert number is None or number == int(text)
            assert (number is not None) == text.isdecimal()


@pytest.mark.parametrize("text", STRANGE)
def test_strange_numbers_end_in_no_traceback(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (count, seed):
        try:
            assert kind(text) == int(text)
        except argparse.ArgumentTypeError as error:
            assert "must be a whole number" in str(error)
    if "\udcb2" not in text:
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        assert default_threads() >= 1
    assert node_count({"SLURM_STEP_NUM_NODES": text}) >= 1
    assert sorted([f"job_{text}", "job_10", "job_2"], key=_natural_order)[-1] in (f"job_{text}", "job_10")
    assert set(_outside_in([f"encoder.{text}", "encoder.1"], "encoder")) == {f"encoder.{text}", "encoder.1"}
    assert _best_before_path(["--best", text, "folder"])[0] in ("--best", "--best=1")


def test_numbers_are_still_compared_as_numbers() -> None:
    assert sorted(["job_10", "job_9", "job_²"], key=_natural_order) == ["job_9", "job_10", "job_²"]
    assert _outside_in(["d.10", "d.2", "d.²"], "encoder") == ["d.²", "d.2", "d.10"]
    assert node_count({"SLURM_JOB_NUM_NODES": "3"}) == 3 and node_count({}) == 1
