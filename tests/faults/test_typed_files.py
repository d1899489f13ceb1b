"""A short version of the campaign against files of other types."""

from __future__ import annotations

from pathlib import Path

from tests.faults.typed_files import FILES, campaign


def test_files_of_other_types_are_read_or_named_in_a_line(tmp_path: Path) -> None:
    found = campaign(tmp_path, share=0.02)
    assert found.wrong == []
    assert found.cases.keys() == {command.__name__ for _, commands in FILES.values() for command in commands}
    assert found.slowest < 120
