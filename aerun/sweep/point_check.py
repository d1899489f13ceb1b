"""Check a sweep's points against their data and layers, by building every model without memory for its weights."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError

from aerun.base.device import choose_rank_device
from aerun.config.deferred import built
from aerun.config.parse import parse
from aerun.dataset.augment import Augment
from aerun.dataset.data import Data
from aerun.dataset.shared import map_shared, write_shared
from aerun.errors import AerunError
from aerun.protocol.runner import check_protocols
from aerun.runs.init_from import copy_matching_layers
from aerun.sweep.job import shared_data_path
from aerun.sweep.remote import CheckResult
from aerun.training.build import build_autoencoder, check_data
from aerun.training.part_check import has_own_modules, try_noise_and_loss
from aerun.training.parts import Parts
from aerun.training.regime import regime_of

log = logging.getLogger(__name__)
CHECKED_GROUPS = ("dataset", "model", "latent", "sparsity", "noise", "loss")
CHECKED_TRAINER_KEYS = ("_target_", "epochs", "monitor", "stage_epochs", "stage_optimizer", "freeze_earlier")


def check_points(
    points: Sequence[tuple[dict[str, Any], dict[str, str]]], place: Path | None, local: bool = True
) -> list[CheckResult]:
    """Build every distinct model for the shape of its data, without memory for its weights.

    ``points`` are configurations with the options of their groups. Every data set is read once and, if
    the ``place`` of a launcher is given, written there for its jobs. ``local``: jobs will have the same devices as this
    process.
    """
    data: dict[str, Data | str] = {}
    checked: dict[str, CheckResult] = {}
    results = []
    for config, choices in points:
        key = _key(config)
        if key not in checked:
            checked[key] = _check_point(config, choices, data, place)
        results.append(_check_device(checked[key], config) if local else checked[key])
    return results


def _share(data: Data, path: Path) -> Data:
    """Write the data to a file and return them as jobs will read them.

    If the file cannot be written, every job loads the data itself. So it does for streamed data, which are in a file
    already, and for augmentations of other classes, which the file does not hold.
    """
    if data.streamed or not isinstance(data.train.augment, Augment | None):
        return data
    try:
        write_shared(data, path)
        return map_shared(path, torch.device("cpu"))
    except (OSError, SafetensorError) as error:
        log.warning("%s: cannot be written (%s); every job loads the data itself", path, error)
        return data


def _check_device(result: CheckResult, config: Mapping[str, Any]) -> CheckResult:
    """The result, or an error if the configured device does not exist here."""
    try:
        trainer = config["trainer"]
        choose_rank_device(str(trainer.get("device", "auto")), trainer.get("processes", 1), os.environ)
    except AerunError as error:
        return CheckResult(result.error or str(error), checksum=result.checksum)
    return result


def _key(config: Mapping[str, Any]) -> str:
    """The settings that decide the result: configurations with the same key are checked once."""
    trainer = {key: config["trainer"].get(key) for key in CHECKED_TRAINER_KEYS}
    shared = [config.get(key) for key in ("init_from", "freeze", "protocol", "callback")]
    return json.dumps([[config[group] for group in CHECKED_GROUPS], trainer, shared], sort_keys=True)


def _check_point(
    config: Mapping[str, Any], choices: Mapping[str, str], data: dict[str, Data | str], place: Path | None
) -> CheckResult:
    settings = parse(config, choices)
    key = json.dumps(config["dataset"], sort_keys=True)
    if key not in data:
        try:
            loaded = settings.dataset.load(torch.device("cpu"))
            data[key] = loaded if place is None else _share(loaded, shared_data_path(place, config["dataset"]))
        except Exception as error:
            data[key] = _format_error(error)
    loaded_data = data[key]
    if isinstance(loaded_data, str):
        return CheckResult(loaded_data)
    try:
        check_data(settings, loaded_data)
        try_noise_and_loss(settings, loaded_data, built(settings.noise), built(settings.loss), torch.device("cpu"))
        # Without memory, unless modules of one's own must run to show whether they fit.
        with torch.device("cpu" if has_own_modules(settings) else "meta"):
            autoencoder = build_autoencoder(settings, loaded_data)
            no_optimizer = cast("torch.optim.Optimizer", None)  # none is needed to check the regime
            regime_of(
                settings,
                Parts(autoencoder, loaded_data, settings.noise, settings.loss, no_optimizer, settings.scheduler, 0),
            )
        check_protocols(settings.protocol, loaded_data, autoencoder)
        if settings.init_from is not None:
            copy_matching_layers(Path(settings.init_from), autoencoder)
    except Exception as error:
        return CheckResult(_format_error(error))
    parameters = sum(parameter.numel() for parameter in autoencoder.parameters())
    return CheckResult(None, parameters, loaded_data.checksum)


def _format_error(error: Exception) -> str:
    """The error in one line; parts of one's own may raise any exception."""
    text = " ".join(str(error).split())
    return text if isinstance(error, AerunError) else f"{type(error).__name__}: {text}"
