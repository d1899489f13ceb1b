"""A short version of the campaign against the readers."""

from __future__ import annotations

from pathlib import Path

from tests.faults.readers import campaign, shares


def test_readers_refuse_damaged_files_with_their_own_error(tmp_path: Path) -> None:
    found = campaign(tmp_path, shares(3000))
    assert {name: result["crashes"] for name, result in found.items() if result["crashes"]} == {}
    assert sum(result["inputs"] for result in found.values()) >= 2900
    for name, result in found.items():
        assert result["read"] + result["refused"] == result["inputs"], name
        assert result["refused"] > 0 or name == "metrics.jsonl", name
