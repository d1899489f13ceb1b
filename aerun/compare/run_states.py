"""What many runs are doing, from few small files: status.json of each, and the log of those that are training."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from aerun.base.archive import is_file
from aerun.compare.collect import Place
from aerun.compare.records import (
    DAMAGED,
    FAILURES,
    FINISHED,
    RUNNING,
    STATES,
    WAITING,
    current_state,
    flat_numbers,
    read_numbers_line,
)
from aerun.compare.selection import DEFAULT_METRICS, DEFAULT_RANKING
from aerun.compare.setting_text import format_setting, printable
from aerun.errors import DataError
from aerun.metrics.declared import Metrics, metric_of, metrics_from_json
from aerun.runs.folder import STATUS, SUMMARY, load_status, read_config, read_environment, read_summary
from aerun.runs.folder_metrics import read_metrics_line

SPEED = "train/images_per_second"


@dataclass(frozen=True)
class Training:
    """Where a running run is: after ``epoch`` of ``epochs``, with so many training images per second."""

    epoch: int = 0
    epochs: int | None = None
    images_per_second: float | None = None
    seconds_left: float | None = None


@dataclass(frozen=True)
class RunState:
    """A run's state, one of those of ``aerun.compare.records.STATES``. ``seconds``: how long its last attempt took, or
    has taken so far."""

    folder: Path
    label: str
    state: str
    error: str | None = None
    seconds: float | None = None
    training: Training | None = None

    @property
    def failed(self) -> bool:
        """Whether the run ended without a result: in an error, killed, interrupted or damaged."""
        return self.state in FAILURES


@dataclass
class StateReader:
    """Reads the states of runs, and remembers those of ended runs until their status.json changes."""

    _known: dict[Path, tuple[tuple[int, ...], RunState]] = field(default_factory=dict)

    def read(self, places: Iterable[Place]) -> list[RunState]:
        """The states of the runs at these places."""
        return [self._read(place) for place in places]

    def _read(self, place: Place) -> RunState:
        version = file_version(place.folder / STATUS)
        known = self._known.get(place.folder)
        if known is not None and known[0] == version:
            return known[1]
        state = read_state(place)
        if version and state.state != RUNNING:  # whether a run still runs depends on its process, too
            self._known[place.folder] = version, state
        return state


def file_version(path: Path) -> tuple[int, ...]:
    """Numbers that change whenever a file is replaced; none if it does not exist."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns


def read_state(place: Place) -> RunState:
    """The state of one run. A status.json that cannot be read is reported as its error."""
    folder = place.folder
    label = " ".join(f"{key}={format_setting(value)}" for key, value in place.values.items())
    label = label or printable(" ".join(place.overrides) or folder.name)
    try:
        status = load_status(folder)
    except DataError as damage:
        return RunState(folder, label, DAMAGED, str(damage))
    if status is None and not place.has_begun:
        return RunState(folder, label, WAITING)
    status = status or {}
    has_summary = is_file(folder / SUMMARY)
    state, error = current_state(folder, status, has_summary), status.get("error")
    if state == FINISHED and not has_summary:
        state, error = DAMAGED, f"{SUMMARY}: is missing, though the run has finished"
    seconds = _seconds(status, running=state == RUNNING)
    return RunState(folder, label, state, error, seconds, _training(folder) if state == RUNNING else None)


def _seconds(status: dict[str, Any], running: bool) -> float | None:
    """The duration of the run's last attempt; of a running one until now."""
    with contextlib.suppress(KeyError, TypeError, ValueError):
        end = datetime.now() if running else datetime.fromisoformat(status["time"])
        return max(0.0, (end - datetime.fromisoformat(status["began"])).total_seconds())
    return None


def _training(folder: Path) -> Training:
    """Where a running run is, as far as its files say so."""
    try:
        line, trainer = read_metrics_line(folder) or {}, read_config(folder)["trainer"]
        images = (read_environment(folder).get("dataset") or {}).get("images", {}).get("train")
    except DataError:
        return Training()
    epochs, steps, batch = (_positive(trainer.get(key)) for key in ("epochs", "steps", "batch_size"))
    stage = f"stage{line['stage']}/" if "stage" in line else ""
    speed = _positive(line.get(stage + SPEED))
    left = None
    if speed and not stage:  # the length of stages is not in a run's files
        if steps and batch:
            left = (steps - line["step"]) * batch / speed
        elif epochs and images:
            left = (epochs - line["epoch"]) * images / speed
    length = None if steps or stage or not epochs else int(epochs)
    return Training(line.get("epoch", 0), length, speed, None if left is None else max(0.0, left))


def _positive(value: Any) -> float | None:
    is_positive = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
    return float(value) if is_positive else None


def count_states(runs: Iterable[RunState]) -> dict[str, int]:
    """The number of runs in each state, in the order of ``STATES``."""
    counts = Counter(run.state for run in runs)
    return {state: counts[state] for state in (*STATES, *sorted(counts.keys() - set(STATES))) if counts[state]}


def total_speed(runs: Iterable[RunState]) -> float | None:
    """Training images per second of all running runs together; None if none has logged its speed."""
    speeds = [run.training.images_per_second for run in runs if run.training and run.training.images_per_second]
    return sum(speeds) if speeds else None


def seconds_left(runs: Sequence[RunState]) -> float | None:
    """About how long until all runs have ended, if as many go on running at a time; None if unknown.

    Waiting runs, and running ones that cannot say, are expected to take as long as the finished ones did on average.
    """
    running = [run for run in runs if run.state == RUNNING]
    if not running:
        return None
    durations = [run.seconds for run in runs if run.state == FINISHED and run.seconds is not None]
    known = [run.training.seconds_left for run in running if run.training and run.training.seconds_left is not None]
    whole = durations or [
        run.seconds + run.training.seconds_left
        for run in running
        if run.seconds is not None and run.training and run.training.seconds_left is not None
    ]
    waiting = sum(run.state == WAITING for run in runs)
    if not whole and (waiting or len(known) < len(running)):
        return None
    mean = fmean(whole) if whole else 0.0
    left = [
        run.training.seconds_left
        if run.training and run.training.seconds_left is not None
        else max(0.0, mean - (run.seconds or 0.0))
        for run in running
    ]
    return max(max(left), (sum(left) + waiting * mean) / len(running))


@dataclass(frozen=True)
class Best:
    """The best finished run by a metric."""

    run: RunState
    metric: str
    value: float


def best_run(runs: Iterable[RunState], metric: str | None = None) -> Best | None:
    """The finished run with the best finite value of a metric; None without one.

    By default of validation/mse if all finished runs have it, otherwise of test/mse, as comparisons rank.
    """
    found: list[tuple[RunState, dict[str, float], Metrics]] = []
    for run in runs:
        if run.state == FINISHED:
            with contextlib.suppress(DataError):
                summary = read_summary(run.folder) or {}
                numbers = flat_numbers(summary)
                if metric not in numbers:
                    line = read_numbers_line(run.folder, summary.get("best_epoch")) or {}
                    numbers = flat_numbers(line) | numbers
                found.append((run, numbers, metrics_from_json(summary.get("metrics"))))
    if metric is None:
        has_ranking = all(DEFAULT_RANKING in numbers for _, numbers, _ in found)
        metric = DEFAULT_RANKING if has_ranking else DEFAULT_METRICS[0]
    ranked = []
    for run, numbers, declared in found:
        value = numbers.get(metric, math.nan)
        if math.isfinite(value):
            ranked.append((-value if metric_of(metric, declared).higher_is_better else value, run, value))
    best = min(ranked, key=lambda entry: entry[0], default=None)
    return None if best is None else Best(best[1], metric, best[2])
