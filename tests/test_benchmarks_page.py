"""docs/benchmarks.md is written by several commands, each of which owns one section."""

from __future__ import annotations

from pathlib import Path

from benchmarks.page import write_section


def test_a_section_replaces_itself_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    write_section("one", "first \\1\n", page)
    write_section("two", "second", page)
    before = page.read_text()
    write_section("one", "changed\n\\2 <!-- -->", page)
    text = page.read_text()
    assert text == before.replace("first \\1", "changed\n\\2 <!-- -->")
    assert text.startswith("# Benchmarks") and text.index("<!-- one -->") < text.index("<!-- /two -->")
    write_section("one", "first \\1", page)
    assert page.read_text() == before
