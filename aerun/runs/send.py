"""Describes runs to trackers, and sends what a tracker on a server does not have yet. Needs no torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from aerun.base.lock import FolderLock
from aerun.config.parse import build_trackers
from aerun.contracts import TrackedRun
from aerun.runs.folder import (
    METRICS,
    SWEEP,
    read_config,
    read_status,
    read_summary,
    read_typed,
    shown_settings,
)
from aerun.runs.folder_metrics import read_metrics
from aerun.tracker.remote import Delivery, Remote
from aerun.tracker.rows import FILE, Row

BASELINE_METRICS = ("/mse", "/psnr")  # of the baselines in logs; summary.json has all
COUNTED = ("epoch", "step", "stage")  # of a line of metrics.jsonl: they count, and are not metrics


def describe_run(
    folder: Path, config: Mapping[str, Any], choices: Mapping[str, str], typed: Collection[str]
) -> TrackedRun:
    """The run as trackers show it. A run in the folder of a sweep belongs to the sweep."""
    sweep = folder.absolute().parent.name if (folder.absolute().parent / SWEEP).exists() else None
    monitor = str(config["trainer"].get("monitor", "loss"))
    return TrackedRun(folder, shown_settings(config, choices), frozenset(typed), sweep, monitor)


def logged_results(summary: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a summary that are logged at the end of a run."""
    shown = {name: value for name, value in summary["baselines"].items() if name.endswith(BASELINE_METRICS)}
    tests = {f"test/{name}": value for name, value in summary["test"].items()}
    return tests | {f"test_baseline/{name}": value for name, value in shown.items()}


def remote_trackers(nodes: Mapping[str, Any]) -> dict[str, Remote]:
    """The trackers on a server among those of a configuration, by name. ConfigError if a package is missing."""
    trackers = {name: part for name, part in build_trackers(nodes).items() if isinstance(part, Remote)}
    for tracker in trackers.values():
        tracker.check_package()
    return trackers


def send_run(folder: Path, trackers: Mapping[str, Remote]) -> dict[str, int]:
    """Send to each tracker what it does not have of the run; return how many numbers that were.

    BusyError for a run that another process writes. What the packages raise is raised.
    """
    with FolderLock(folder):
        config, (choices, overrides) = read_config(folder), read_typed(folder)
        typed = [override.lstrip("+~").partition("=")[0] for override in overrides]
        run = describe_run(folder, config, choices, typed)
        finished = (read_status(folder) or {}).get("state") == "finished"
        rows = None if (folder / FILE).exists() else _rows_of_metrics(folder)
        counts = {}
        for name, tracker in trackers.items():
            delivery = Delivery(tracker, run)
            counts[name] = delivery.deliver(rows)
            delivery.conclude(finished)
        return counts


def _rows_of_metrics(folder: Path) -> list[Row]:
    """The rows of a run without scalars.csv: the numbers of its epochs and of its summary."""
    path = folder / METRICS
    moment = round(path.stat().st_mtime, 3) if path.exists() else 0.0
    rows = [
        Row(line["step"], name, float(value), moment)
        for line in read_metrics(folder)
        for name, value in line.items()
        if name not in COUNTED
    ]
    summary = read_summary(folder)
    if summary is not None:
        results = logged_results(summary)
        rows += [Row(summary["steps"] + 1, name, float(value), moment) for name, value in results.items()]
    return rows
