"""All leaves, all bad values: this campaign is short enough to be run in full."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.faults.leaves import campaign


def test_every_leaf_trains_or_is_refused_by_name_whatever_its_value(compose: Any, tmp_path: Path) -> None:
    found = campaign(compose, tmp_path)
    assert found["wrong"] == []
    assert found["cases"] > 500
    assert found["slowest"] < 10
