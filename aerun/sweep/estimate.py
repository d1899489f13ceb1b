"""Estimate how long jobs take, by timing a few steps of every distinct shape."""

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
from aerun.sweep.dry_run import Estimate
from aerun.training.build import build_parts, prepare
from aerun.training.step import make_step

WARMUP_STEPS, MIN_TIMED_STEPS = 3, 5
TIMED_STEPS_S = 0.3  # for each shape
FIXED_OVERHEAD_S = 1.5  # for pictures, checkpoints and the final evaluation, on small images
PROCESSES_START_S = 6.0  # until the processes of a multi-process run start to train
TIMED_GROUPS = ("dataset", "noise", "model", "latent", "sparsity", "loss")
TIMED_TRAINER_KEYS = (
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
    """The size and speed of one shape."""

    parameters: int
    training_images: int
    step_s: float
    evaluation_s: float  # of the validation part
    layer_pairs: int = 1


def estimate_runs(points: Sequence[tuple[dict[str, Any], dict[str, str]]]) -> list[Estimate]:
    """The parameters and seconds of each configuration, given with the options of its groups.

    Configurations that differ only in settings without influence on speed, such as learning rates, are timed once.
    """
    data: dict[str, Data] = {}
    timed: dict[str, _Timing] = {}
    result = []
    for config, choices in points:
        settings = parse(config, choices)
        key = _key(config)
        if key not in timed:
            device = prepare(settings)
            data_key = f"{json.dumps(config['dataset'], sort_keys=True)} {device}"
            if data_key not in data:
                data.clear()
                data[data_key] = settings.dataset.load(device)
            timed[key] = _time_steps(settings, data[data_key], device)
        result.append(Estimate(timed[key].parameters, _seconds(settings, timed[key])))
    return result


def _key(config: Mapping[str, Any]) -> str:
    trainer = {name: config["trainer"].get(name) for name in TIMED_TRAINER_KEYS}
    return json.dumps(
        [*(config[group] for group in TIMED_GROUPS), config["optimizer"]["_target_"], trainer], sort_keys=True
    )


def _time_steps(settings: Settings, data: Data, device: torch.device) -> _Timing:
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
    for number in range(WARMUP_STEPS):
        step(batch, number)
    synchronize(device)
    clock, count = time.perf_counter(), 0
    while count < MIN_TIMED_STEPS or time.perf_counter() - clock < TIMED_STEPS_S:
        step(batch, count)
        count += 1
        if count % MIN_TIMED_STEPS == 0:
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
    per_epoch = math.ceil(timing.training_images / trainer.batch_size)
    steps = trainer.steps or trainer.epochs * per_epoch
    staged = trainer.stage_epochs or 0  # a step of a stage takes at most as long as one of the whole
    steps += per_epoch * (sum(staged) if isinstance(staged, list) else staged * timing.layer_pairs)
    evaluations = math.ceil(steps / per_epoch / trainer.evaluate_every_epochs)
    overhead = FIXED_OVERHEAD_S + (PROCESSES_START_S if trainer.processes > 1 else 0.0)
    return float(steps * timing.step_s + evaluations * timing.evaluation_s + overhead)
