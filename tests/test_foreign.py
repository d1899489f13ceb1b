"""A configuration folder of somebody else's can name what is chosen; it cannot decide what code runs, or what leaks."""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.conf import HydraConf, JobConf

from aerun.config.compose import compose_words
from aerun.config.foreign import CALLED
from aerun.config.parse import parse
from aerun.errors import ConfigError
from aerun.sweep.launcher.joblib import Joblib
from aerun.sweep.launcher.ray import Ray
from aerun.sweep.launcher.slurm import Slurm

TOUCH: dict[str, Any] = {"_target_": "subprocess.Popen", "args": ["touch", "ran"]}
GLOBAL = "# @package _global_\n"
LOGGED = {
    "version": 1,
    "handlers": {"evil": {"()": "os.system", "command": "touch ran"}},
    "root": {"handlers": ["evil"]},
}
# What a file may set of Hydra's own node: nothing of it is called, and the rest of the value is checked by Hydra.
SAFE = {
    *("run", "sweep", "mode", "searchpath", "hydra_help", "help", "output_subdir", "overrides", "runtime", "verbose"),
    *("job.name", "job.chdir", "job.override_dirname", "job.id", "job.num", "job.config_name", "job.env_copy"),
    "job.config",
}


def words_of(folder: Path, **files: Any) -> list[str]:
    """Words that add a configuration folder with these files, by group and option."""
    for name, content in files.items():
        path = folder / "conf" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return [f"hydra.searchpath=[file://{folder / 'conf'}]"]


def experiment(**content: Any) -> str:
    return GLOBAL + yaml.safe_dump(content)


def refused(words: list[str], says: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(ConfigError, match=says):
        parse(*compose_words(words))
    assert not (folder / "ran").exists()


def test_trust_in_a_file_has_no_effect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trusting = experiment(trusted_packages=["subprocess"], defaults=[{"override /loss": "evil"}])
    words = words_of(tmp_path, **{"loss/evil": TOUCH, "experiment/nice": trusting})
    says = r"loss\._target_=subprocess\.Popen: .*add trusted_packages=\[subprocess\]"
    refused([*words, "experiment=nice"], says, tmp_path, monkeypatch)
    refused([*words, "experiment=nice", "trusted_packages=[other]"], says, tmp_path, monkeypatch)
    config, _ = compose_words([*words, "experiment=nice", "trusted_packages=[subprocess]"])
    assert config["trusted_packages"] == ["subprocess"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("callbacks", {"mine": TOUCH}),
        ("job.env_set", {"LD_PRELOAD": "evil.so"}),
        ("launcher._target_", "subprocess.Popen"),
        ("sweeper._target_", "os.system"),
        ("job_logging", LOGGED),
        ("hydra_logging", LOGGED),
        ("job_logging.formatters.file.class", "subprocess.Popen"),
        ("job_logging.handlers.file.filename", "/home/me/thesis.tex"),
        ("job_logging.handlers.console.stream", "ext://os.environ"),
        ("sweeper.params", {"trusted_packages": "[os]"}),
    ],
)
def test_a_file_cannot_decide_what_hydra_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, value: Any
) -> None:
    node = value
    for name in reversed(key.split(".")):
        node = {name: node}
    words = words_of(tmp_path, **{"experiment/nice": experiment(hydra=node)})
    refused([*words, "experiment=nice"], rf"hydra\.{key.partition('.')[0]}", tmp_path, monkeypatch)


def test_an_option_of_hydras_groups_cannot_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = {"hydra/job_logging/theirs": LOGGED, "hydra/sweeper/theirs": TOUCH, "hydra/launcher/theirs": TOUCH}
    words = words_of(tmp_path, **theirs)
    for group in ("job_logging", "sweeper", "launcher"):
        refused([*words, f"hydra/{group}=theirs"], rf"hydra\.{group}.*type trusted_packages", tmp_path, monkeypatch)
    compose_words([*words, "hydra/job_logging=theirs", "trusted_packages=[logging]"])


def test_what_is_typed_and_what_hydra_brings_is_accepted() -> None:
    compose_words(["hydra/job_logging=disabled", "hydra/hydra_logging=none"])
    compose_words(["hydra/job_logging=default", "hydra.job_logging.root.level=DEBUG"])
    compose_words(["+hydra.callbacks.mine._target_=mine.Callback", "+hydra.job.env_set.X=1"])
    compose_words(["hydra/launcher=slurm", "hydra.launcher.setup=[module load cuda]", "hydra/sweeper=basic"])


def test_every_key_that_calls_something_is_known() -> None:
    """A key that Hydra or a launcher gains must be sorted into what files may set and what they may not."""
    keys = {field.name for field in dataclasses.fields(HydraConf)} - {"job", "launcher", "sweeper"}
    keys |= {f"job.{field.name}" for field in dataclasses.fields(JobConf)}
    assert keys <= SAFE | set(CALLED) | {"job_logging", "hydra_logging", "defaults"}, keys - SAFE
    for launcher in (Joblib, Ray, Slurm):
        hints = typing.get_type_hints(launcher)
        free = {f"launcher.{name}" for name, hint in hints.items() if typing.get_origin(hint) is list or hint is dict}
        assert free <= set(CALLED), launcher


def test_a_file_reads_no_variable_of_the_environment_that_is_not_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither directly, nor through another key, nor through another resolver."""
    monkeypatch.setenv("SECRET", "s3cr3t")
    curious = experiment(dataset={"labels_key": "${oc.env:SECRET}"})
    nested = experiment(seed="${oc.decode:${init_from}}", init_from="${oc.env:SECRET,1}")
    words = words_of(tmp_path, **{"experiment/curious": curious, "experiment/nested": nested})
    array = [*words, "dataset=array", "dataset.root=x.npz"]
    for name in ("curious", "nested"):
        says = "a file reads the environment variable SECRET"
        refused([*array, f"experiment={name}"], says, tmp_path, monkeypatch)
    config, _ = compose_words([*array, "experiment=curious", "init_from=${oc.env:SECRET}"])
    assert config["dataset"]["labels_key"] == "s3cr3t"
    config, _ = compose_words(["trainer.epochs='${oc.decode:${oc.env:EPOCHS,3}}'"])
    assert config["trainer"]["epochs"] == 3


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("aerun.base.files.LogFile", r"must be a class in one of aerun\.dataset, "),
        ("aerun.cli.command.End", r"must be a class in one of aerun\.dataset, "),
        ("aerun.dataset.base.Path", "is only imported there; it is defined in pathlib"),
        ("torch.optim.lr_scheduler.partial", "is only imported there; it is defined in functools"),
    ],
)
def test_a_file_names_only_classes_that_are_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, says: str
) -> None:
    """Other classes of trusted packages may write files as they are made; as LogFile does."""
    inner = {"_target_": target, "filename": "ran"}
    words = words_of(tmp_path, **{"loss/evil": {"_target_": "torch.nn.MSELoss", "reduction": inner}})
    refused([*words, "loss=evil"], rf"loss\.reduction\._target_={target}: {says}", tmp_path, monkeypatch)


@pytest.mark.parametrize("key", ["run.dir", "sweep.dir", "sweep.subdir", "job.name", "help.template"])
def test_a_file_names_no_folder_by_a_variable_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("SECRET", "s3cr3t")
    outer, inner = key.split(".")
    words = words_of(tmp_path, **{"experiment/nice": experiment(hydra={outer: {inner: "out/${oc.env:SECRET,x}"}})})
    says = rf"hydra\.{key}: a file reads the environment variable SECRET; type hydra\.{key}="
    refused([*words, "experiment=nice"], says, tmp_path, monkeypatch)
    compose_words([f"hydra.{key}='out/${{oc.env:SECRET}}'"])
