"""What Hydra documents for jobs has its effect in sweeps, or is refused by name."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import OmegaConf

from aerun.config.compose import initialized_hydra, run_config
from aerun.config.schema import construct
from aerun.errors import ConfigError
from aerun.sweep.hydra_keys import check_hydra_keys, job_environment
from aerun.sweep.in_process import prepare_sweep
from aerun.sweep.plugin import PointSweeper
from aerun.sweep.points import axes

Train = Callable[..., subprocess.CompletedProcess[str]]


class OfJobs(Callback):
    """It does something for each job."""

    def on_job_start(self, config: Any, **more: Any) -> None:
        pass


class OfSweeps(Callback):
    """It does something for the whole sweep."""

    def on_multirun_start(self, config: Any, **more: Any) -> None:
        pass


@pytest.mark.parametrize(
    "word",
    [
        "hydra.job.chdir=true",
        "hydra.job.name=mine",
        "hydra.sweep.subdir=s${seed}",
        "hydra.sweep.subdir=${hydra.job.num}",
    ],
)
def test_a_key_without_effect_in_sweeps_is_refused_by_name(word: str) -> None:
    key, _, value = word.partition("=")
    with pytest.raises(ConfigError) as error:
        prepare_sweep([word, "seed=0,1"], ["x"])
    assert str(error.value).startswith(f"{key}=") and value.lower() in str(error.value).lower()
    assert "hydra/sweeper=basic" in str(error.value)


def test_every_key_of_a_job_has_its_effect_or_is_refused() -> None:
    """Keys that a later version of Hydra adds must be decided here."""
    with initialized_hydra() as hydra:
        node = hydra.compose_config("train", [], RunMode.MULTIRUN).hydra
    refused, computed = {"chdir", "name"}, {"id", "num", "config_name", "override_dirname"}
    formatting = {"config"}  # of override_dirname, which only hydra.sweep.subdir reads
    assert set(node.job) == refused | computed | formatting | {"env_set", "env_copy"}
    assert set(node.sweep) == {"dir", "subdir"}


def test_callbacks_of_jobs_are_refused_and_others_are_not() -> None:
    with initialized_hydra() as hydra:
        node: Any = OmegaConf.to_container(hydra.compose_config("train", [], RunMode.MULTIRUN).hydra, resolve=False)
    check_hydra_keys(node, [OfSweeps()])
    with pytest.raises(ConfigError, match=r"^hydra\.callbacks: OfJobs\.on_job_start is not called in sweeps"):
        check_hydra_keys(node, [OfSweeps(), OfJobs()])


def test_variables_are_those_of_the_whole_sweep(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COPIED", "c")
    seen: list[tuple[str | None, str | None]] = []
    monkeypatch.setattr(
        PointSweeper, "_run", lambda self, typed: seen.append((os.environ.get("OF_A_JOB"), os.environ.get("COPIED")))
    )
    words = ["+hydra.job.env_set.OF_A_JOB=7", "hydra.job.env_copy=[COPIED]", "seed=0,1", "sweep.dry_run=true"]
    sweeper, arguments = prepare_sweep(words, ["x"])
    sweeper.sweep(arguments)
    assert seen == [("7", "c")] and "OF_A_JOB" not in os.environ
    assert sweeper.environment == {"OF_A_JOB": "7", "COPIED": "c"}
    with pytest.raises(ConfigError, match=r"^hydra\.job\.env_set\.A: has no effect in a running Ray cluster"):
        job_environment({"job": {"env_set": {"A": 1}}, "launcher": {"address": "auto"}})


@pytest.mark.parametrize(("option", "key"), [("ray", "init"), ("slurm", "additional_parameters")])
def test_a_launcher_takes_the_mapping_that_its_comment_shows(option: str, key: str) -> None:
    typed = f"hydra.launcher.{key}={{num_cpus: 2, exclude: 'node[7-9]'}}"
    for words in ([typed], [f"+hydra.launcher.{key}.num_cpus=2", f"+hydra.launcher.{key}.exclude='node[7-9]'"]):
        with initialized_hydra() as hydra:
            node = hydra.compose_config("train", [f"hydra/launcher={option}", *words], RunMode.MULTIRUN).hydra.launcher
        assert OmegaConf.to_container(node)[key] == {"num_cpus": 2, "exclude": "node[7-9]"}  # type: ignore[call-overload, index]


def test_a_pattern_that_fits_no_option_is_an_error(composer: Any) -> None:
    with pytest.raises(ConfigError, match=r"^model=glob\(zzz\*\): there is no such option"):
        axes(["model=glob(zzz*)"], composer.parser)


def test_relative_paths_start_where_the_command_was_typed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    words = ["dataset=image_folder", "dataset.root=art", "init_from=first", "resume=second"]
    with initialized_hydra() as hydra:
        config = hydra.compose_config("train", ["dataset=image_folder", *words[1:3]], RunMode.RUN)
    config = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    config.resume = "second"
    monkeypatch.chdir(tmp_path / "elsewhere")
    plain = run_config(config, words, str(tmp_path))
    found = (plain["dataset"]["root"], plain["init_from"], plain["resume"])
    assert found == tuple(str(tmp_path / name) for name in ("art", "first", "second"))
    assert run_config(config, words)["init_from"] == str(tmp_path / "elsewhere" / "first")


def test_a_run_that_changes_its_directory(train: Train, tmp_path: Path) -> None:
    words = ["dataset=random", "dataset.images=40", "trainer.epochs=1", "trainer.pictures=0", "trainer.device=cpu"]
    assert train(*words, "hydra.run.dir=first").returncode == 0
    done = train("resume=first", "hydra.job.chdir=true")
    assert done.returncode == 0, done.stderr
    done = train(*words, "init_from=first", "hydra.job.chdir=true", "hydra.run.dir=second")
    assert done.returncode == 0 and (tmp_path / "second" / "summary.json").exists(), done.stderr
    done = train(*words, "hydra.job.env_set.X=1")
    assert done.returncode == 1 and "+hydra.job.env_set.X=" in done.stderr


def test_launchers_work_without_those_mappings() -> None:
    ray = pytest.importorskip("ray", reason="needs aerun[ray]")
    from aerun.sweep.launcher.ray import Ray

    assert ray and construct(Ray, {"address": None, "num_cpus": 1, "num_gpus": 0, "init": None}, "").init is None
