"""A short version of the campaign against whole runs; benchmarks/reliability.py runs the long one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.faults.kills import campaign


def test_killed_runs_end_as_undisturbed_ones_bit_for_bit(compose: Any, tmp_path: Path) -> None:
    found = campaign(compose, tmp_path, count=7)
    assert found["failed"] == []
    assert found["identical"] == 7
    assert found["kills"] >= 4
