"""A search continues only as the same search, and names only runs that exist. Nothing is trained here."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("optuna", reason="needs aerun[optuna]")

from aerun.config.identity import IGNORED_KEYS
from aerun.errors import ConfigError
from aerun.sweep.composer import ComposedPoint, Composer
from aerun.sweep.job import Job
from aerun.sweep.job_index import JobIndex, read_job_index
from aerun.sweep.optuna_search import OptunaSearch
from aerun.sweep.optuna_settings import OptunaSettings
from aerun.sweep.points import axes
from tests.sweep.test_identity import paths

SETTINGS = OptunaSettings(
    trials=3, metric="validation/mse", direction="minimize", sampler="random", pruner="none", startup_trials=0,
    warmup_epochs=0, seed=0, crossed=["seed"],
)  # fmt: skip
SPACE = ["optimizer.lr=interval(0.001,0.1)", "seed=0,1"]
VALUE = 0.25  # of every run


class Changed:
    """A composer whose configurations are changed afterwards, as by another file of the same name."""

    def __init__(self, composer: Composer, change: Callable[[dict[str, Any]], None]) -> None:
        self.composer, self.change = composer, change
        self.parser, self.values, self.learn_keys = composer.parser, composer.values, composer.learn_keys
        self.set_condition, self.has_key = composer.set_condition, composer.has_key

    def __call__(self, point: list[str]) -> ComposedPoint:
        composed = self.composer(point)
        composed.config = copy.deepcopy(composed.config)
        self.change(composed.config)
        return composed


def search(
    folder: Path, composer: Any, words: list[str] = SPACE, fixed: tuple[str, ...] = (), **keys: Any
) -> OptunaSearch:
    index = read_job_index(folder) or JobIndex(folder.name, [], {}, {})
    settings = OptunaSettings(**{**vars(SETTINGS), **keys})
    return OptunaSearch(settings, axes([*words, *fixed], composer.parser), composer, index, folder, True)


def write_run(job: Job, value: float = VALUE) -> None:
    job.folder.mkdir(parents=True, exist_ok=True)
    (job.folder / "config.yaml").write_text(yaml.safe_dump(job.config))
    (job.folder / "status.json").write_text(json.dumps({"state": "finished"}))
    line = {"epoch": 1, "step": 1, "validation/mse": value, "validation/psnr": 6.0}
    (job.folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    summary = {"best_epoch": 1, "epochs": 1, "steps": 1, "test": {}, "baselines": {}}
    (job.folder / "summary.json").write_text(json.dumps(summary))


def begin(folder: Path, composer: Composer, **keys: Any) -> OptunaSearch:
    """A search with two trials, as if it had run."""
    begun = search(folder, composer, **keys)
    for value in (VALUE, 2 * VALUE):
        trial = begun.ask()
        jobs = begun._jobs(begun.points(trial), trial.number)
        begun.index.add(jobs)
        for job in jobs:
            write_run(job, value)
        begun.study.tell(trial, value)
    begun.index.write(folder)
    return begun


@pytest.fixture(scope="module")
def begun(composer: Composer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searches") / "first"
    folder.mkdir()
    begin(folder, composer)
    return folder


def test_the_same_search_continues(begun: Path, composer: Composer) -> None:
    same = search(begun, composer, fixed=("optimizer.amsgrad=false", "trainer.pictures=3"), trials=9)
    job = next(iter(same.index.jobs))
    assert same.best().endswith(f"validation/mse {VALUE}, {job}") and (begun / job).is_dir()


def test_every_key_that_counts_makes_it_another_search(begun: Path, composer: Composer) -> None:
    """Whatever changes: a word, an option's file, an experiment's, a default."""
    tried = 0
    for path in paths(composer(["sparsity=none"]).config):
        key = ".".join(path)
        if f"{key}.".startswith(tuple(f"{ignored}." for ignored in IGNORED_KEYS)) or key in ("seed", "optimizer.lr"):
            continue

        def change(config: dict[str, Any], path: list[str] = path) -> None:
            node = config
            for name in path[:-1]:
                node = node[name]
            node[path[-1]] = "something else"

        with pytest.raises(ConfigError) as error:
            search(begun, Changed(composer, change))
        text = str(error.value)
        assert key in text and text.endswith("choose another sweep.name") and "\n" not in text, key
        tried += 1
    assert tried > 40


@pytest.mark.parametrize(
    ("words", "fixed", "keys", "named"),
    [
        (SPACE, ("dataset=random",), {}, "dataset._target_"),
        (SPACE, ("loss=mae",), {}, "loss._target_"),
        (SPACE, ("trainer.epochs=2",), {}, "trainer.epochs"),
        (SPACE, ("model.code_size=choice(16,32)",), {}, "model.code_size"),
        (["optimizer.lr=choice(0.001,0.1)", "seed=0,1"], (), {}, "optimizer.lr"),
        (["optimizer.lr=interval(0.001,0.1)", "seed=0,1,2"], (), {}, "seed"),
        (["optimizer.lr=interval(0.001,0.1)", "seed=1"], ("trainer.epochs=7",), {}, "trainer.epochs"),
        (SPACE, (), {"metric": "validation/psnr"}, "hydra.sweeper.metric"),
        (SPACE, (), {"direction": "maximize"}, "hydra.sweeper.direction"),
        (SPACE, ("sparsity=topk", "sparsity.k=99"), {}, "invalid"),
    ],
)
def test_another_search_is_rejected_by_name(
    begun: Path, composer: Composer, words: list[str], fixed: tuple[str, ...], keys: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigError, match="contains another search, which differs in") as error:
        search(begun, composer, words, fixed, **keys)
    assert named in str(error.value)


def test_a_study_of_older_code_is_checked_by_its_runs(begun: Path, composer: Composer, tmp_path: Path) -> None:
    """It does not record its metric, and its digests are of another version."""
    folder = tmp_path / "old"
    shutil.copytree(begun, folder)
    journal = folder / "study.log"
    journal.write_text("".join(line + "\n" for line in journal.read_text().splitlines() if '"metric"' not in line))
    content = json.loads((folder / "sweep.json").read_text())
    for job in content["jobs"].values():
        job["hash"] = "of another version"
    (folder / "sweep.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="differs in its results"):
        search(folder, composer, metric="validation/psnr")
    assert f"{VALUE}, " in search(folder, composer).best()


def test_a_run_that_was_trained_longer_is_not_the_trials(begun: Path, composer: Composer, tmp_path: Path) -> None:
    folder = tmp_path / "longer"
    shutil.copytree(begun, folder)
    path = next(folder.glob("*/config.yaml"))
    path.write_text(path.read_text().replace("epochs: 30", "epochs: 60"))
    with pytest.raises(ConfigError, match=r"differs in trainer\.epochs"):
        search(folder, composer)


def test_the_best_run_exists(begun: Path, composer: Composer, tmp_path: Path) -> None:
    folder = tmp_path / "first"
    shutil.copytree(begun, folder)
    first, second = [list(read_job_index(folder).jobs)[place] for place in (0, 2)]  # type: ignore[union-attr]
    shutil.rmtree(folder / first)
    assert search(folder, composer).best().endswith(second)
    for name in list(read_job_index(folder).jobs):  # type: ignore[union-attr]
        shutil.rmtree(folder / name, ignore_errors=True)
    assert "missing" in search(folder, composer).best()


def test_a_search_stopped_in_its_first_trial_is_checked_by_its_run(composer: Composer, tmp_path: Path) -> None:
    """A run was begun, but has no result yet."""
    stopped = search(tmp_path, composer)
    trial = stopped.ask()
    jobs = stopped._jobs(stopped.points(trial), trial.number)
    stopped.index.add(jobs)
    stopped.index.write(tmp_path)
    jobs[0].folder.mkdir()
    (jobs[0].folder / "config.yaml").write_text(yaml.safe_dump(jobs[0].config))
    with pytest.raises(ConfigError, match=r"trainer\.epochs"):
        search(tmp_path, composer, fixed=("trainer.epochs=2",))
    assert search(tmp_path, composer).best() == "no trial has finished"
