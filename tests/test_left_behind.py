"""A failed command leaves the file system as it was: what it made is gone, and what existed is still there."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aerun
import aerun.runs.run  # so that children of this process need not import torch
from aerun.cli.main import COMMANDS
from aerun.errors import AerunError

SMALL = ["dataset=random", "dataset.images=40", "trainer.device=cpu", "trainer.epochs=1", "model.code_size=4"]


def exit_code(place: Path, words: list[str]) -> int:
    """Of ``python -m aerun`` with these words, in a child of this process whose working directory is ``place``."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.chdir(place)
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1), os.dup2(null, 2)
            sys.argv = ["aerun", *words]
            sys.orig_argv = [sys.executable, *sys.argv]
            from aerun.cli.main import main

            code = main()
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def tree(folder: Path) -> dict[str, Any]:
    return {str(path.relative_to(folder)): path.is_dir() or path.read_bytes() for path in folder.rglob("*")}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Folders that a user may have made, and a file."""
    for name in ("empty", "half/checkpoints", "half/figures", "sweep/.data", "arrays", "outputs"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "sweep" / ".data" / "notes.txt").write_text("mine")
    return tmp_path


LATE = "dataset.validation=40"  # found only when the data are there
FAILING = [
    *(
        ["train", *SMALL, *where, error]
        for error in ("optimizer.lr=-1", LATE, "seeed=1")
        for where in (
            [],
            ["hydra.run.dir=."],
            ["hydra.run.dir=empty"],
            ["hydra.run.dir=half"],
            ["hydra.run.dir=new/run"],
        )
    ),
    *(
        ["train", "-m", "seed=0,1", *SMALL, *where, error]
        for error in ("model.code_size=-1", LATE)
        for where in (
            ["hydra.sweep.dir=."],
            ["hydra.sweep.dir=empty"],
            ["hydra.sweep.dir=sweep"],
            ["hydra.sweep.dir=new/s"],
        )
    ),
    ["train", "resume=missing", "hydra.run.dir=new/run"],
    ["train", *SMALL, "init_from=missing", "hydra.run.dir=new/run"],
    *([command, "missing"] for command in COMMANDS if command not in ("train", "evaluate", "generate")),
    ["evaluate", "run=missing"],
    ["embed", "missing", "half", "empty/prints.npz"],
    ["denoise", "missing", "half", "new"],
    ["anomalies", "missing", "half", "--csv", "new/scores.csv"],
    ["export", "missing", "new/export"],
    ["compare", "missing", "--output", "new/compare"],
    ["map", "missing", "--output", "new/maps"],
    ["generate", "sample", "missing", "--output", "new"],
]


@pytest.mark.parametrize("words", FAILING, ids=" ".join)
def test_a_failed_command_leaves_everything_as_it_was(place: Path, words: list[str]) -> None:
    before = tree(place)
    assert exit_code(place, words) in (1, 2)
    assert tree(place) == before and place.is_dir()


def test_a_file_that_looks_like_one_of_ours_is_kept(place: Path) -> None:
    (place / "empty" / ".notes.2024.11").write_text("mine")
    before = tree(place)
    assert exit_code(place, ["train", *SMALL, "hydra.run.dir=empty"]) == 1
    assert tree(place) == before


@pytest.mark.parametrize("out", [None, "empty", "half", "new/run"])
@pytest.mark.parametrize("function", [aerun.train, aerun.run_sweep], ids=["train", "run_sweep"])
def test_a_failed_call_leaves_everything_as_it_was(
    place: Path, monkeypatch: pytest.MonkeyPatch, function: Callable[..., Any], out: str | None
) -> None:
    monkeypatch.chdir(place)
    before = tree(place)
    rows = np.random.default_rng(0).random((12, 6), np.float32)
    more = ["seed=0,1"] if function is aerun.run_sweep else []
    for error in ("optimizer.lr=-1", "dataset.validation=12"):
        with pytest.raises(AerunError):
            function("trainer.device=cpu", *more, error, data=rows, out=out, verbose=False)
        assert tree(place) == before
