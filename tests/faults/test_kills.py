"""A short version of the campaign against whole runs; benchmarks/reliability.py runs the long one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.faults.kills import campaign, renaming_campaign


def test_killed_runs_end_as_undisturbed_ones_bit_for_bit(compose: Any, tmp_path: Path) -> None:
    found = campaign(compose, tmp_path, count=7)
    assert found["failed"] == []
    assert found["identical"] == 7
    assert found["kills"] >= 4


def test_runs_killed_as_they_rename_a_file_end_as_undisturbed_ones(compose: Any, tmp_path: Path) -> None:
    points = [1, 4, 7, 12, 19, 26, 31, 38, 45, 50, 57]
    assert renaming_campaign(compose, tmp_path, points)["failed"] == []
