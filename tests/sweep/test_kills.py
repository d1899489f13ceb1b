"""Sweeps that are killed repeatedly; the benchmarks run the campaign for longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sweep import moving
from tests.sweep.campaign import JOBS, campaign
from tests.sweep.test_machines import hosts_can_be_named


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in Linux's /proc")
def test_a_killed_and_repeated_sweep_gives_bit_identical_results(tmp_path: Path) -> None:
    found = campaign(tmp_path, count=10)
    assert found["failed"] == {} and found["run again"] == [] and found["stayed behind"] == 0
    assert found["jobs"] == found["identical"] == JOBS
    assert sum(found["kills"].values()) >= 8 and all(found["kills"].values())


@pytest.mark.slow
@pytest.mark.skipif(not hosts_can_be_named(), reason="needs unshare --uts, as root")
def test_a_sweep_that_moves_between_launchers_and_machines_gives_bit_identical_results(tmp_path: Path) -> None:
    found = moving.campaign(tmp_path, count=10)
    assert found["failed"] == {} and found["run again"] == []
    assert found["jobs"] == found["identical"] == JOBS
    assert sum(found["kills"].values()) >= 8 and len(found["hosts"]) >= 2
