"""Run one job in a worker process. Its result is in its folder; a failed job does not raise."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from aerun.base.files import LogFile
from aerun.base.signals import StopSignals
from aerun.base.speed import release_freed_memory
from aerun.config.parse import parse
from aerun.dataset.shared import SharedLoader
from aerun.errors import AerunError, BusyError
from aerun.runs.folder import LOG, LOG_FORMAT, read_status, record_status, state_after
from aerun.runs.run import run
from aerun.sweep.job import STOP_FILE, Job, shared_data_path
from aerun.sweep.job_index import job_state

POLL_S = 0.3  # between checks for the stop file and for the launcher

log = logging.getLogger(__name__)


def run_job(job: Job, place: Path, parent: int | None = None, more_signals: Sequence[str] = ()) -> int | None:
    """Run or continue a job in its folder. Returns the signal that asked it to stop, if there was one.

    ``place``: the folder of its launcher, with the stop file and decoded data. The job stops when the process
    ``parent`` is gone. After a signal it saves everything and stops. Its final state is in status.json. BusyError
    if another process has begun it.
    """
    if (place / STOP_FILE).exists():
        return int(signal.SIGINT)
    signals = StopSignals(*more_signals)
    job.folder.mkdir(parents=True, exist_ok=True)
    try:
        with logging_to(job.folder / LOG), _stop_requests(place / STOP_FILE, parent, signals):
            _run(job, place, signals)
    except KeyboardInterrupt:
        pass
    finally:
        # The process will run other jobs: free the memory of this one.
        release_freed_memory()
        if torch.cuda.is_initialized():
            gc.collect()  # only for device memory: it scans all of torch's objects, which is slow
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
    return signals.requested


def _run(job: Job, place: Path, signals: StopSignals) -> None:
    try:
        settings = parse(job.config, job.choices, job.overrides)
        load = SharedLoader(shared_data_path(place, job.config["dataset"]), settings.dataset.load)
        pruning = None
        if job.trial is not None:
            from aerun.sweep.optuna_study import Pruning

            pruning = Pruning(job.trial)
        run(settings, job.config, job.folder, overrides=job.overrides, load=load, signals=signals, pruning=pruning)
    except BusyError as error:
        log.warning("%s", error)
        raise
    except Exception as error:
        if not isinstance(error, AerunError):
            log.exception("the run failed")
        known = read_status(job.folder) or {}
        if job_state(job.folder) == "finished":  # it was to be evaluated by more protocols
            record_status(job.folder, "finished", error, known.get("began"))
        elif known.get("error") != f"{type(error).__name__}: {error}":  # raised before the run recorded its own status
            record_status(job.folder, state_after(error), error)


@contextlib.contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Send all log messages to the run's log file, as in a single run, and none to the console."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    file = LogFile(path, delay=True)
    file.setFormatter(logging.Formatter(LOG_FORMAT))
    root.handlers, root.level = [file], logging.INFO
    try:
        yield
    finally:
        root.handlers, root.level = handlers, level
        file.close()


@contextlib.contextmanager
def _stop_requests(stop: Path, parent: int | None, signals: StopSignals) -> Iterator[None]:
    """Request a stop, from a thread, when the stop file appears or the launcher has died."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(POLL_S):
            if stop.exists() or (parent is not None and os.getppid() != parent):
                signals.request()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
