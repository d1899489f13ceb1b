"""One job, where the computing is done. What became of it stands in its folder; nothing is raised for it."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from aerun.base.signals import StopSignals
from aerun.base.speed import release_freed_memory
from aerun.config.parse import parse
from aerun.errors import AerunError, BusyError
from aerun.runs.folder import read_status, record_status, state_after
from aerun.runs.run import run
from aerun.sweep.job import STOP, Job
from aerun.sweep.share import Loader, shared_path

WATCH = 0.3  # seconds between two looks for it
PATIENCE = 60  # seconds for a process of a launcher that has died to save its run and let go of it
LINE = "[%(asctime)s][%(name)s][%(levelname)s] %(message)s"

log = logging.getLogger(__name__)


def work(job: Job, sweep: Path, parent: int | None = None, more_signals: Sequence[str] = ()) -> int | None:
    """Run a job in its folder, from where it stands. Returns the signal that asked it to stop, if one did.

    ``parent`` is the process that the job must not outlive. A signal in a process of the job's own ends it with
    everything saved; status.json says how it ended.
    """
    if (sweep / STOP).exists():
        return int(signal.SIGINT)
    signals = StopSignals(*more_signals)
    job.folder.mkdir(parents=True, exist_ok=True)
    try:
        with logging_to(job.folder / "aerun.log"), _watching(sweep / STOP, parent, signals):
            _run(job, sweep, signals)
    except KeyboardInterrupt:
        pass
    finally:
        # The process goes on to other jobs: give back what this one had.
        release_freed_memory()
        if torch.cuda.is_initialized():
            gc.collect()  # the host's memory Python looks after itself: a look at all that torch has takes long
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
    return signals.requested


def _run(job: Job, sweep: Path, signals: StopSignals) -> None:
    try:
        settings = parse(job.config, job.choices, job.overrides)
        load = Loader(shared_path(sweep, job.config["dataset"]), settings.dataset.load)
        pruning = None
        if job.trial is not None:
            from aerun.sweep.study import Pruning

            pruning = Pruning(job.trial)
        end = time.monotonic() + PATIENCE
        while True:
            try:
                run(
                    settings,
                    job.config,
                    job.folder,
                    overrides=job.overrides,
                    load=load,
                    signals=signals,
                    pruning=pruning,
                )
                return
            except BusyError:
                if signals.requested is not None or time.monotonic() > end:
                    raise
                time.sleep(WATCH)
    except BusyError:
        log.warning("%s is being written by another process", job.folder)  # whose outcome it will be
    except Exception as error:
        if not isinstance(error, AerunError):
            log.exception("the run failed")
        known = read_status(job.folder) or {}
        if known.get("error") != f"{type(error).__name__}: {error}":  # it happened before the run kept its own status
            record_status(job.folder, state_after(error), error)


@contextlib.contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """All log lines go to a file of the run's, as in a single run; nothing to the console."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    file = logging.FileHandler(path, delay=True)
    file.setFormatter(logging.Formatter(LINE))
    root.handlers, root.level = [file], logging.INFO
    try:
        yield
    finally:
        root.handlers, root.level = handlers, level
        file.close()


@contextlib.contextmanager
def _watching(stop: Path, parent: int | None, signals: StopSignals) -> Iterator[None]:
    """Look now and then whether the sweep is being stopped, or its launcher has died."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(WATCH):
            if stop.exists() or (parent is not None and os.getppid() != parent):
                signals.request()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
