"""Searches: results that reach the study, pruning, and continued studies."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path
from typing import Any

import pytest

from aerun.contracts import Metric
from tests.sweep.launching import (
    BASIC,
    JOBLIB,
    ODD,
    TINY,
    await_that,
    begin,
    kill_group,
    launch,
    marks,
    states,
    statuses,
    study_trials,
)

optuna: Any = pytest.importorskip("optuna", reason="needs aerun[optuna]")
SEARCH = ["hydra/sweeper=optuna", "hydra.sweeper.params=null", "sweep.name=x"]
RANDOM = ["hydra.sweeper.sampler=random", "hydra.sweeper.pruner=none"]


def results(sweep: Path) -> dict[str, float]:
    """validation/mse of the best epoch of every finished job, read directly from the files."""
    found = {}
    for path in sweep.glob("*/summary.json"):
        best = json.loads(path.read_text())["best_epoch"]
        lines = [json.loads(line) for line in (path.parent / "metrics.jsonl").read_text().splitlines()]
        [found[path.parent.name]] = [line["validation/mse"] for line in lines if line["epoch"] == best]
    return found


@pytest.mark.slow
def test_a_study_is_continued_and_its_values_are_means_over_seeds(tmp_path: Path) -> None:
    """A trial has one run for each seed, and its value is their mean. Adding trials runs none twice."""
    sweep = tmp_path / "outputs" / "x"
    words = [*TINY, *SEARCH, *RANDOM, *BASIC, "trainer.epochs=1", "seed=0,1", "optimizer.lr=interval(1e-7,1e-2)"]
    done = launch(tmp_path, *words, "hydra.sweeper.trials=2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(study_trials(sweep)) == 2 and len(states(sweep)) == 4
    before = marks(sweep)
    done = launch(tmp_path, *words, "hydra.sweeper.trials=4")
    assert done.returncode == 0, done.stdout + done.stderr
    assert before.items() <= marks(sweep).items() and len(states(sweep)) == 8
    found, index = results(sweep), json.loads((sweep / "sweep.json").read_text())["jobs"]
    known = study_trials(sweep)
    assert len({trial.params["optimizer.lr"] for trial in known}) == 4
    for trial in known:
        of_trial = [
            name
            for name, job in index.items()
            if job["values"]["optimizer.lr"] == pytest.approx(trial.params["optimizer.lr"], rel=1e-5)
        ]
        assert trial.state == optuna.trial.TrialState.COMPLETE and len(of_trial) == 2
        assert trial.value == pytest.approx(statistics.fmean(found[name] for name in of_trial), rel=1e-12)
    best = min(known, key=lambda trial: trial.value)
    [line] = [line for line in done.stdout.splitlines() if line.startswith("best ")]
    assert f"optimizer.lr={best.params['optimizer.lr']:g}" in line and f"validation/mse {best.value:.6g}" in line
    pictures = {path.name for path in (sweep / "study").glob("*.png")}
    assert {"optimization_history.png", "slice.png", "parallel_coordinate.png"} <= pictures


@pytest.mark.slow
def test_the_runs_of_a_finished_search_are_evaluated_by_added_protocols(tmp_path: Path) -> None:
    sweep = tmp_path / "outputs" / "x"
    words = [*TINY, *SEARCH, *RANDOM, *BASIC, "optimizer.lr=interval(1e-7,1e-2)", "hydra.sweeper.trials=2"]
    assert launch(tmp_path, *words).returncode == 0
    before = marks(sweep)
    done = launch(tmp_path, *words, "protocol=[knn]")
    assert done.returncode == 0 and done.stdout.count("evaluated") == 2, done.stdout + done.stderr
    assert len(study_trials(sweep)) == 2 and len(states(sweep)) == 2
    after = marks(sweep)
    assert all(after[name] == mark for name, mark in before.items() if "checkpoints" in name)
    assert all("knn_error" in json.loads(path.read_text())["test"] for path in sweep.glob("*/summary.json"))


@pytest.mark.slow
def test_equal_simultaneous_draws_are_one_run_and_the_better_one_is_found(tmp_path: Path) -> None:
    words = [*TINY, *SEARCH, *RANDOM, *JOBLIB, "trainer.epochs=1", "optimizer.lr=1e-9,1e-2"]
    done = launch(tmp_path, *words, "hydra.sweeper.trials=6")
    sweep = tmp_path / "outputs" / "x"
    assert done.returncode == 0, done.stderr
    assert [trial.state.name for trial in study_trials(sweep)] == ["COMPLETE"] * 6
    assert len(states(sweep)) == 2 and done.stdout.count("  finished ") == 2
    assert len({trial.value for trial in study_trials(sweep)}) == 2
    found = results(sweep)
    assert re.search(rf"best +optimizer\.lr=\S+: .*, {min(found, key=lambda name: found[name])}\n", done.stdout)


@pytest.mark.slow
def test_a_study_whose_runs_all_fail_ends_and_can_be_retried(tmp_path: Path) -> None:
    words = [*ODD, *TINY, *SEARCH, *RANDOM, *BASIC, "trainer.epochs=1", "model=conv", "sparsity=odd", "seed=1"]
    words += ["optimizer.lr=1e-3,1e-2", "hydra.sweeper.trials=4"]
    done = launch(tmp_path, *words)
    sweep = tmp_path / "outputs" / "x"
    assert done.returncode == 1 and "jobs failed" in done.stderr
    assert {trial.state.name for trial in study_trials(sweep)} == {"FAIL"} and len(study_trials(sweep)) == 4
    assert done.stdout.count("cannot bear the odd seed 1") == 2 * len(states(sweep))  # at its end, and in the table
    done = launch(tmp_path, *words, SOUND="1")
    assert done.returncode == 0, done.stderr
    assert set(states(sweep).values()) == {"finished"}
    assert sum(trial.state.name == "COMPLETE" for trial in study_trials(sweep)) == 4


@pytest.mark.slow
@pytest.mark.parametrize("pruner", ["median", "none"])
def test_an_unknown_metric_ends_the_search_with_one_line(tmp_path: Path, pruner: str) -> None:
    words = [*TINY, *SEARCH, *BASIC, "optimizer.lr=1e-3,1e-2", "hydra.sweeper.trials=3"]
    done = launch(tmp_path, *words, "hydra.sweeper.metric=validation/nope", f"hydra.sweeper.pruner={pruner}")
    before, line = done.stderr.strip().splitlines()
    assert done.returncode == 1
    assert before.startswith("aerun: hydra.sweeper.metric=validation/nope: nothing declares this metric.")
    assert line.startswith("aerun: hydra.sweeper.metric=validation/nope: runs do not have this number. Known: ")
    assert "validation/mse" in line and len(states(tmp_path / "outputs" / "x")) == 1
    done = launch(tmp_path, *words)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("metric", "given", "used", "says"),
    [
        ("validation/psnr", None, "maximize", None),
        ("validation/psnr", "maximize", "maximize", None),
        ("validation/psnr", "minimize", "minimize", "use hydra.sweeper.direction=maximize"),
        ("test/mse", "maximize", "maximize", "use hydra.sweeper.direction=minimize"),
        ("best_loss", None, "minimize", None),
        ("train_seconds", None, "minimize", None),
        ("validation/mine", None, "maximize", None),  # by a callback of one's own
        ("validation/mes", None, "minimize", "nothing declares this metric. Did you mean 'mse'?"),
        ("test/unheard_of", "maximize", "maximize", "nothing declares this metric"),
    ],
)
def test_the_direction_is_the_declared_one_unless_given(metric: str, given: Any, used: str, says: str | None) -> None:
    from aerun.sweep.optuna_objective import objectives

    [objective] = objectives([metric], [given], {"mine": Metric("mine", higher_is_better=True)})
    assert objective.direction == used
    assert (objective.note is None) == (says is None)
    if says is not None and objective.note is not None:
        assert says in objective.note and "\n" not in objective.note


@pytest.mark.slow
def test_a_search_in_the_worse_direction_warns_once_and_runs(tmp_path: Path) -> None:
    words = [*TINY, *SEARCH, *RANDOM, *BASIC, "trainer.epochs=1", "optimizer.lr=1e-3,1e-2", "hydra.sweeper.trials=1"]
    words.append("hydra.sweeper.direction=minimize")
    done = launch(tmp_path, *words, "hydra.sweeper.metric=validation/psnr")
    assert done.returncode == 0
    assert done.stderr.count("higher is better for validation/psnr; use hydra.sweeper.direction=maximize") == 1
    ema = launch(tmp_path, *words, "callback=ema", "sweep.name=ema", "hydra.sweeper.metric=validation/ema/psnr")
    assert ema.returncode == 0 and "higher is better for validation/ema/psnr" in ema.stderr  # as the callback declares
    assert launch(tmp_path, *words, "sweep.name=y").stderr == ""


def test_without_optuna_one_line_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "optuna.py").write_text("raise ImportError('hidden')\n")
    done = launch(tmp_path, *SEARCH, "seed=0,1", PYTHONPATH=str(tmp_path / "without"))
    [line] = done.stderr.strip().splitlines()
    assert done.returncode == 1 and "aerun[optuna]" in line
    assert not (tmp_path / "outputs" / "x").exists()


@pytest.mark.slow
def test_unpromising_runs_are_pruned_and_marked(tmp_path: Path) -> None:
    words = [*TINY, *SEARCH, *BASIC, "hydra.sweeper.sampler=random", "optimizer.lr=interval(1e-7,1e-2)"]
    words += ["trainer.epochs=4", "hydra.sweeper.trials=8", "hydra.sweeper.startup_trials=2"]
    done = launch(tmp_path, *words, "hydra.sweeper.warmup_epochs=1")
    sweep = tmp_path / "outputs" / "x"
    assert done.returncode == 0, done.stderr
    found, index = statuses(sweep), json.loads((sweep / "sweep.json").read_text())["jobs"]
    pruned = {name for name, status in found.items() if status["state"] == "pruned"}
    assert pruned and len(found) == 8
    for trial in study_trials(sweep):
        [name] = [
            name
            for name, job in index.items()
            if job["values"]["optimizer.lr"] == pytest.approx(trial.params["optimizer.lr"], rel=1e-5)
        ]
        assert trial.state.name == ("PRUNED" if name in pruned else "COMPLETE")
        if name in pruned:
            assert re.match(r"PrunedError: pruned after epoch \d: validation/mse", found[name]["error"])
            assert not (sweep / name / "summary.json").exists() and max(trial.intermediate_values) < 4
    assert max(results(sweep).values()) < max(trial.intermediate_values[1] for trial in study_trials(sweep))
    again = launch(tmp_path, *words, "hydra.sweeper.warmup_epochs=1")
    assert again.returncode == 0 and "finished   " not in again.stdout  # pruned runs have ended


@pytest.mark.slow
def test_a_killed_search_is_continued_without_running_anything_twice(tmp_path: Path) -> None:
    sweep = tmp_path / "outputs" / "x"
    words = [*TINY, *SEARCH, *RANDOM, *JOBLIB, "trainer.epochs=8", "trainer.batch_size=16", "hydra.sweeper.trials=6"]
    words += ["optimizer.lr=interval(1e-5,1e-2)"]
    finished: dict[str, Any] = {}
    for number in (1, 3, 4):
        process = begin(tmp_path, *words)
        await_that(lambda least=number: len(list(sweep.glob("*/summary.json"))) >= least, process)  # type: ignore[misc]
        kill_group(process)
        assert finished.items() <= marks(sweep).items()
        finished = marks(sweep)
    done = launch(tmp_path, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert finished.items() <= marks(sweep).items()
    assert sorted(states(sweep).values()) == ["finished"] * len(states(sweep))
    assert sum(trial.state.name == "COMPLETE" for trial in study_trials(sweep)) == 6


@pytest.mark.slow
def test_a_study_of_another_search_space_is_rejected_with_one_line(tmp_path: Path) -> None:
    words = [*TINY, *SEARCH, *RANDOM, *BASIC, "trainer.epochs=1"]
    assert launch(tmp_path, *words, "hydra.sweeper.trials=1", "optimizer.lr=1e-3,1e-2").returncode == 0
    done = launch(tmp_path, *words, "hydra.sweeper.trials=2", "optimizer.lr=1e-3,1e-1")
    [line] = done.stderr.strip().splitlines()
    assert done.returncode == 1 and "choose another sweep.name" in line
