"""What only the data and the layers can tell about a sweep's jobs: their shapes, and whether they fit."""

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
from aerun.config.parse import parse
from aerun.dataset.augment import Augment
from aerun.dataset.data import Data
from aerun.errors import AerunError
from aerun.protocol.runner import check_protocols
from aerun.runs.init_from import copy_matching_layers
from aerun.sweep.remote import Finding
from aerun.sweep.share import mapped, share, shared_path
from aerun.training.build import build_autoencoder, check_data, has_own_modules
from aerun.training.parts import Parts
from aerun.training.regime import regime_of

log = logging.getLogger(__name__)
SHAPING = ("dataset", "model", "latent", "sparsity", "loss")
STAGES = (
    "_target_",
    "epochs",
    "stage_epochs",
    "stage_optimizer",
    "freeze_earlier",
)  # of the trainer: what the layers must suit


def check(
    points: Sequence[tuple[dict[str, Any], dict[str, str]]], sweep: Path | None, local: bool = True
) -> list[Finding]:
    """Build every distinct model, without its memory, for the shape of its data.

    ``points`` are configurations and their groups' options. Every data set is read once, and left in the sweep's
    folder, if one is given, for all jobs to share. ``local``: the jobs will have the devices that this process has.
    """
    data: dict[str, Data | str] = {}
    found: dict[str, Finding] = {}
    result = []
    for config, choices in points:
        key = _key(config)
        if key not in found:
            found[key] = _check(config, choices, data, sweep)
        result.append(_on_device(found[key], config) if local else found[key])
    return result


def _shared(data: Data, path: Path) -> Data:
    """The data as all jobs will see them, out of a file; where that cannot be written, every job reads its own.

    Data above the memory limit are in a file already, and an augmentation of another class cannot be written.
    """
    if data.streamed or not isinstance(data.train.augment, Augment | None):
        return data
    try:
        share(data, path)
        return mapped(path, torch.device("cpu"))
    except (OSError, SafetensorError) as error:
        log.warning("%s: cannot be written (%s); every job reads the data for itself", path, error)
        return data


def _on_device(finding: Finding, config: Mapping[str, Any]) -> Finding:
    """The finding, or that there is no such device."""
    try:
        trainer = config["trainer"]
        choose_rank_device(str(trainer.get("device", "auto")), trainer.get("processes", 1), os.environ)
    except AerunError as error:
        return Finding(finding.error or str(error))
    return finding


def _key(config: Mapping[str, Any]) -> str:
    trainer = {key: config["trainer"].get(key) for key in STAGES}
    shared = [config.get(key) for key in ("init_from", "freeze", "protocol")]
    return json.dumps([[config[group] for group in SHAPING], trainer, shared], sort_keys=True)


def _check(
    config: Mapping[str, Any], choices: Mapping[str, str], data: dict[str, Data | str], sweep: Path | None
) -> Finding:
    settings = parse(config, choices)
    key = json.dumps(config["dataset"], sort_keys=True)
    if key not in data:
        try:
            loaded = settings.dataset.load(torch.device("cpu"))
            data[key] = loaded if sweep is None else _shared(loaded, shared_path(sweep, config["dataset"]))
        except Exception as error:
            data[key] = _told(error)
    found = data[key]
    if isinstance(found, str):
        return Finding(found)
    try:
        check_data(settings, found)
        # Without memory, unless only a pass tells whether modules of one's own fit.
        with torch.device("cpu" if has_own_modules(settings) else "meta"):
            autoencoder = build_autoencoder(settings, found)
            no_optimizer = cast("torch.optim.Optimizer", None)  # none is needed to check the regime
            regime_of(
                settings, Parts(autoencoder, found, settings.noise, settings.loss, no_optimizer, settings.scheduler, 0)
            )
        check_protocols(settings.protocol, found, autoencoder)
        if settings.init_from is not None:
            copy_matching_layers(Path(settings.init_from), autoencoder)
    except Exception as error:
        return Finding(_told(error))
    return Finding(None, sum(parameter.numel() for parameter in autoencoder.parameters()))


def _told(error: Exception) -> str:
    """An error in a line; one of a user's own class may be of any kind."""
    text = " ".join(str(error).split())
    return text if isinstance(error, AerunError) else f"{type(error).__name__}: {text}"
