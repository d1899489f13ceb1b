"""The default model reaches what names no model, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from aerun.base.conf import conf_dir
from aerun.config.compose import group_choices, run_config

CONF = conf_dir()


def options(group: str) -> list[str]:
    folder = CONF / group
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


def composed(folder: Path, commands: Sequence[str]) -> dict[str, tuple[dict[str, Any], dict[str, str]]]:
    """Commands -> the configuration that this folder makes of them, and the option of each group."""
    GlobalHydra.instance().clear()
    found = {}
    with initialize_config_dir(str(folder), version_base="1.3"):
        for command in commands:
            choices = hydra.compose("train", command.split(), return_hydra_config=True).hydra.runtime.choices
            found[command] = (
                run_config(hydra.compose("train", command.split()), command.split()),
                group_choices(choices),
            )
    return found


@pytest.fixture(scope="module")
def conf_of_fc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped configuration, but for the default model, which is fc."""
    folder = tmp_path_factory.mktemp("conf") / "conf"
    shutil.copytree(CONF, folder)
    text = (folder / "train.yaml").read_text()
    assert text.count("  - model: mlp\n") == 1
    (folder / "train.yaml").write_text(text.replace("  - model: mlp\n", "  - model: fc\n"))
    return folder


@pytest.mark.parametrize("group", ["experiment", "model"])
def test_a_recipe_and_a_model_are_the_same_whatever_the_default_model(conf_of_fc: Path, group: str) -> None:
    commands = [f"{group}={option}" for option in options(group)]
    commands += ["experiment=ksparse model=conv ~sparsity.k", "model=vae loss=bce", "model=fc trainer=greedy"]
    assert composed(CONF, commands) == composed(conf_of_fc, commands)


def test_only_the_model_of_a_command_without_one_depends_on_the_default(conf_of_fc: Path) -> None:
    commands = ["", "sparsity=l1 noise=gaussian scheduler=cosine", "trainer=greedy optimizer=sgd dataset=random"]
    ours, theirs = composed(CONF, commands), composed(conf_of_fc, commands)
    for command in commands:
        (config, choices), (other, other_choices) = ours[command], theirs[command]
        assert {key for key in config if config[key] != other[key]} <= {"model", "sparsity"}
        assert choices == {**other_choices, "model": "mlp"} and other_choices["model"] == "fc"


def test_fc_is_the_tutorials() -> None:
    [(config, choices)] = composed(CONF, ["model=fc"]).values()
    said = {
        "_target_": "aerun.model.FullyConnected",
        "hidden": [],
        "code_size": 64,
        "activation": "leaky_relu",
        "code_activation": "leaky_relu",
        "output_activation": "identity",
        "init": "default",
        "init_std": 0.01,
    }
    assert config["model"] | said == config["model"]
    others = {key: value for key, value in config["model"].items() if key not in said}
    assert set(others.values()) <= {False, None, "none", "init"}, others  # what the tutorials do not have
    assert config["sparsity"] == {"_target_": "aerun.sparsity.NoSparsity", "activation": "leaky_relu"}
    assert (choices["scheduler"], choices["optimizer"], choices["trainer"]) == ("none", "adam", "joint")
    assert (config["trainer"]["epochs"], config["trainer"]["batch_size"], config["optimizer"]["lr"]) == (30, 128, 1e-3)
