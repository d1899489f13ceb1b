"""Every recipe of conf/experiment trains and answers, as it stands but for a few hundred images and a few steps."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aerun.base.conf import conf_dir
from aerun.config.parse import parse
from aerun.dataset.data import Arrays
from aerun.dataset.idx import FashionMNISTMini, _Downloaded
from aerun.errors import ConfigError
from aerun.runs.pictures import Pictures
from aerun.runs.run import run
from benchmarks.paper_rows import ROWS
from tests.keys import PLAIN

Compose = Callable[[Sequence[str]], dict[str, Any]]
FOLDER = Path(conf_dir()) / "experiment"
PRESETS = sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.yaml"))
OPENING = ("paper: ", "protocol", "ours: ", "time: ")
# Whatever is long, made short, where a recipe has the key.
SHORT: dict[str, dict[str, Any]] = {
    "dataset": {"train_limit": 150, "validation": 0, "size": 32},
    "trainer": {
        "steps": 4,
        "epochs": 1,
        "batch_size": 25,
        "stage_epochs": 1,
        "device": "cpu",
        "threads": 1,
    },
    "scheduler": {"warmup_epochs": 0.0},
}
QUESTIONS = {"samples": 4, "images": 20, "samples_of_rest": 2, "draws": 1, "strengths": [1e-3]}


@pytest.fixture
def small_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Digits and clothes are the embedded clothes, which have their shape; baselines and pictures have
    tests of their own."""
    found = FashionMNISTMini(**PLAIN).read()
    few = Arrays(found.train[:800], found.test[:100], found.train_labels[:800], found.test_labels[:100], found.classes)
    monkeypatch.setattr(_Downloaded, "read", lambda self: few)
    monkeypatch.setattr(FashionMNISTMini, "read", lambda self: few)
    monkeypatch.setattr("aerun.runs.summary.baselines", lambda *_: {})
    for drawing in ("draw_curves", "draw_final", "draw_stages"):
        monkeypatch.setattr(f"aerun.runs.run.{drawing}", lambda *_: None)
    for moment in ("begin", "epoch"):
        monkeypatch.setattr(Pictures, moment, lambda *_: None)


def drawings(folder: Path) -> Path:
    """A folder of small pictures."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(180):
        Image.fromarray(random.integers(0, 256, (20, 30, 3), np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize("name", PRESETS)
def test_a_recipe_trains(compose: Compose, small_sets: None, tmp_path: Path, name: str) -> None:
    config = compose([f"experiment={name}"])
    config["dataset"] |= {"input_transform": [], "target_transform": []}  # what they cut out is not there at this size
    if config["dataset"].get("root") == "???":
        config["dataset"]["root"] = str(drawings(tmp_path / "drawings"))
    for group, values in SHORT.items():
        config[group] |= {key: value for key, value in values.items() if key in config[group]}
    for question in config["protocol"].values():
        question |= {key: value for key, value in QUESTIONS.items() if key in question}
    summary = run(parse(config), config, tmp_path / "run")
    assert summary["steps"] >= 1 and summary["test"] and summary["unanswered"] == {}
    for row in ROWS:
        assert row.experiment != name or row.metric in summary["test"]
    assert all(math.isfinite(value) for value in summary["test"].values())


def test_another_option_than_the_recipes_is_told_what_is_left_behind(compose: Compose) -> None:
    words = ["experiment=greedy_2d", "trainer=joint"]
    choices = {"experiment": "greedy_2d", "trainer": "joint"}
    with pytest.raises(ConfigError, match=r"trainer=joint does not have; add '~trainer\.stage_epochs' to drop it"):
        parse(compose(words), choices, words)
    parse(compose([*words, "~trainer.stage_epochs"]), choices, words)
    with pytest.raises(ConfigError, match="there is no such key"):  # typed, so no recipe's
        parse(compose(words), choices, [*words, "trainer.stage_epochs=3"])


@pytest.mark.parametrize("name", sorted({row.experiment for row in ROWS} & set(PRESETS)))
def test_a_recipe_of_a_paper_opens_with_what_it_is(name: str) -> None:
    text = (FOLDER / f"{name}.yaml").read_text()
    opening = text[: text.index("\ndefaults:")].splitlines()
    assert opening[0] == "# @package _global_" and all(line.startswith("#") for line in opening)
    command, *_ = opening[1:]
    assert re.match(rf"# python scripts/train.py (-m )?experiment={name}\b", command)
    for word in OPENING:
        assert any(line.startswith(f"# {word}") for line in opening), word
