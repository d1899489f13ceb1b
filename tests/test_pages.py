"""The documents: generated pages are up to date, and what they name exists. MkDocs checks links between pages."""

from __future__ import annotations

import functools
import importlib
import re
import runpy
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from aerun.config.parse import parse

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
MENTIONED_PATH = r"`((?:aerun|tests|benchmarks|scripts|conf|docs|examples)/[\w./]+)"
Compose = Callable[[Sequence[str]], dict[str, Any]]
GENERATE = runpy.run_path(str(DOCS / "generate.py"))


def test_the_front_page_is_short() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= 10_000


@pytest.mark.parametrize(("page", "write"), [("configure.md", "configure"), ("index.md", "index")])
def test_a_generated_page_is_up_to_date(page: str, write: str) -> None:
    is_current = (DOCS / page).read_text() == GENERATE[write]()  # a comparison of whole pages takes pytest minutes
    assert is_current, "python docs/generate.py writes it"


def test_every_option_is_described_and_every_key_explained() -> None:
    unsaid = re.findall(r"^\| (.*) \|  \|$", (DOCS / "configure.md").read_text(), re.MULTILINE)
    assert not unsaid
    for group in GENERATE["GROUPS"]:
        for path in (ROOT / "conf" / group).glob("*.yaml"):
            assert GENERATE["about"](path), path


def test_keys_of_a_file_are_those_that_yaml_reads(tmp_path: Path) -> None:
    file = tmp_path / "option.yaml"
    file.write_text(
        '# What it is.\ndefaults: [other]\n_target_: aerun.X\nlr: 1e-3  # a rate\nlist: [a, "b # c"] # two\nnode:\n'
        "  inner: ${.lr} # nested\n  deep:\n    leaf: null\nlast: 2\n"
    )
    assert [tuple(key) for key in GENERATE["keys"](file)] == [
        ("lr", "1e-3", "a rate"),
        ("list", '[a, "b # c"]', "two"),
        ("node.inner", "${.lr}", "nested"),
        ("node.deep.leaf", "null", ""),
        ("last", "2", ""),
    ]


def test_the_citation_and_the_changes_have_the_version_of_the_package() -> None:
    import tomllib

    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    first = next(line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## "))
    assert version in first


def test_files_that_pages_link_to_exist() -> None:
    for page in PAGES:
        text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)#\s]+)|src=\"([^\"]+)\"", text):
            link = "".join(target)
            assert link.startswith("http") or (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_reference_names_what_can_be_imported() -> None:
    named = [name for page in (DOCS / "api").glob("*.md") for name in re.findall(r"^::: (\S+)", page.read_text(), re.M)]
    assert len(named) > 20
    assert [name for name in named if not exists(name)] == []


def test_the_reference_has_every_public_function() -> None:
    import aerun

    reference = "".join(page.read_text() for page in (DOCS / "api").glob("*.md"))
    errors = {"AerunError", "ConfigError", "DataError", "DivergedError"}  # on the page of the contracts
    missing = [name for name in aerun.__all__ if name not in errors and f"::: aerun.{name}\n" not in reference]
    assert not missing


def commands() -> list[str]:
    """Every ``aerun-train`` line that a page shows for typing, comments removed."""
    lines = []
    for page in PAGES:
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL):
            lines += [re.split(r"\s#", line)[0].strip() for line in block.replace("\\\n", " ").splitlines()]
    known = {line: None for line in lines if line.startswith("aerun-train ")}
    return [line for line in known if not re.search(r"--help|resume=|my_conf|RUN_FOLDER", line)]


def test_pages_show_commands() -> None:
    assert len(commands()) > 25


@pytest.mark.parametrize("line", commands())
def test_a_command_that_a_page_shows_is_valid(line: str, compose: Compose) -> None:
    """Of a sweep the first point."""
    words = [word for word in shlex.split(line)[1:] if word != "-m" and not word.startswith(("hydra", "sweep."))]
    words = [re.sub(r"^([\w.]+=)([^\[\](){},]+),.*", r"\1\2", word) for word in words]
    words = [re.sub(r"^([\w.]+)=tag\(log,interval\(([^,]+),.*", r"\1=\2", word) for word in words]
    words = [word for word in words if not word.endswith("=glob(*)")]  # which includes the default
    words = [re.sub(r"^noise=\[", "noise/parts=[", word) for word in words]
    listed = any(word.startswith("noise/parts=") for word in words)
    parse(compose(["noise=several", *words] if listed else words))


def test_the_page_of_the_design_shows_the_rooms_in_their_order() -> None:
    """In the first block of text after the heading, a row for each floor."""
    from tests.test_layers import ROOMS

    block = re.findall(r"```text\n(.*?)```", (DOCS / "design.md").read_text().partition("## Rooms")[2], re.DOTALL)[0]
    rows = [line for line in block.splitlines() if not line.startswith(" ")]
    shown = [(row if len(row) < 25 or row[24] != " " else row[:25]).replace("/", " ").split() for row in rows]
    assert [sorted(floor) for floor in shown] == [sorted(floor) for floor in ROOMS]


def test_the_page_about_parts_of_your_own_includes_every_example() -> None:
    text = (DOCS / "extend.md").read_text()
    files = [path.relative_to(ROOT) for kind in ("py", "yaml") for path in (ROOT / "examples").rglob(f"*.{kind}")]
    assert len(files) >= 16
    missing = [str(path) for path in files if f'--8<-- "{path}"' not in text]
    assert not missing


def test_files_and_names_that_pages_mention_exist() -> None:
    texts = {page.name: page.read_text() for page in PAGES}
    paths = {(page, path) for page, text in texts.items() for path in re.findall(MENTIONED_PATH, text)}
    names = {(page, name) for page, text in texts.items() for name in re.findall(r"`(aerun(?:\.\w+)+)", text)}
    assert len(paths) > 20 and len(names) > 20
    missing = [(page, path) for page, path in paths if "GROUP" not in path and not (ROOT / path).exists()]
    missing += [(page, name) for page, name in names if not exists(name)]
    assert not missing


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        return functools.reduce(lambda node, part: getattr(node, part, None), parts[length:], found) is not None
    return False
