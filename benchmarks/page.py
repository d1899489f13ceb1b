"""docs/benchmarks.md: every section is written by the command that measured it."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
HEAD = "# Benchmarks\n\nEvery section is written by the command that it names, never by hand.\n"


def write_section(name: str, text: str, page: Path = PAGE, head: str = HEAD) -> None:
    """Put ``text`` between the markers of section ``name``, replacing what stood there; ``head`` opens a new page."""
    old = page.read_text() if page.exists() else head
    section = f"<!-- {name} -->\n{text.strip()}\n<!-- /{name} -->"
    marked = re.compile(rf"<!-- {re.escape(name)} -->.*?<!-- /{re.escape(name)} -->", re.DOTALL)
    new = marked.sub(lambda _: section, old) if marked.search(old) else f"{old.rstrip()}\n\n{section}\n"
    page.write_text(new)
