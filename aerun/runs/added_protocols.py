"""Evaluate a finished run by protocols that were added to its configuration, without training."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from aerun.base.files import write_json
from aerun.config.settings import PROTOCOL, Settings
from aerun.dataset.data import Data
from aerun.metrics.declared import declared_by, metrics_to_json
from aerun.protocol.runner import Answers, check_protocols, run_protocols
from aerun.runs.folder import SUMMARY, correct_status, read_config, write_config
from aerun.runs.reopen import existing_weights, for_evaluation, load_weights
from aerun.runs.same_data import require_same_data
from aerun.runs.same_run import chosen_protocols, missing_protocols
from aerun.runs.send import describe_run
from aerun.runs.summary import subject_of
from aerun.runs.tracking import FolderLog, own_trackers
from aerun.training.build import build_parts, prepare

log = logging.getLogger(__name__)


def run_missing_protocols(
    folder: Path,
    settings: Settings,
    config: Mapping[str, Any],
    summary: Mapping[str, Any],
    load: Callable[[torch.device], Data],
) -> dict[str, Any] | None:
    """Run the protocols of ``config`` by which the finished run in ``folder`` has not been evaluated, or that failed.

    Returns the summary with their numbers, as if they had been chosen from the start, and writes it, the pictures and
    the configuration; None if no protocol is missing. The folder is locked by the caller. DataError if the data have
    changed.
    """
    stored, wanted = read_config(folder), chosen_protocols(config)
    missing = missing_protocols(stored, summary, config)
    names = [name for name in wanted if name in missing or name in summary.get("unanswered", {})]
    if not names:
        return None
    log.info("%s has finished; running %s=[%s]", folder, PROTOCOL, ",".join(names))
    settings = for_evaluation(settings)
    device = prepare(settings)
    parts = build_parts(settings, load(device), device)
    require_same_data(folder, parts.data.checksum)
    protocols = {name: settings.protocol[name] for name in names}
    check_protocols(protocols, parts.data, parts.autoencoder)
    load_weights(existing_weights(folder), parts.autoencoder)
    answers = run_protocols(protocols, subject_of(settings, parts))
    result = _with_answers(summary, names, answers)
    result["metrics"] = summary.get("metrics", {}) | metrics_to_json(declared_by(protocols.values()).values())
    recorded = {**(stored.get(PROTOCOL) or {}), **{name: dict(wanted[name]) for name in names}}
    stored |= {PROTOCOL: recorded, "trusted_packages": config["trusted_packages"]}
    with FolderLog(folder, own_trackers(settings)) as tracker:
        final = summary["steps"] + 1  # as at the end of the run
        tracker.append(describe_run(folder, stored, settings.choices, settings.typed), final)
        for tag, pixels in answers.pictures.items() if settings.trainer.figures != "none" else ():
            tracker.picture(tag, pixels, final)
        tracker.scalars({f"test/{name}": value for name, value in answers.flat.items()}, final)
        tracker.mark_finished()
    # The configuration is last: until it is written, a repeated command runs the protocols again.
    write_json(folder / SUMMARY, result)
    write_config(folder, stored)
    correct_status(folder)
    return result


def _with_answers(summary: Mapping[str, Any], names: list[str], answers: Answers) -> dict[str, Any]:
    """The summary with these answers in place of earlier ones of the same protocols."""
    others = {name: numbers for name, numbers in summary.get("protocols", {}).items() if name not in names}
    kept = {number for numbers in others.values() for number in numbers}
    replaced = {number for name in names for number in summary.get("protocols", {}).get(name, ())} - kept
    unanswered = {name: text for name, text in summary.get("unanswered", {}).items() if name not in names}
    return {
        **summary,
        "test": {name: value for name, value in summary["test"].items() if name not in replaced} | answers.flat,
        "protocols": others | {name: list(map(str, numbers)) for name, numbers in answers.numbers.items()},
        "unanswered": unanswered | answers.unanswered,
    }
