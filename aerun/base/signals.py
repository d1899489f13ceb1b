"""Stopping a run from outside: finish the step, save, and leave."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, Self

NAMES = ("SIGINT", "SIGTERM", "SIGUSR1")


class Stopped(KeyboardInterrupt):
    """A signal asked the run to stop. Like Ctrl-C it is no Exception: a sweep stops with it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class StopSignals:
    """A context in which SIGINT, SIGTERM and SIGUSR1 (a scheduler's pre-emption) only make a note.

    The owner looks at ``requested`` between steps. Inside ``interruptible`` the signal raises Stopped at once,
    as it does for one that came before. A second SIGINT ends the process on the spot. ``more`` signals, by name,
    are treated alike. Outside the main thread, where Python delivers no signals, nothing is changed.
    """

    def __init__(self, *more: str) -> None:
        self.names = (*NAMES, *more)
        self.requested: int | None = None
        self._interruptible = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for name in self.names:
                number = getattr(signal, name, None)
                if number is not None:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested is not None and number == signal.SIGINT:
            os._exit(128 + number)
        self.requested = number
        if self._interruptible:
            raise Stopped(number)

    def request(self, number: int = signal.SIGINT) -> None:
        """Ask for a stop as that signal would; any thread may."""
        if self.requested is None:
            self.requested = number

    def check(self) -> None:
        """Raise Stopped if a signal has come."""
        if self.requested is not None:
            raise Stopped(self.requested)

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """A part that changes nothing that has to be saved, and may be left at any point."""
        self._interruptible = True
        try:
            self.check()
            yield
        finally:
            self._interruptible = False
