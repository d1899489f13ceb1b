"""Protocols that are added to a finished sweep evaluate its runs; nothing is trained again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import aerun
from aerun.errors import AerunError
from aerun.runs.same_run import missing_protocols
from tests.faults.kills import contents, differences
from tests.sweep.launching import JOBLIB, ODD, TINY, launch, marks, statuses

LISTS = ("knn", "knn,linear_svm,ssim")
KEYS = ["protocol.linear_svm.strengths=[1e-3]"]
Sweep = Callable[..., str]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """A function that sweeps two seeds and returns what is printed."""

    def run(folder: Path, *words: str, seeds: str = "0,1") -> str:
        with pytest.MonkeyPatch.context() as patch:
            printed: list[str] = []
            patch.setattr("builtins.print", lambda *texts, **_: printed.append(" ".join(map(str, texts))))
            try:
                aerun.run_sweep(*TINY, f"seed={seeds}", *words, out=folder)
            except AerunError as error:
                printed.append(f"error: {error}")
        return "\n".join(printed)

    return run


@pytest.fixture(scope="module")
def few(sweep: Sweep, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep with one protocol."""
    folder = tmp_path_factory.mktemp("few") / "x"
    sweep(folder, "protocol=[knn]")
    return folder


@pytest.fixture
def copied(few: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(few, tmp_path / "x", copy_function=shutil.copy2))


def summaries(folder: Path) -> dict[str, dict[str, Any]]:
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(folder.glob("*/summary.json"))}


def weights(folder: Path) -> dict[str, tuple[int, int]]:
    return {name: mark for name, mark in marks(folder).items() if "checkpoints" in name}


def assert_same(first: Path, second: Path, *but: str) -> None:
    """All numbers, pictures, curves and weights of the runs are the same, and so are their protocols."""
    for one, other in zip(sorted(first.glob("s?_*")), sorted(second.glob("s?_*")), strict=True):
        assert differences(contents(one), contents(other)) == list(but)
        protocols = [yaml.safe_load((folder / "config.yaml").read_text())["protocol"] for folder in (one, other)]
        assert protocols[0] == protocols[1]


def test_added_protocols_are_as_if_they_had_been_there_from_the_start(
    sweep: Sweep, copied: Path, tmp_path: Path
) -> None:
    trained, status = weights(copied), statuses(copied)
    said = sweep(copied, "protocol=[knn,linear_svm,ssim]", *KEYS)
    assert "2 jobs; 2 to evaluate by protocols, 0 to run" in said and said.count("]  evaluated  seed=") == 2, said
    for summary in summaries(copied).values():
        assert f"; knn_error {summary['test']['knn_error']:.6g}; svm_error " in said
    assert weights(copied) == trained and statuses(copied) == status
    sweep(tmp_path / "whole", "protocol=[knn,linear_svm,ssim]", *KEYS)
    assert_same(copied, tmp_path / "whole")
    again = marks(copied)
    for words in (["protocol=[knn,linear_svm,ssim]", *KEYS], ["protocol=[ssim]"], []):  # fewer take nothing away
        assert "2 jobs; 2 done before, 0 to run" in sweep(copied, *words)
        assert marks(copied) == again
    assert "2 done before, 1 to run" in sweep(copied, "protocol=[knn,linear_svm,ssim]", *KEYS, seeds="0,1,2")


def test_a_protocol_with_other_keys_replaces_its_numbers(sweep: Sweep, copied: Path, tmp_path: Path) -> None:
    trained = weights(copied)
    assert "2 to evaluate by protocols, 0 to run" in sweep(copied, "protocol=[knn]", "protocol.knn.k=3")
    assert weights(copied) == trained
    sweep(tmp_path / "whole", "protocol=[knn]", "protocol.knn.k=3")
    assert_same(copied, tmp_path / "whole", "scalar test/knn_error")  # TensorBoard shows both


def test_a_failed_protocol_is_reported_and_tried_again(sweep: Sweep, copied: Path) -> None:
    words = ["protocol=[knn,logistic]", "protocol.logistic.held_out=0.999999"]
    before = summaries(copied)
    said = sweep(copied, *words)
    assert "failed protocols:" in said and "error: 2 protocols failed" in said, said
    for name, summary in summaries(copied).items():
        assert summary["unanswered"].keys() == {"logistic"} and summary["test"] == before[name]["test"]
    assert "0 to run" in sweep(copied, *words, "sweep.retry_failed=false")
    assert "2 to evaluate by protocols" in sweep(copied, *words)
    assert "failed protocols" not in sweep(copied, "protocol=[logistic]", "protocol.logistic.strengths=[1e-3]")
    assert all(summary["unanswered"] == {} for summary in summaries(copied).values())


def test_a_dry_run_lists_what_is_only_evaluated(sweep: Sweep, copied: Path) -> None:
    files = {path: path.stat().st_mtime_ns for path in copied.rglob("*")}
    said = sweep(copied, "protocol=[knn,ssim]", "sweep.dry_run=true", seeds="0,1,2")
    lines = [line.split() for line in said.splitlines() if "seed=" in line]
    assert [(line[0], line[1]) for line in lines[:3]] == [
        ("evaluate", "seed=0"), ("evaluate", "seed=1"), ("new", "seed=2"),
    ]  # fmt: skip
    assert "2 to evaluate by protocols; 1 of 3 runs to do" in said
    assert {path: path.stat().st_mtime_ns for path in copied.rglob("*")} == files


def test_a_killed_evaluation_leaves_the_run_finished_and_is_repeated(few: Path, tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    shutil.copytree(few, outputs / "x", copy_function=shutil.copy2)
    trained, before = weights(outputs / "x"), summaries(outputs / "x")
    words = [*ODD, *TINY, *JOBLIB, "seed=0,1", "protocol=[knn,ssim,deadly]", "sweep.name=x"]
    done = launch(tmp_path, *words)
    assert done.returncode == 1 and "2 unevaluated" in done.stdout, done.stdout + done.stderr
    assert done.stdout.count("its process ended by SIGKILL") == 2 and "continue " in done.stdout
    assert {status["state"] for status in statuses(outputs / "x").values()} == {"finished"}
    assert summaries(outputs / "x") == before
    done = launch(tmp_path, *words, SOUND="1")
    assert done.returncode == 0, done.stdout + done.stderr
    for name, summary in summaries(outputs / "x").items():
        assert summary["test"]["survivors"] == 2_000  # test images
        assert {"ssim", "survivors"} | before[name]["test"].keys() <= summary["test"].keys()
    assert all(status["error"] is None for status in statuses(outputs / "x").values())
    assert weights(outputs / "x") == trained
    assert [path.name for path in outputs.iterdir()] == ["x"]


@pytest.mark.parametrize(
    ("summary", "wanted", "missing"),
    [
        ({"protocols": {"knn": ["knn_error"]}}, {"knn": 5}, []),
        ({"protocols": {"knn": ["knn_error"]}}, {"knn": 3}, ["knn"]),
        ({"protocols": {}}, {"knn": 5}, ["knn"]),  # of a run that was killed between its two files
        ({"protocols": {}, "unanswered": {"knn": "too few"}}, {"knn": 5}, []),
        ({}, {"knn": 5}, []),  # older summaries do not list protocols
        ({}, {"knn": 5, "other": 1}, ["other"]),
    ],
)
def test_which_protocols_are_missing(summary: dict[str, Any], wanted: dict[str, int], missing: list[str]) -> None:
    def config(protocols: dict[str, int]) -> dict[str, Any]:
        target = "aerun.protocol.NearestNeighbours"
        return {"protocol": {name: {"_target_": target, "k": k} for name, k in protocols.items()}}

    stored = config({"knn": 5})
    del stored["protocol"]["knn"]["k"]  # of an older version: 5 is the default
    unchosen = {"protocol": {**config(wanted)["protocol"], "unchosen": {"k": 3}}}  # as by an experiment
    assert missing_protocols(stored, summary, unchosen) == missing
