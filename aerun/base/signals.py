"""Stopping a run from outside: it finishes the step, saves, and exits."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from types import FrameType
from typing import Any, Self

NAMES = ("SIGINT", "SIGTERM", "SIGUSR1")
_owns_process = ContextVar("owns_process", default=True)


@contextlib.contextmanager
def surviving_process() -> Iterator[None]:
    """A block in which a second SIGINT raises KeyboardInterrupt instead of ending the process, a notebook's say."""
    before = _owns_process.set(False)
    try:
        yield
    finally:
        _owns_process.reset(before)


class Stopped(KeyboardInterrupt):
    """A signal asked the run to stop. Like KeyboardInterrupt it is not an Exception, so that it also stops a sweep."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class StopSignals:
    """A context in which SIGINT, SIGTERM and SIGUSR1 (a scheduler's preemption) set ``requested``.

    The owner checks ``requested`` between steps. Inside ``interruptible`` a signal, or one received before, raises
    Stopped immediately. A second SIGINT ends the process at once (see ``surviving_process``). ``more`` names further
    signals to handle. Outside the main thread, where Python delivers no signals, nothing changes.
    """

    def __init__(self, *more: str) -> None:
        self.names = (*NAMES, *more)
        self.requested: int | None = None
        self._interruptible = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for name in self.names:
                number = signal.Signals.__members__.get(name)
                if number is not None:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested is not None and number == signal.SIGINT:
            if not _owns_process.get():
                raise KeyboardInterrupt
            os._exit(128 + number)
        self.requested = number
        if self._interruptible:
            raise Stopped(number)

    def request(self, number: int = signal.SIGINT) -> None:
        """Request a stop as that signal would; may be called from any thread."""
        if self.requested is None:
            self.requested = number

    def check(self) -> None:
        """Raise Stopped if a signal was received."""
        if self.requested is not None:
            raise Stopped(self.requested)

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """A block that changes nothing that must be saved, so that a signal may interrupt it at any point."""
        self._interruptible = True
        try:
            self.check()
            yield
        finally:
            self._interruptible = False
