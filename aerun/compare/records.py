"""Read one run folder into a record, from its files alone. No torch, no numpy."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from aerun.base.archive import is_file
from aerun.base.lock import is_held
from aerun.errors import DataError
from aerun.metrics.declared import Metrics, metrics_from_json
from aerun.runs.folder import (
    METRICS,
    SUMMARY,
    flatten_settings,
    load_status,
    read_config,
    read_probes,
    read_summary,
    read_typed,
)
from aerun.runs.folder_metrics import read_metrics, read_metrics_line

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)
Value = bool | float | str
T = TypeVar("T")

FINISHED, RUNNING, WAITING, INTERRUPTED, DAMAGED = "finished", "running", "waiting", "interrupted", "damaged"
FAILURES = ("failed", "diverged", "killed", INTERRUPTED, DAMAGED)
STATES = (FINISHED, RUNNING, WAITING, "stopped", "pruned", *FAILURES)
# Keys that say how a run was started and where it is shown, not what it computes.
HIDDEN_KEYS = ("resume", "trusted_packages", "tracker")
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
    data: str | None = None  # the checksum of the data of a finished run

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        return self.folder.name

    @property
    def finished(self) -> bool:
        """Whether the run has ended and written its results."""
        return self.state == FINISHED

    @property
    def failed(self) -> bool:
        """Whether the run ended without a result: in an error, killed, interrupted or damaged."""
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
        """The lines of metrics.jsonl, read on first use; none if it cannot be read, with a warning."""
        try:
            return _add_stage_numbers(read_metrics(self.folder), self.settings)
        except DataError as error:
            log.warning("%s", error)
            return []

    @property
    def probes(self) -> dict[str, np.ndarray] | None:
        """The first test images and their reconstructions; None if there are none, with a warning if they are
        damaged."""
        try:
            return read_probes(self.folder)
        except DataError as error:
            log.warning("%s", error)
            return None


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
    choices, overrides = read_typed(folder)
    settings = attempt(lambda path: _settings(path, choices), nothing)
    summary = attempt(read_summary, None) or {}
    declared = metrics_from_json(summary.get("metrics"))
    status = attempt(load_status, None)
    state = current_state(folder, status or {}, bool(summary))
    if state == FINISHED and not summary and not problems:
        problems.append(f"{folder / SUMMARY}: is missing, though the run has finished")
        log.warning("%s", problems[0])
    if problems and (not settings or (state == FINISHED and not summary)):
        state = DAMAGED
    error, traceback = (status or {}).get("error"), (status or {}).get("traceback")
    if state == DAMAGED:
        error = problems[0].removeprefix(f"{folder}{os.sep}")
    if state == INTERRUPTED:
        error = "the process ended without recording an error (killed, out of memory, or the machine went down)"
    line = attempt(lambda path: read_numbers_line(path, summary.get("best_epoch")), None) or {}
    numbers = {**flat_numbers(_add_stage_numbers([line], settings)[0]), **flat_numbers(summary)}
    verdicts, partial = _verdicts(summary), not settings
    data, typed = summary.get("dataset_checksum"), tuple(overrides)
    return Run(folder, state, settings, numbers, typed, error, traceback, verdicts, partial, declared, data)


def read_unstarted_job(folder: Path, settings: dict[str, Value], overrides: tuple[str, ...]) -> Run:
    """A job without a configuration file: it is waiting, or it failed before it wrote one."""
    try:
        status = load_status(folder) or {}
    except DataError as error:
        log.warning("%s", error)
        status = {}
    state = current_state(folder, status, False) if status else WAITING
    return Run(folder, state, settings, {}, overrides, status.get("error"), status.get("traceback"), partial=True)


def _settings(folder: Path, choices: Mapping[str, str]) -> dict[str, Value]:
    settings = flatten_settings(read_config(folder), choices)
    if choices.get("experiment", "None") != "None":
        settings["experiment"] = choices["experiment"]
    return {key: value for key, value in settings.items() if key.partition(".")[0] not in HIDDEN_KEYS}


def current_state(folder: Path, status: Mapping[str, Any], has_summary: bool) -> str:
    """The state in status.json, or the state that follows from the other files if status.json is out of date."""
    state = str(status.get("state", FINISHED if has_summary else RUNNING))
    here = status.get("host", platform.node()) == platform.node()
    if state == RUNNING and here and not is_held(folder):
        return FINISHED if has_summary else INTERRUPTED  # of all files only the status is written later
    return state


def _add_stage_numbers(lines: list[dict[str, Any]], settings: Mapping[str, Value]) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl. In a greedy run without fine-tuning, the numbers of the last stage are also added under
    their names without the stage."""
    stage = lines[-1].get("stage") if lines else None
    if stage is None or settings.get("trainer.epochs") != 0:
        return lines
    prefix = f"stage{stage:.0f}/"
    return [{**line, **{name.removeprefix(prefix): value for name, value in line.items()}} for line in lines]


def _verdicts(summary: Mapping[str, Any]) -> tuple[str, ...]:
    """The doctor's verdicts in the summary; old folders have none."""
    return tuple(RENAMED_VERDICTS.get(name, name) for name in summary.get("verdicts", ()))


def flat_numbers(node: Mapping[str, Any], path: str = "") -> dict[str, float]:
    """All numbers of a nested mapping, with their keys joined by slashes."""
    found: dict[str, float] = {}
    for key, value in node.items():
        if isinstance(value, Mapping):
            found |= flat_numbers(value, f"{path}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{path}{key}"] = float(value)
    return found


def read_numbers_line(folder: Path, epoch: int | None) -> dict[str, Any] | None:
    """The line of metrics.jsonl that a run's numbers are from: that of the epoch whose weights it keeps, or the
    last."""
    line = read_metrics_line(folder, epoch)
    if line is None and epoch is not None and is_file(folder / METRICS):
        raise DataError(
            f"{folder / METRICS}: has no line of epoch {epoch}, whose weights were kept; its numbers are left out"
        )
    return line
