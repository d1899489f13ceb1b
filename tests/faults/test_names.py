"""A short version of the campaign with names of pictures."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.faults.names import ODD, all_names, campaign

pytest.importorskip("pyarrow")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not have such names")
def test_every_command_finds_every_name_again(tmp_path: Path) -> None:
    names = sorted({*all_names()[::25], *ODD})
    ambiguous = sum(b"\\udc" in name for name in names)  # as a table writes other names
    found = campaign(tmp_path, names)
    assert found.pop("organise (clusters.csv)") == len(names) - ambiguous
    assert {command: count for command, count in found.items() if count != len(names)} == {}
