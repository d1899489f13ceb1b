"""Training inside a process that is somebody else's: a notebook, a script, a thread of a server."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from aerun.base.files import LogFile
from aerun.base.progress_bar import hide_bars
from aerun.base.signals import surviving_process
from aerun.runs.folder import LOG_FORMAT

PACKAGE = "aerun"
ENVIRONMENT = ("CUBLAS_WORKSPACE_CONFIG", "CUDA_VISIBLE_DEVICES", "PYTHONWARNINGS")  # set by runs and launchers


@contextlib.contextmanager
def as_guest(verbose: bool) -> Iterator[None]:
    """A block in which runs may train: torch's state and the environment are restored, a second Ctrl-C does not end
    the process. Calls from several threads wait for each other."""
    from aerun.runs.fit import restored_torch_state  # imports torch

    with contextlib.ExitStack() as stack:
        stack.enter_context(restored_torch_state())
        stack.enter_context(surviving_process())
        stack.enter_context(_restored_environment())
        if not verbose:
            stack.enter_context(hide_bars())
        yield


@contextlib.contextmanager
def _restored_environment() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def logging_to(path: Path, verbose: bool) -> Iterator[logging.Logger]:
    """aerun's log lines go to a file, as in a run of the command line, and if ``verbose`` to standard output, unless
    the process shows them already. Its own handlers get what they got before."""
    logger = logging.getLogger(PACKAGE)
    handlers, level, propagate = logger.handlers[:], logger.level, logger.propagate
    file = LogFile(path, delay=True)
    file.setFormatter(logging.Formatter(LOG_FORMAT))
    shown = logger.isEnabledFor(logging.INFO) and logger.hasHandlers()
    ours: list[logging.Handler] = [file]
    if verbose and not shown:
        ours.append(logging.StreamHandler(sys.stdout))
    if logger.hasHandlers() or not verbose:  # without any, warnings go to standard error
        ours.append(_Relay(logger))
    try:
        logger.handlers, logger.propagate = ours, False
        logger.setLevel(min(logging.INFO, logger.getEffectiveLevel()))
        yield logger
    finally:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)
        file.close()


class _Relay(logging.Handler):
    """Passes records to the handlers that a logger had, if its level let them through."""

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__(logger.getEffectiveLevel())
        self._before = logging.Logger(logger.name)
        self._before.handlers, self._before.propagate = logger.handlers[:], logger.propagate
        self._before.parent = logger.parent

    def emit(self, record: logging.LogRecord) -> None:
        self._before.callHandlers(record)
