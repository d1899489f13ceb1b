"""Files that somebody else may have written: what is read of them, and what is refused in a line."""

from __future__ import annotations

import ast
import io
import json
import math
import os
import re
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from aerun.base import bounded, typed
from aerun.errors import DataError

PACKAGE = Path(__file__).resolve().parent.parent / "aerun"


def refused(reader: Any, path: Path, content: bytes, words: str) -> None:
    path.write_bytes(content)
    calls = 0

    def count_call(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count_call)
    try:
        with pytest.raises(DataError) as caught:
            reader(path)
    finally:
        sys.setprofile(None)
    text = str(caught.value)
    assert text.startswith(f"{path}: cannot be read (") and "\n" not in text and words in text
    assert calls < 10_000 + 10 * len(content)  # work in proportion to the file


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: &a [1, 2]\nb: *a", "aliases"),
        (b"a: &a {b: 1}\nc: {<<: [*a, *a]}", "aliases"),
        (b"- " * 3000 + b"1", "nest"),
        (b"- " * 200_000 + b"1", "nest"),
        (b"{a: " * 30_000, "nest"),
        (b"a: " + b"1" * 400, "64 bits"),
        (b"a: 0x" + b"f" * 900_000, "64 bits"),
        (b"a: 2026-11-30", "a date"),
        (b"a: !!binary eA==", "a bytes"),
        (b"a: !!timestamp x", ""),
        (b"a: !!int ''", ""),
        (b"a: !!python/object:os.system x", ""),
        (b"? [1, 2]\n: 3", ""),
        (b"\xff", "utf-8"),
        (b"a: 1\n" * 300_000, "more than 1,048,576"),
    ],
)
def test_yaml_that_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    refused(bounded.read_yaml, tmp_path / "a.yaml", content, words)


def test_yaml_that_is_read(tmp_path: Path) -> None:
    content = {"a": [1, -2.5, None, True, "x & *y", {"b": []}], "c": "&d", "e": 2**63, "long": ["*item"] * 3000}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(content))
    assert bounded.read_yaml(tmp_path / "a.yaml") == content
    with pytest.raises(FileNotFoundError):
        bounded.read_yaml(tmp_path / "b.yaml")


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"[" * 100_000, ""), (b"[" * 41 + b"]" * 41, "nested too deeply"), (b"1" * 400, "64 bits"), (b"9" * 5000, "")],
)
def test_json_that_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    refused(bounded.read_json, tmp_path / "a.json", content, words)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, make: Any) -> None:
    make(tmp_path / "a")
    for reader in (bounded.read_json, bounded.read_yaml, bounded.read_arrays):
        with pytest.raises(DataError, match="is not a regular file"):
            reader(tmp_path / "a")


def test_arrays_are_those_that_numpy_reads(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    arrays = {
        "matrix": random.random((3, 4)).T,
        "texts": np.array(["a", "ünï", ""]),
        "empty": np.zeros((0, 3), np.int16),
        "number": np.array(7),
        "no texts": np.array(["", ""]),
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
        found = bounded.read_arrays(tmp_path / "a.npz")
        with np.load(tmp_path / "a.npz") as expected:
            for name in arrays:
                assert found[name].dtype == expected[name].dtype and np.array_equal(found[name], expected[name])
                assert found[name].flags.writeable
    assert bounded.read_arrays(tmp_path / "a.npz", ("matrix", "none")).keys() == {"matrix"}


def archive(header: dict[str, Any], body: bytes) -> bytes:
    stream, head = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(head, header)
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.npy", head.getvalue() + body)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("shape", "descr", "body", "words"),
    [
        ((10**14,), "|u1", b"", "has an array of shape"),
        ((2,), "<f8", b"0" * 15, "has an array of shape"),
        ((1,), "|O", b"0" * 8, "objects"),
        ((1 << 27,), "|u1", bytes(1 << 27), "would unpack to more than"),
    ],
)
def test_arrays_that_are_refused(tmp_path: Path, shape: tuple[int, ...], descr: str, body: bytes, words: str) -> None:
    content = archive({"descr": descr, "fortran_order": False, "shape": shape}, body)
    refused(bounded.read_arrays, tmp_path / "a.npz", content, words)


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (typed.NUMBER, [0, -1.5, True, float("nan")], [None, "1", [1], 2**63, {}]),
        (typed.whole(1, 5), [1, 5], [0, 6, 1.0, True, None, "1"]),
        (typed.or_null(typed.TEXT), [None, "", "x"], [1, ["x"]]),
        (typed.list_of(typed.TEXT, 1, 2), [["a"], ["a", "b"]], [[], ["a", "b", "c"], ["a", 1], "ab", None]),
        (typed.mapping_of(typed.TRUTH), [{}, {"a": True}], [{"a": 1}, [], None]),
        (typed.record({"a": typed.TEXT}, ["a"]), [{"a": "x"}, {"a": "x", "b": [1]}], [{}, {"a": 1}, []]),
        (typed.one_of("x", "y"), ["x"], ["z", 1, ["x"]]),
    ],
)
def test_checks(check: typed.Check, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        check("key", value)
    for value in bad:
        with pytest.raises(ValueError, match=r"^key"):
            check("key", value)


def test_trained_weights_are_finite(tmp_path: Path) -> None:
    import torch

    import aerun
    from aerun.training.checkpoint import save
    from aerun.training.progress import Progress
    from tests.data.kit import RUNS

    shutil.copytree(RUNS / "fc", tmp_path / "run")
    model = aerun.load(tmp_path / "run")
    with torch.no_grad():
        next(model.parameters())[0, 0] = math.nan
    save(tmp_path / "run" / "checkpoints" / "best.safetensors", model, None, Progress())
    with pytest.raises(DataError, match=r"best\.safetensors: its weights are not finite"):
        aerun.load(tmp_path / "run")


# Functions that parse a file. In the rooms that read run folders only ``bounded`` calls them, but for these files:
PARSERS = {"json": {"load", "loads"}, "yaml": {"load", "safe_load"}, "np": {"load"}}
OTHERS = {
    "runs/folder_metrics.py": "a line, whose values are numbers",
    "runs/diagnose.py": "its own output",
    "runs/outcome.py": "of a temporary folder",
    "ranks/worker.py": "its own arguments",
    "ranks/agent.py": "its own arguments",
    "ranks/group.py": "of the other ranks",
    "sweep/hydra_keys.py": "of conf/ and of Hydra",
    "sweep/launcher/slurm.py": "numbers of Slurm's jobs",
}


def test_run_folders_are_read_within_bounds_everywhere() -> None:
    rooms = ("runs", "compare", "doctor", "sweep", "training", "use", "ranks", "python", "cli")
    found = set()
    for path in (path for room in rooms for path in (PACKAGE / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            owner = node.value if isinstance(node, ast.Attribute) else None
            if (
                isinstance(owner, ast.Name)
                and isinstance(node, ast.Attribute)
                and node.attr in PARSERS.get(owner.id, ())
            ):
                found.add(path.relative_to(PACKAGE).as_posix())
    assert found == OTHERS.keys()


def test_every_schema_takes_what_older_code_wrote() -> None:
    from aerun.runs import folder
    from aerun.runs.folder_metrics import read_metrics
    from tests.data.kit import RUNS

    for run in sorted(path.parent for path in RUNS.glob("*/config.yaml")):
        assert folder.read_config(run) == yaml.safe_load((run / "config.yaml").read_text())
        assert folder.read_environment(run) == json.loads((run / "environment.json").read_text())
        for name, read in (("summary.json", folder.read_summary), ("status.json", folder.load_status)):
            path = run / name
            assert read(run) == (json.loads(path.read_text()) if path.exists() else None)
        lines = run / "metrics.jsonl"
        assert len(read_metrics(run)) == (len(re.findall("\n", lines.read_text())) if lines.exists() else 0)
        assert folder.read_typed(run)[1] or not lines.exists()
