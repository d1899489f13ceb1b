"""aerun itself: a whole run into a folder of its own, with what ``scripts/train.py`` would compose."""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from pathlib import Path

import hydra
import torch
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from aerun.base.conf import conf_dir
from aerun.config.compose import group_choices, run_config
from aerun.config.parse import parse
from aerun.config.settings import Settings
from aerun.dataset.data import Data, Split
from aerun.metrics.evaluation import evaluate
from aerun.runs.run import run
from aerun.training.build import build_parts
from benchmarks.contestants.nets import MODELS
from benchmarks.contestants.task import EVALUATED, Round, Task, Train, now
from benchmarks.images import EMBEDDED

QUIET = ["trainer.log_every_steps=1000000000", "trainer.pictures=0"]


def prepare(task: Task, quiet: bool = False) -> Train:
    """``quiet``: with all logging off that the configuration can turn off."""
    common = [*MODELS[task.model], f"trainer.batch_size={task.batch}", f"trainer.device={task.device}"]
    if task.folder != EMBEDDED:
        common += ["dataset=fashion_mnist", f"dataset.root={task.folder}"]
    common += QUIET if quiet else []
    data = _data(task)

    def train(steps: int) -> Round:
        settings, config = composed([*common, f"trainer.steps={steps}"])
        with tempfile.TemporaryDirectory() as place:
            begin = now(task.device)
            summary = run(settings, config, Path(place) / "run", load=lambda device: data)
            whole = now(task.device) - begin
        seconds = summary["train_seconds"]
        images = round(summary["images_per_second"] * seconds)
        parts = build_parts(settings, data, torch.device(task.device))
        assert data.validation is not None
        begin = now(task.device)
        evaluate(parts.autoencoder, data.validation, parts.noise, parts.loss)
        return Round(images, seconds, len(data.validation), now(task.device) - begin, whole - seconds)

    return train


def composed(overrides: list[str]) -> tuple[Settings, dict[str, object]]:
    """Settings and the configuration that they come from."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = run_config(hydra.compose("train", overrides=overrides), overrides)
        choices = hydra.compose("train", overrides=overrides, return_hydra_config=True).hydra.runtime.choices
    return parse(config, group_choices(choices), overrides), config


@functools.cache
def _loaded(root: str | None, device: str) -> Data:
    overrides = [] if root is None else ["dataset=fashion_mnist", f"dataset.root={root}"]
    return composed(overrides)[0].dataset.load(torch.device(device))


def _data(task: Task) -> Data:
    """The data in memory, its parts for evaluation cut to the size that all contestants have."""
    data = _loaded(None if task.folder == EMBEDDED else str(task.folder), task.device)

    def cut(part: Split) -> Split:
        inputs = part.inputs[:EVALUATED]
        return Split(inputs, inputs, None if part.labels is None else part.labels[:EVALUATED])

    assert data.validation is not None
    return dataclasses.replace(data, validation=cut(data.validation), test=cut(data.test))
