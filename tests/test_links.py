"""A run folder of somebody else's leads nowhere: nothing in it that is a link is written to, emptied or made into."""

from __future__ import annotations

import ast
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from aerun.base.files import LogFile, leftover_files, make_subfolder, open_to_write, write_text
from aerun.base.lock import FolderLock, file_lock
from aerun.config.parse import parse
from aerun.errors import AerunError, StorageError
from aerun.runs.reopen import reevaluate
from aerun.runs.run import run

ROOT = Path(__file__).resolve().parent.parent
# Rooms that write below run and sweep folders. The others write where the user says, or in aerun's own cache.
WRITERS = ("runs", "ranks", "sweep", "training", "doctor", "protocol", "python", "config", "base", "callback")
# Makes a run's or a sweep's own folder, which may be reached by a link, or writes nothing.
FOLDERS = {
    "folder.mkdir(parents=True, exist_ok=True)",
    "self.folder.mkdir(parents=True, exist_ok=True)",
    "job.folder.mkdir(parents=True, exist_ok=True)",
    "job.folder.mkdir(exist_ok=True)",
    "cache.mkdir(parents=True, exist_ok=True)",  # below $AERUN_DATA or ~/.cache
    "Path(os.devnull).open('w')",
    "temporary.write_bytes(content)",  # inside atomic_write, which has made the file
    "temporary.open('wb')",
    "archive.open(entry, 'w')",  # a file inside an archive
    "figure.savefig(temporary, format='png', dpi=100, bbox_inches='tight')",
}
METHODS = ("mkdir", "makedirs", "touch", "write_text", "write_bytes", "FileHandler", "savefig", "symlink_to")


def writes(call: ast.Call) -> bool:
    """Whether a call writes to a path that it names, other than by the helpers of ``aerun.base.files``."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    is_method = isinstance(call.func, ast.Attribute)
    if name in METHODS:
        return is_method
    modes = [argument.value for argument in call.args if isinstance(argument, ast.Constant)]
    return name == "open" and any(isinstance(mode, str) and set(mode) & set("wax+") for mode in modes)


def test_every_writer_uses_the_helpers() -> None:
    found = set()
    for path in sorted((ROOT / "aerun").rglob("*.py")):
        place = path.relative_to(ROOT / "aerun")
        if place.parts[0] in WRITERS and place.as_posix() != "base/files.py":
            calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
            found |= {(place.as_posix(), ast.unparse(call)) for call in calls if writes(call)}
    assert {(place, call) for place, call in found if call not in FOLDERS} == set()


def test_helpers_do_not_follow_links(tmp_path: Path) -> None:
    victim, run_folder = tmp_path / "thesis.tex", tmp_path / "run"
    run_folder.mkdir()
    (tmp_path / "elsewhere").mkdir()
    for name in (".lock", "log", "lock", "text"):
        (run_folder / name).symlink_to(victim)
    (run_folder / "checkpoints").symlink_to(tmp_path / "elsewhere")
    attempts = [
        lambda: FolderLock(run_folder).__enter__(),
        lambda: LogFile(run_folder / "log")._open(),
        lambda: file_lock(run_folder / "lock", lambda: None).__enter__(),
        lambda: open_to_write(run_folder / "text", "w"),
        lambda: make_subfolder(run_folder, "checkpoints", "inner"),
    ]
    for exists in (False, True):
        if exists:
            victim.write_text("precious")
        for attempt in attempts:
            with pytest.raises(StorageError, match="is a link"):
                attempt()
    (tmp_path / "elsewhere" / ".x.1.2").touch()
    assert leftover_files(run_folder, "checkpoints") == []
    write_text(run_folder / "text", "replaced")
    assert not (run_folder / "text").is_symlink()
    assert victim.read_text() == "precious" and list((tmp_path / "elsewhere").iterdir()) == [
        tmp_path / "elsewhere/.x.1.2"
    ]


def tree(folder: Path) -> dict[str, bytes | None]:
    """What is in a folder: files with their bytes, and folders."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_a_run_whose_files_are_links_changes_nothing_outside(compose: Any, tmp_path: Path) -> None:
    """Each folder, each file that is appended to, and all others at once; then a longer run and an evaluation."""
    words = ["dataset=random", "dataset.images=40", "trainer.device=cpu", "trainer.threads=1", "model.code_size=4"]
    words += ["trainer.tsne=false", "callback=ema"]
    first, longer = (compose([*words, f"trainer.epochs={epochs}"]) for epochs in (1, 2))
    run(parse(first), first, tmp_path / "base")
    (tmp_path / "base" / "aerun.log").touch()
    names = [path.name for path in (tmp_path / "base").iterdir()]
    assert {"checkpoints", "figures", ".lock", "aerun.log", "metrics.jsonl", "config.yaml"} < set(names)
    single = [{name} for name in (".lock", "aerun.log", "metrics.jsonl", "checkpoints", "figures", "00000")]
    replaced = set(names) - {name for group in single for name in group} | {".metrics.jsonl.1.1", "evaluation.json"}
    for number, group in enumerate([*single, replaced]):
        folder, outside = tmp_path / f"run{number}", tmp_path / f"outside{number}"
        outside.mkdir()
        shutil.copytree(tmp_path / "base", folder)
        for name in group:
            if (folder / name).exists():
                (folder / name).rename(outside / name)
            (folder / name).symlink_to(outside / name)
        before = tree(outside)
        resume = partial(run, parse({**longer, "resume": str(folder)}), longer, folder)
        for attempt in (resume, partial(reevaluate, folder)):
            try:
                attempt()
            except AerunError as error:
                assert "is a link" in str(error) or "has not finished" in str(error), group
            assert tree(outside) == before, group
