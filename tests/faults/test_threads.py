"""A short version of the campaign in threads."""

from __future__ import annotations

from pathlib import Path

from tests.faults.threads import campaign


def test_threads_compute_what_they_compute_alone(tmp_path: Path) -> None:
    found = campaign(tmp_path, seeds=2, threads=(4,))
    assert len(found) == 6
    assert {kind: counts for kind, counts in found.items() if counts[0] != counts[1]} == {}
