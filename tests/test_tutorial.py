"""The tutorials' presets: their common settings, that each trains, and the page that is made of their runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from aerun.base.conf import conf_dir
from aerun.config.parse import parse
from aerun.optimizer import Adam
from aerun.scheduler import Plateau
from benchmarks.tutorial import NAMES
from tests.test_options import two_steps

Compose = Callable[[Sequence[str]], dict[str, Any]]
FOLDER = conf_dir() / "experiment" / "tutorial"
PRESETS = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def test_the_page_knows_every_preset() -> None:
    assert set(PRESETS) <= set(NAMES)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_the_settings_of_all_and_trains(compose: Compose, name: str) -> None:
    small = ["dataset=fashion_mnist_mini", "dataset.train_limit=100"]
    config = compose([f"experiment=tutorial/{name}", *small, "trainer.device=cpu"])
    settings = parse(config)
    assert (settings.trainer.batch_size, settings.optimizer.lr) == (512, 1e-3)
    assert isinstance(settings.scheduler, Plateau) and isinstance(settings.optimizer, Adam)
    assert type(parse(compose([f"experiment=tutorial/{name}"])).dataset).__name__ == "FashionMNIST"
    two_steps(config)


@pytest.mark.parametrize("name", [f"tutorial/{name}" for name in PRESETS] + ["ufldl_patches"])
def test_a_preset_opens_with_its_command_and_what_it_reached(name: str) -> None:
    lines = (conf_dir() / "experiment" / f"{name}.yaml").read_text().splitlines()
    assert lines[:2] == ["# @package _global_", f"# python scripts/train.py experiment={name}"]
    assert any(line.startswith("# ours: ") for line in lines)


def test_patches_of_photographs_as_a_preset(compose: Compose) -> None:
    config = compose(["experiment=ufldl_patches", "dataset.count=200", "trainer.device=cpu"])
    torch.manual_seed(0)
    assert two_steps(config)["mse"] < 0.1
