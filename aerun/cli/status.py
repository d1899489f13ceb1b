"""``aerun-status SWEEP_OR_RUN...``: what runs are doing, by their folders, from any terminal."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aerun.base.arguments import Parser
from aerun.base.progress_bar import status_line
from aerun.cli.command import run_command
from aerun.compare.collect import find_places
from aerun.compare.records import INTERRUPTED, RUNNING, WAITING
from aerun.compare.run_states import (
    Best,
    RunState,
    StateReader,
    Training,
    best_run,
    count_states,
    seconds_left,
    total_speed,
)
from aerun.errors import ConfigError, DataError, visible
from aerun.runs.folder import read_sweep
from aerun.sweep.launcher_place import is_idle
from aerun.sweep.sweep_report import continue_command

NO_FAILURE, HAS_FAILURE = 0, 2  # exit codes
UNFINISHED = (WAITING, INTERRUPTED, "stopped")
MIN_POLL_S, MAX_CPU_SHARE = 2.0, 0.05  # of --watch
MAX_RUNNING, MAX_FAILURES = 20, 20  # lines
EXAMPLES = """\
  %(prog)s outputs/grid            states, speed, time left, failures
  %(prog)s outputs/grid --watch    until all runs have ended; failures as they come
  %(prog)s outputs/grid --best     and the best finished run so far, by test/mse
  %(prog)s outputs/grid --best --metric validation/psnr
  %(prog)s outputs --json"""


def build_parser() -> Parser:
    """All options."""
    parser = Parser(
        "Show what runs are doing: their states, speed, time left and failures. Reads only the files of the run "
        "folders, also while a sweep runs. Exit code 0: no run has failed; 2: some have; 1: an error.",
        EXAMPLES,
    )
    add = parser.add_argument
    add("paths", nargs="+", metavar="SWEEP_OR_RUN", help="folders of sweeps or runs, or folders that contain them")
    add("--watch", action="store_true", help="keep watching until all runs have ended")
    add("--best", action="store_true", help="also show the best finished run")
    add("--metric", metavar="NAME", help="the number that ranks for --best (as in aerun-compare)")
    add("--json", action="store_true", help="print everything as JSON")
    return parser


def main() -> int:
    """The console command."""
    return run_command(build_parser, execute)


def execute(arguments: argparse.Namespace) -> int:
    """Read and print, once or until all runs have ended. 2 if a run has failed."""
    if arguments.watch and arguments.json:
        raise ConfigError("--watch and --json: choose one of them")
    reader = StateReader()
    runs = watch(arguments, reader) if arguments.watch else _read(arguments, reader)
    best = best_run(runs, arguments.metric) if arguments.best else None
    if arguments.json:
        print(json.dumps(as_json(runs, best), indent=2))
    else:
        print(format_status(arguments, runs, best))
    return HAS_FAILURE if any(run.failed for run in runs) else NO_FAILURE


def _read(arguments: argparse.Namespace, reader: StateReader) -> list[RunState]:
    return [run for places in find_places(arguments.paths) for run in reader.read(places)]


def watch(arguments: argparse.Namespace, reader: StateReader) -> list[RunState]:
    """Print failures as they come and, not on a terminal, a line whenever a state changes, until no run is running or
    waiting; return the final states."""
    failed: set[tuple[Path, str | None]] = set()
    counts = ""
    with status_line() as bar:
        while True:
            begun = time.process_time()
            runs = _read(arguments, reader)
            if not any(run.state in (RUNNING, WAITING) for run in runs):
                return runs
            for run in runs:
                if run.failed and (run.folder, run.error) not in failed:
                    failed.add((run.folder, run.error))
                    bar.write(_failure_line(run), file=sys.stdout)
            line = format_line(runs, best_run(runs, arguments.metric) if arguments.best else None)
            bar.set_description_str(visible(line))
            if bar.disable and _count_line(runs) != counts:
                print(line)
                counts = _count_line(runs)
            sys.stdout.flush()
            time.sleep(max(MIN_POLL_S, (time.process_time() - begun) / MAX_CPU_SHARE))


def format_line(runs: Sequence[RunState], best: Best | None) -> str:
    """Everything in one line."""
    parts = [_count_line(runs)]
    if (speed := total_speed(runs)) is not None:
        parts.append(f"{speed:,.0f} images/s")
    if (left := seconds_left(runs)) is not None:
        parts.append(f"about {format_duration(left)} left")
    if best is not None:
        parts.append(f"best {best.metric} {best.value:.6g}: {best.run.label}")
    return "; ".join(parts)


def _count_line(runs: Sequence[RunState]) -> str:
    states = ", ".join(f"{count:,} {state}" for state, count in count_states(runs).items())
    return f"{len(runs):,} run{'s' * (len(runs) != 1)}: {states}"


def format_status(arguments: argparse.Namespace, runs: Sequence[RunState], best: Best | None) -> str:
    """The counts, the running runs, the failed ones, and the best one."""
    lines = [f"{', '.join(arguments.paths)}: {format_line(runs, None)}"]
    running = [run for run in runs if run.state == RUNNING]
    if running:
        lines += ["", "running:", *map(_running_line, running[:MAX_RUNNING]), *_more(running, MAX_RUNNING)]
    failed = [run for run in runs if run.failed]
    if failed:
        lines += ["", "failed:"]
        lines += [f"  {_failure_line(run)}" for run in failed[:MAX_FAILURES]] + _more(failed, MAX_FAILURES)
    if not running and (command := _continue_command(arguments.paths, runs)) is not None:
        lines += ["", f"continue    {command}"]
    if best is not None:
        lines += ["", f"best        {best.run.label}: {best.metric} {best.value:.6g}", f"            {best.run.folder}"]
    elif arguments.best:
        lines += ["", f"best        no run has finished with a finite {arguments.metric or 'test/mse'} yet"]
    return "\n".join(lines)


def _continue_command(paths: Sequence[str], runs: Sequence[RunState]) -> str | None:
    """The command that runs what has not ended of a sweep that nobody runs; None for anything else."""
    folder = Path(paths[0])
    if len(paths) > 1 or not any(run.state in UNFINISHED for run in runs) or not is_idle(folder):
        return None
    try:
        sweep = read_sweep(folder)
    except DataError:
        return None
    return None if sweep is None or not sweep["command"] else continue_command(folder, sweep["command"])


def _more(runs: Sequence[RunState], shown: int) -> list[str]:
    return [f"  and {len(runs) - shown:,} more"] if len(runs) > shown else []


def _running_line(run: RunState) -> str:
    training = run.training
    parts = [f"  {run.label}"]
    if training is not None:
        parts.append(f"epoch {training.epoch}" + (f" of {training.epochs}" if training.epochs else ""))
        if training.images_per_second is not None:
            parts.append(f"{training.images_per_second:,.0f} images/s")
        if training.seconds_left is not None:
            parts.append(f"about {format_duration(training.seconds_left)} left")
    return "  ".join(parts)


def _failure_line(run: RunState) -> str:
    first, *_ = (run.error or "").strip().splitlines() or ["no error message recorded"]
    return f"{run.state:<11}  {run.label}  {' '.join(first.split())}"


def format_duration(seconds: float) -> str:
    """``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"


def as_json(runs: Sequence[RunState], best: Best | None) -> dict[str, Any]:
    """Plain values."""
    return {
        "runs": len(runs),
        "states": count_states(runs),
        "images_per_second": total_speed(runs),
        "seconds_left": seconds_left(runs),
        "running": [
            {"folder": str(run.folder), "label": run.label, "seconds": run.seconds, **vars(run.training or Training())}
            for run in runs
            if run.state == RUNNING
        ],
        "failed": [
            {"folder": str(run.folder), "label": run.label, "state": run.state, "error": run.error}
            for run in runs
            if run.failed
        ],
        "best": None
        if best is None
        else {
            "folder": str(best.run.folder),
            "label": best.run.label,
            "metric": best.metric,
            "value": best.value,
        },
    }
