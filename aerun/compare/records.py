"""Read one run folder into a record, from its files alone. No torch, no numpy."""

from __future__ import annotations

import json
import logging
import os
import platform
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from aerun.base.lock import is_held
from aerun.errors import DataError
from aerun.metrics.declared import NONE, Metrics, metrics_from_json
from aerun.runs.folder import (
    METRICS,
    SUMMARY,
    flatten_settings,
    load_status,
    read_choices,
    read_config,
    read_metrics,
    read_overrides,
    read_summary,
)

log = logging.getLogger(__name__)
Value = bool | float | str
T = TypeVar("T")

FINISHED, RUNNING, WAITING, INTERRUPTED, DAMAGED = "finished", "running", "waiting", "interrupted", "damaged"
FAILURES = ("failed", "diverged", "killed", INTERRUPTED, DAMAGED)
STATES = (FINISHED, RUNNING, WAITING, "stopped", "pruned", *FAILURES)
# Keys that say how a run was started, not what it computes.
HIDDEN_KEYS = ("resume", "trusted_packages")
LAST_BYTES = 65536  # of metrics.jsonl that are searched for its last line
COLLAPSED_SPREAD = 0.01  # output_spread below which all reconstructions count as the same picture
COLLAPSED_MSE_SHARE = 0.99  # of the mean image's error; for runs without output_spread

RENAMED_VERDICTS = {"layers held as they began": "layers frozen"}  # as older runs have them


@dataclass(frozen=True)
class Run:
    """One run, as its folder describes it.

    ``settings``: the flattened configuration, with a group's option under the group's name. ``numbers``: the flattened
    summary (``test/mse``, ``baselines/pca/mse``) and one line of metrics.jsonl (``validation/loss``): of a finished run
    that of the epoch whose weights it keeps, to which ``test/mse`` belongs too; otherwise the last one.
    """

    folder: Path
    state: str
    settings: Mapping[str, Value]
    numbers: Mapping[str, float]
    overrides: tuple[str, ...] = ()
    error: str | None = None
    traceback: str | None = None
    verdicts: tuple[str, ...] = ()  # by the doctor, at the end of the run
    partial: bool = False  # no configuration (yet): the settings are those of sweep.json
    declared: Metrics = field(default_factory=dict)  # by summary.json: metrics that aerun does not know

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def finished(self) -> bool:
        return self.state == FINISHED

    @property
    def failed(self) -> bool:
        return self.state in FAILURES

    @property
    def collapse(self) -> str | None:
        """Why the reconstructions of a finished run count as the same picture for all inputs; None if they do not."""
        if not self.finished:
            return None
        spread, mse = self.numbers.get("test/output_spread"), self.numbers.get("test/mse")
        constant = self.numbers.get("baselines/mean_image/mse")
        if spread is not None and spread < COLLAPSED_SPREAD:
            return f"the variance of the reconstructions is {spread:.2g} times that of the targets (test/output_spread)"
        if spread is None and mse is not None and constant is not None and not mse < COLLAPSED_MSE_SHARE * constant:
            return f"test/mse {mse:.6g} is not better than that of the mean image, {constant:.6g}"
        return None

    @cached_property
    def lines(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, read on first use."""
        return _add_stage_numbers(read_metrics(self.folder), self.settings)


def read_run(folder: Path) -> Run:
    """Read one run folder. Damaged files are reported in a warning; the others are used."""
    problems: list[str] = []

    def attempt(read: Callable[[Path], T], default: T) -> T:
        try:
            return read(folder)
        except DataError as error:
            problems.append(str(error))
            log.warning("%s", error)
            return default

    nothing: dict[str, Value] = {}
    settings = attempt(_settings, nothing)
    summary = attempt(read_summary, None) or {}
    declared = attempt(lambda path: _declared(path, summary), NONE)
    status = attempt(load_status, None)
    state = _state(folder, status or {}, summary)
    if state == FINISHED and not summary and not problems:
        problems.append(f"{folder / SUMMARY}: is missing, though the run has finished")
        log.warning("%s", problems[0])
    if problems and (not settings or (state == FINISHED and not summary)):
        state = DAMAGED
    error, traceback = (_text(status or {}, key) for key in ("error", "traceback"))
    if state == DAMAGED:
        error = problems[0].removeprefix(f"{folder}{os.sep}")
    if state == INTERRUPTED:
        error = "the process ended without recording an error (killed, out of memory, or the machine went down)"
    [line] = _add_stage_numbers([_read_line(folder / METRICS, summary.get("best_epoch"))], settings)
    numbers = {**line, **_numbers(summary)}
    overrides = tuple(read_overrides(folder))
    verdicts, partial = _verdicts(summary), not settings
    return Run(folder, state, settings, numbers, overrides, error, traceback, verdicts, partial, declared)


def read_unstarted_job(folder: Path, settings: dict[str, Value], overrides: tuple[str, ...]) -> Run:
    """A job without a configuration file: it is waiting, or it failed before it wrote one."""
    try:
        status = load_status(folder) or {}
    except DataError as error:
        log.warning("%s", error)
        status = {}
    state = _state(folder, status, {}) if status else WAITING
    return Run(folder, state, settings, {}, overrides, _text(status, "error"), _text(status, "traceback"), partial=True)


def _settings(folder: Path) -> dict[str, Value]:
    choices = read_choices(folder)
    settings = flatten_settings(read_config(folder), choices)
    if choices.get("experiment", "None") != "None":
        settings["experiment"] = choices["experiment"]
    return {key: value for key, value in settings.items() if key not in HIDDEN_KEYS}


def _state(folder: Path, status: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """The state in status.json, or the state that follows from the other files if status.json is out of date."""
    state = str(status.get("state", FINISHED if summary else RUNNING))
    here = status.get("host", platform.node()) == platform.node()
    if state == RUNNING and here and not is_held(folder):
        return FINISHED if summary else INTERRUPTED  # of all files only the status is written later
    return state


def _add_stage_numbers(lines: list[dict[str, Any]], settings: Mapping[str, Value]) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl. In a greedy run without fine-tuning, the numbers of the last stage are also added under
    their names without the stage."""
    stage = lines[-1].get("stage") if lines else None
    if stage is None or settings.get("trainer.epochs") != 0:
        return lines
    prefix = f"stage{stage:.0f}/"
    return [{**line, **{name.removeprefix(prefix): value for name, value in line.items()}} for line in lines]


def _text(status: Mapping[str, Any], key: str) -> str | None:
    value = status.get(key)
    return value if isinstance(value, str) else None


def _verdicts(summary: Mapping[str, Any]) -> tuple[str, ...]:
    """The doctor's verdicts in the summary; old folders have none."""
    names = summary.get("verdicts")
    return tuple(RENAMED_VERDICTS.get(str(name), str(name)) for name in names) if isinstance(names, list) else ()


def _declared(folder: Path, summary: Mapping[str, Any]) -> Metrics:
    try:
        return metrics_from_json(summary.get("metrics"))
    except DataError as error:
        raise DataError(f"{folder / SUMMARY}: {error}") from error


def _numbers(node: Mapping[str, Any], path: str = "") -> dict[str, float]:
    """All numbers of a nested mapping, with their keys joined by slashes."""
    found: dict[str, float] = {}
    for key, value in node.items():
        if isinstance(value, Mapping):
            found |= _numbers(value, f"{path}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{path}{key}"] = float(value)
    return found


def _read_line(path: Path, epoch: int | None) -> dict[str, float]:
    """The numbers in the last complete line of metrics.jsonl; with ``epoch``, in the last one of that epoch."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0 if epoch is not None else max(0, size - LAST_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return {}
    wanted = re.compile(b"" if epoch is None else rb'"epoch":\s*%d\b' % epoch)
    for line in filter(wanted.search, reversed(lines)):
        try:
            numbers = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(numbers, dict) and epoch in (None, numbers.get("epoch")):
            return _numbers(numbers)
    if epoch is not None:
        log.warning("%s: has no line of epoch %d, whose weights were kept; its numbers are left out", path, epoch)
    return {}
