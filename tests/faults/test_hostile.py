"""Short versions of the campaigns against folders and configurations that an attacker made."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.faults import hostile_configs, hostile_runs

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and limits memory by Linux's /proc")


def test_a_run_folder_of_an_attacker_reaches_nothing_else(tmp_path: Path) -> None:
    found = hostile_runs.campaign(tmp_path, commands=1, share=0.03)
    assert found.wrong == []
    assert found.commands > 10 and found.refused > 3


def test_a_configuration_folder_of_an_attacker_runs_and_reads_nothing(tmp_path: Path) -> None:
    found = hostile_configs.campaign(tmp_path, share=0.01)
    assert found.wrong == []
    assert found.commands > 10 and found.refused > 3
