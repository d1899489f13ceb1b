"""The job's side of a run of several processes: it starts them, passes on signals, and says how they ended.

Between the job and its ranks there is a pipe, their standard input. A byte on it is a signal that the job got; its end
is the end of the job, however that came, and ends the ranks at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aerun.base.device import default_threads, nodes, on_each
from aerun.base.signals import Stopped, StopSignals
from aerun.errors import KilledError
from aerun.runs.folder import read_summary
from aerun.runs.outcome import FINISHED, error_of, recorded

POLL = 0.1  # seconds; Python handles signals between waits
GRACE = 15.0  # seconds for the other ranks to end after one has failed
AGENT, WORKER = "aerun.ranks.agent", "aerun.ranks.worker"


def first_host(nodelist: str) -> str:
    """The first host of a list as Slurm writes it: ``gpu[003-005,9],login`` -> ``gpu003``."""
    names = re.match(r"(?:[^,\[]|\[[^\]]*\])+", nodelist)
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", names.group()) if names else nodelist


def command(processes: int, folder: Path, order: Mapping[str, Any], environment: Mapping[str, str]) -> list[str]:
    """What starts the ranks. In a Slurm job of several nodes, srun starts an agent on each; they meet on the first."""
    machines, local = nodes(environment), on_each(processes, environment)
    words = [sys.executable, "-m", AGENT, f"--nproc-per-node={local}"]
    if machines > 1:
        hosts = environment.get("SLURM_STEP_NODELIST") or environment["SLURM_JOB_NODELIST"]
        job = f"{environment['SLURM_JOB_ID']} {folder}"
        number = int.from_bytes(hashlib.sha256(job.encode()).digest()[:4], "big")
        srun = ["srun", "--overlap", f"--nodes={machines}", f"--ntasks={machines}", "--ntasks-per-node=1"]
        meeting = ["--rdzv-backend=c10d", f"--rdzv-endpoint={first_host(hosts)}:{20000 + number % 20000}"]
        words = [*srun, "--kill-on-bad-exit=1", *words, f"--nnodes={machines}", *meeting, f"--rdzv-id={number}"]
    else:
        words.append("--standalone")
    return [*words, "-m", WORKER, str(folder), json.dumps(order)]


def train(
    processes: int,
    folder: Path,
    stop: StopSignals,
    load: Any = None,
    pruning: Any = None,
) -> dict[str, Any]:
    """Train the run in ``folder``, which this process holds, by so many others; returns the summary.

    Raises what ended a rank, as a single process would have, and RankError for what would have had a traceback.
    """
    trial = None if pruning is None else pruning.trial
    consoles = [handler for handler in logging.getLogger().handlers if type(handler) is logging.StreamHandler]
    with _place(folder) as place, _output(folder, bool(consoles)) as output:
        shared = None if load is None else str(load.path)
        order = {"place": str(place), "console": bool(consoles), "trial": trial, "data": shared}
        process = subprocess.Popen(
            command(processes, folder, order, os.environ),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=_environment(),
            start_new_session=True,  # Ctrl-C on a terminal is the job's alone
        )
        try:
            _attend(process, place, stop)
        finally:
            _end(process)
        found = recorded(place)
    if any(about["who"] == "rank 0" and about["kind"] == FINISHED for about in found):
        # Whatever came after it, such as the abort of a library as its process was ending.
        summary = read_summary(folder)
        assert summary is not None
        return summary
    if found:
        raise error_of(found[0])
    if stop.requested is not None:
        raise Stopped(stop.requested)
    raise KilledError(f"worker processes exited with code {process.returncode} without an error report")


def _environment() -> dict[str, str]:
    """Modules are found where this process finds them, and nowhere else."""
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    threads = str(default_threads())  # of all ranks of a machine together; each takes its share (``build.prepare``)
    return {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": threads}


@contextlib.contextmanager
def _place(folder: Path) -> Iterator[Path]:
    """A folder for what ranks have to say in the end: on this machine, unless there are others."""
    if nodes(os.environ) == 1:
        with tempfile.TemporaryDirectory(prefix="aerun-ranks-") as temporary:
            yield Path(temporary)
        return
    place = folder / ".ranks"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    yield place
    shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def _output(folder: Path, console: bool) -> Iterator[Any]:
    """Where ranks print to: as this process does, or with its log."""
    if console:
        yield None
        return
    with (folder / "aerun.log").open("ab") as file:
        yield file


def _attend(process: subprocess.Popen[bytes], place: Path, stop: StopSignals) -> None:
    """Wait for the ranks. A signal is passed on; when one rank has failed the others must end soon."""
    told, end = False, None
    while process.poll() is None:
        if stop.requested is not None and not told:
            told = True
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(bytes([stop.requested]))
                process.stdin.flush()
        if end is None and recorded(place):
            end = time.monotonic() + GRACE
        if end is not None and time.monotonic() > end:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(POLL)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Whatever still runs ends."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
