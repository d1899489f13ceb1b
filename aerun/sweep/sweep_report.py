"""Print the results of a sweep's jobs, as they end and in total."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from aerun.base.files import format_size, measure_files
from aerun.base.program import sibling_words, start_words
from aerun.errors import DataError
from aerun.runs.folder import CHECKPOINTS, read_status, read_summary
from aerun.runs.same_run import chosen_protocols
from aerun.sweep.job import Job
from aerun.sweep.job_index import UNEVALUATED
from aerun.sweep.launcher_place import PLACES, other_launchers
from aerun.training.checkpoint_files import removable

PYTHON = "aerun.run_sweep"  # in place of a script
MAX_NUMBERS = 4  # of protocols, in the line of a job
MAX_RESULTS = 10  # rows, baselines and notes at the end of a sweep


def print_headline(folder: Path, jobs: int, states: Sequence[str], duplicates: int, slots: int, place: Path) -> None:
    """Print how many jobs there are and how many will run, before they do. ``states``: of those that will run."""
    evaluated = sum(state in ("finished", UNEVALUATED) for state in states)
    done = f"{jobs - len(states)} done before, " if len(states) < jobs else ""
    asked = f"{evaluated} to evaluate by protocols, " if evaluated else ""
    same = f", {duplicates} duplicate point{'s' * (duplicates != 1)}" if duplicates else ""
    print(
        f"{os.path.relpath(folder)}: {count_jobs(jobs)}{same}; {done}{asked}{len(states) - evaluated} to run, "
        f"{slots} at a time"
    )
    print_others(place)


def print_others(place: Path) -> None:
    """Print which other launchers share the sweep, and an empty line."""
    others = other_launchers(place)
    print(f"shared with {', '.join(others)}\n" if others else "")


def print_states(folder: Path, states: Mapping[str, str], skipped: int) -> None:
    """Print how many jobs are in each state, and how many invalid points were skipped."""
    counts = Counter(states.values()).most_common()
    text = ", ".join(f"{count} {state}" for state, count in counts)
    left_out = f"; {skipped} invalid point{'s' * (skipped != 1)} skipped" if skipped else ""
    print(f"\n{os.path.relpath(folder)}: {count_jobs(len(states))}: {text}{left_out}")


def print_disk(folder: Path, states: Mapping[str, str], words: Sequence[str]) -> None:
    """Print what the sweep takes on disk, and the command that frees what finished runs keep only to be continued."""
    count, size = measure_files(path for path in folder.iterdir() if path.name != PLACES)
    finished = [folder / name / CHECKPOINTS for name, state in states.items() if state == "finished"]
    spare = measure_files(path for place in finished for path in removable(place, "weights"))[1]
    command = shlex.join([*sibling_words(words[0], "tidy"), os.path.relpath(folder), "--apply"])
    text = f"; {format_size(spare)} only serve to continue finished runs: {command}" if spare else ""
    print(f"on disk     {format_size(size)} in {count:,} files{text}")


def print_shares(here: int, elsewhere: Sequence[Job]) -> None:
    """Print how many jobs this launcher has run, and how many ended under others meanwhile, by their machines."""
    hosts = Counter(_host(job.folder) for job in elsewhere)
    text = ", ".join(f"{count} on {host}" for host, count in sorted(hosts.items()))
    print(f"this launcher ran {count_jobs(here)}; others ran {text}")


def print_best_runs(folder: Path, words: Sequence[str]) -> None:
    """Print the best finished runs of the sweep, averaged over seeds. ``words``: the sweep's command."""
    from aerun.compare import Question, collect, compare
    from aerun.compare.table_output import format_lines

    comparison = compare(collect([folder]), Question())
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    rows, baselines, notes = format_lines(comparison, width)
    shown = rows[: MAX_RESULTS + 2]
    if len(comparison.groups) > MAX_RESULTS:
        shown.append(f"and {len(comparison.groups) - MAX_RESULTS} more: {_compare_command(folder, words)}")
    for block in (shown, baselines[:MAX_RESULTS], notes[:MAX_RESULTS]):
        if block:
            print("\n" + "\n".join(block))


def python_call(function: str, words: Sequence[str], **keywords: str) -> str:
    """``function("word", ..., key="value")``, to be typed in Python."""
    arguments = [json.dumps(word, ensure_ascii=False) for word in words]
    arguments += [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in keywords.items()]
    return f"{function}({', '.join(arguments)})"


def _compare_command(folder: Path, words: Sequence[str]) -> str:
    """The command that shows all results."""
    if words[0] == PYTHON:
        return python_call("aerun.compare_runs", [os.path.relpath(folder)])
    return shlex.join([*sibling_words(words[0], "compare"), os.path.relpath(folder)])


def continue_command(folder: Path, words: Sequence[str]) -> str:
    """The command that continues the sweep that was started with ``words``."""
    if words[0] == PYTHON:
        return python_call(PYTHON, words[1:], out=os.path.relpath(folder))
    program, *rest = [word for word in words if not word.startswith("sweep.name=")]
    return shlex.join([*start_words(program), *rest, f"sweep.name={folder.name}"])


def count_jobs(number: int) -> str:
    """``1 job``, ``24 jobs``."""
    return f"{number} job{'s' * (number != 1)}"


def job_line(job: Job, state: str, count: str, error: str | None = None) -> str:
    """One line for a job that has ended. ``error`` replaces the one in its folder."""
    error = error or (job_error(job.folder) if state == UNEVALUATED else None)
    duration = "" if state in ("evaluated", UNEVALUATED) else job_duration(job.folder)  # of the training
    result = error or job_result(job.folder)
    if state == "evaluated":
        with contextlib.suppress(DataError, KeyError, TypeError, ValueError):
            result = "; ".join(filter(None, (result, protocol_numbers(job))))
    parts = [count, f"{state:<9}", job.label, result, duration]
    if duration and (host := _host(job.folder)) != platform.node():
        parts.append(f"on {host}")
    return "  ".join(part for part in parts if part)


def job_result(folder: Path) -> str:
    """The test error of a finished run, otherwise the error message."""
    with contextlib.suppress(DataError, KeyError, TypeError, ValueError):
        summary = read_summary(folder)
        if summary is not None:
            failed = ", ".join(summary.get("unanswered", {}))
            return f"test MSE {summary['test']['mse']:.6f}" + (f"; protocol failed: {failed}" if failed else "")
    return job_error(folder)


def protocol_numbers(job: Job) -> str:
    """The numbers of the job's protocols, the first few, in one line."""
    summary = read_summary(job.folder) or {}
    names = [name for protocol in chosen_protocols(job.config) for name in summary["protocols"].get(protocol, ())]
    more = f" and {len(names) - MAX_NUMBERS} more" if len(names) > MAX_NUMBERS else ""
    return "; ".join(f"{name} {summary['test'][name]:.6g}" for name in names[:MAX_NUMBERS]) + more


def failed_protocols(folder: Path, config: Mapping[str, Any] | None = None) -> list[str]:
    """The protocols of a finished run that failed, each with its error message; those of ``config``, if given."""
    with contextlib.suppress(DataError):
        failed = (read_summary(folder) or {}).get("unanswered", {})
        asked = failed if config is None else chosen_protocols(config)
        return [f"protocol.{name}: {error}" for name, error in failed.items() if name in asked]
    return []


def job_error(folder: Path) -> str:
    """The error message in status.json; empty if there is none."""
    status = read_status(folder) or {}
    text = " ".join(str(status.get("error") or "").split())
    return re.sub(r"^(Config|Data|Diverged|Storage|Pruned)Error: ", "", text)  # the message is enough


def job_duration(folder: Path) -> str:
    """The duration of the job's last attempt; empty if it is not known."""
    status = read_status(folder) or {}
    with contextlib.suppress(KeyError, TypeError, ValueError):
        seconds = datetime.fromisoformat(status["time"]) - datetime.fromisoformat(status["began"])
        return f"{seconds.total_seconds():.0f} s"
    return ""


def _host(folder: Path) -> str:
    return str((read_status(folder) or {}).get("host", platform.node()))


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table in aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows in aligned columns."""
    for line in aligned(rows):
        print(line)
