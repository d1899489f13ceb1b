"""Sweeps that are killed repeatedly; the benchmarks run the campaign for longer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.sweep import moving
from tests.sweep.campaign import JOBS, campaign
from tests.sweep.launching import hosts_can_be_named

pytestmark = pytest.mark.slow
needs_hosts = pytest.mark.skipif(not hosts_can_be_named(), reason="needs unshare --uts, as root")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in Linux's /proc")
def test_a_killed_and_repeated_sweep_gives_bit_identical_results(tmp_path: Path) -> None:
    found = campaign(tmp_path, count=10)
    assert found["failed"] == {} and found["run again"] == [] and found["stayed behind"] == 0
    assert found["jobs"] == found["identical"] == JOBS
    assert sum(found["kills"].values()) >= 8 and all(found["kills"].values())


def assert_moved(found: dict[str, Any]) -> None:
    assert found["failed"] == {} and found["run again"] == []
    assert found["jobs"] == found["identical"]
    assert sum(found["kills"].values()) >= 8 and all(found["kills"].values())
    assert "elsewhere" in found["hosts"] and len(found["hosts"]) >= 2


@needs_hosts
def test_a_sweep_that_moves_between_launchers_and_machines_gives_bit_identical_results(tmp_path: Path) -> None:
    found = moving.grid_campaign(tmp_path, count=10)
    assert_moved(found)
    assert found["jobs"] == JOBS


@needs_hosts
def test_a_search_that_moves_runs_every_trial_once_and_as_undisturbed(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="needs aerun[optuna]")
    found = moving.search_campaign(tmp_path, count=10)
    assert_moved(found)
    assert found["complete"] == found["points"] == found["folders"] == found["jobs"] == moving.TRIALS
    assert found["open"] == []
