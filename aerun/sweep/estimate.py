"""How long jobs may take: a few steps of every distinct shape are timed."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from aerun.base.device import synchronize
from aerun.config.parse import parse
from aerun.config.settings import Settings
from aerun.dataset.data import Data, first_batch
from aerun.metrics.evaluation import evaluate
from aerun.sweep.preview import Estimate
from aerun.training.build import build_parts, prepare
from aerun.training.step import make_step

BUDGET = 0.3  # seconds of steps for each shape
AROUND = 1.5  # seconds for pictures, checkpoints and the final evaluation, on small images
RANKS = 6.0  # seconds until the processes of a run that has several begin
TIMED = ("dataset", "noise", "model", "latent", "sparsity", "loss")
TIMED_TRAINER = (
    "batch_size",
    "device",
    "threads",
    "processes",
    "precision",
    "channels_last",
    "compile",
    "clip_norm",
    "clip_value",
)


@dataclass(frozen=True)
class _Timing:
    """Of one shape: parameters, training images, seconds a step and an evaluation of the validation part."""

    parameters: int
    images: int
    step: float
    evaluation: float
    pairs: int = 1  # of layers


def estimate(points: Sequence[tuple[dict[str, Any], dict[str, str]]]) -> list[Estimate]:
    """Parameters and seconds for each configuration (with its groups' options).

    Learning rates, seeds and the like do not make a shape of their own.
    """
    data: dict[str, Data] = {}
    timed: dict[str, _Timing] = {}
    result = []
    for config, choices in points:
        settings = parse(config, choices)
        key = _key(config)
        if key not in timed:
            device = prepare(settings)
            about = f"{json.dumps(config['dataset'], sort_keys=True)} {device}"
            if about not in data:
                data.clear()
                data[about] = settings.dataset.load(device)
            timed[key] = _time(settings, data[about], device)
        result.append(Estimate(timed[key].parameters, _seconds(settings, timed[key])))
    return result


def _key(config: Mapping[str, Any]) -> str:
    trainer = {name: config["trainer"].get(name) for name in TIMED_TRAINER}
    return json.dumps([*(config[group] for group in TIMED), config["optimizer"]["_target_"], trainer], sort_keys=True)


def _time(settings: Settings, data: Data, device: torch.device) -> _Timing:
    parts = build_parts(settings, data, device)
    trainer = settings.trainer
    step = make_step(
        parts,
        learning_rate=lambda number: 1.0,
        precision=trainer.precision,
        compiled=False,
        clip_norm=trainer.clip_norm,
        clip_value=trainer.clip_value,
    )
    batch = first_batch(data.train, math.ceil(trainer.batch_size / trainer.processes))
    for number in range(3):
        step(batch, number)
    synchronize(device)
    clock, count = time.perf_counter(), 0
    while count < 5 or time.perf_counter() - clock < BUDGET:
        step(batch, count)
        count += 1
        if count % 5 == 0:
            synchronize(device)
    synchronize(device)
    seconds = (time.perf_counter() - clock) / count
    clock = time.perf_counter()
    evaluate(parts.autoencoder, data.validation or data.test, parts.noise, parts.loss)
    parameters = sum(parameter.numel() for parameter in parts.autoencoder.parameters())
    pairs = len(parts.autoencoder.cuts or ()) + 1
    return _Timing(parameters, len(data.train), seconds, time.perf_counter() - clock, pairs)


def _seconds(settings: Settings, timing: _Timing) -> float:
    trainer = settings.trainer
    per_epoch = math.ceil(timing.images / trainer.batch_size)
    steps = trainer.steps or trainer.epochs * per_epoch
    staged = trainer.stage_epochs or 0  # at most what the whole takes
    steps += per_epoch * (sum(staged) if isinstance(staged, list) else staged * timing.pairs)
    evaluations = math.ceil(steps / per_epoch / trainer.evaluate_every_epochs)
    around = AROUND + (RANKS if trainer.processes > 1 else 0.0)
    return float(steps * timing.step + evaluations * timing.evaluation + around)
