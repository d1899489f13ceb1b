"""The job of a run with several processes: it starts the ranks, passes on signals, and reports how they ended.

The standard input of the ranks is a pipe from the job. A byte on it is the number of a signal that the job received;
the end of the pipe means that the job has ended, for whatever reason, and the ranks exit at once.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aerun.base.device import default_threads, node_count, ranks_per_node
from aerun.base.files import make_subfolder, open_to_write
from aerun.base.signals import Stopped, StopSignals
from aerun.errors import KilledError
from aerun.runs.folder import LOG, read_summary
from aerun.runs.outcome import FINISHED, read_outcomes, rebuild_error

POLL_S = 0.1  # Python handles signals between polls
GRACE_S = 15.0  # for the other ranks to end after one has failed
RANKS = ".ranks"  # subfolder of a run folder
AGENT = "aerun.ranks.agent"
LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"


def command(processes: int, folder: Path, order: Mapping[str, Any], environment: Mapping[str, str]) -> list[str]:
    """Return the command that starts the ranks: an agent or, in a Slurm job with several nodes, one on each by srun."""
    machines, local = node_count(environment), ranks_per_node(processes, environment)
    order = {**order, "processes": processes, "local": local}
    words = [sys.executable, "-m", AGENT, str(folder), json.dumps(order)]
    if machines == 1:
        return words
    srun = ["srun", "--overlap", f"--nodes={machines}", f"--ntasks={machines}", "--ntasks-per-node=1"]
    return [*srun, "--kill-on-bad-exit=1", *words]


def train(
    processes: int,
    folder: Path,
    stop: StopSignals,
    load: Any = None,
    pruning: Any = None,
) -> dict[str, Any]:
    """Train the run in ``folder``, which this process has locked, with several other processes; return the summary.

    Raises the error that ended a rank, as a single process would, and RankError for unexpected ones.
    """
    trial = None if pruning is None else pruning.trial
    consoles = [handler for handler in logging.getLogger().handlers if type(handler) is logging.StreamHandler]
    with _outcome_folder(folder) as place, _open_output(folder, bool(consoles)) as output:
        shared = None if load is None else str(load.path)
        order = {"place": str(place), "console": bool(consoles), "trial": trial, "data": shared}
        process = subprocess.Popen(
            command(processes, folder, order, os.environ),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=_environment(),
            start_new_session=True,  # Ctrl-C on a terminal is sent to the job alone
        )
        try:
            _wait_for_ranks(process, place, stop)
        finally:
            _terminate(process)
        found = read_outcomes(place)
    if any(outcome["who"] == "rank 0" and outcome["kind"] == FINISHED for outcome in found):
        # Later failures, such as an abort inside a library while its process exits, do not matter.
        summary = read_summary(folder)
        assert summary is not None
        return summary
    if found:
        raise rebuild_error(found[0])
    if stop.requested is not None:
        raise Stopped(stop.requested)
    raise KilledError(f"worker processes exited with code {process.returncode} without an error report")


def _environment() -> dict[str, str]:
    """Return environment variables by which ranks import the same modules as this process.

    On a single machine they listen on the loopback interface alone, so that no other machine can connect to them.
    """
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    threads = str(default_threads())  # of all ranks of a machine; ``build.prepare`` divides them
    ours = {"PYTHONPATH": path, "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": threads}
    if node_count(os.environ) == 1:
        ours |= dict.fromkeys(("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"), LOOPBACK)
    return {**os.environ, **ours}


@contextlib.contextmanager
def _outcome_folder(folder: Path) -> Iterator[Path]:
    """Create a folder for the outcomes of the ranks, and for the file by which they find each other.

    Only the user can open it. It is a local folder, unless there are several machines.
    """
    if node_count(os.environ) == 1:
        with tempfile.TemporaryDirectory(prefix="aerun-ranks-") as temporary:
            yield Path(temporary)
        return
    shutil.rmtree(folder / RANKS, ignore_errors=True)
    place = make_subfolder(folder, RANKS, mode=0o700)
    yield place
    shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def _open_output(folder: Path, console: bool) -> Iterator[Any]:
    """Return where ranks print: to the console (None), or to the log file."""
    if console:
        yield None
        return
    with open_to_write(folder / LOG, "ab") as file:
        yield file


def _wait_for_ranks(process: subprocess.Popen[bytes], place: Path, stop: StopSignals) -> None:
    """Wait until the ranks have ended, or until GRACE_S after the first outcome. A signal is passed on to them."""
    passed_on, end = False, None
    while process.poll() is None:
        if stop.requested is not None and not passed_on:
            passed_on = True
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(bytes([stop.requested]))
                process.stdin.flush()
        if end is None and read_outcomes(place):
            end = time.monotonic() + GRACE_S
        if end is not None and time.monotonic() > end:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(POLL_S)


def _terminate(process: subprocess.Popen[bytes]) -> None:
    """Close the pipe, which ends the ranks, and kill the process if it does not exit."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
