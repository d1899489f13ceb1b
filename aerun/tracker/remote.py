"""Trackers on a server, which may be down, slow or gone: what a run logs is kept in its folder and sent from there.

scalars.csv holds every number, and sent_NAME.json how many of them were sent. A thread sends the others while the
training continues, which never waits for it. What could not be sent is sent when the run is resumed, or by
``aerun-track FOLDER``.
"""

from __future__ import annotations

import json
import logging
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

from aerun.base.bounded import read_json
from aerun.base.files import write_text
from aerun.base.typed import TEXT, TRUTH, record, whole
from aerun.contracts import TrackedRun, Tracker
from aerun.errors import AerunError, ConfigError, DataError
from aerun.tracker.rows import Row, RowReader

log = logging.getLogger(__name__)
FIGURES = "figures"
SENT_SCHEMA = record(
    {"key": TEXT, "rows": whole(), "step": whole(), "name": TEXT, "figures": whole(), "ended": TRUTH},
    required=["key", "rows", "step", "name", "figures", "ended"],
)


@dataclass
class Sent:
    """What a server has of a run: the run's ``key`` there, the number of rows, the last row, of the figures those up to
    a time in nanoseconds since 1970, and whether it knows that the run has ended."""

    key: str
    rows: int = 0
    step: int = 0
    name: str = ""
    figures: int = 0
    ended: bool = False


class Remote(Tracker):
    """A tracker on a server. A subclass defines how to ``connect``, ``send``, ``send_figure`` and ``disconnect``.

    All four are called in a thread. They may raise any error: what they were to send is sent again later.
    ``wait_seconds``: how long the end of a run waits for the server.
    """

    service: ClassVar[str]  # the name of the option, and of the package
    rows_at_once: ClassVar[int] = 1  # that a request may have, but it has at least those of one step
    reads_rows = True
    wait_seconds: float

    def check_settings(self, settings: Any) -> None:
        """As ``check_package``, for a new run. A run folder is read without the package."""
        if settings.typed:
            self.check_package()

    def check_package(self) -> None:
        """ConfigError without the package."""
        if find_spec(self.service) is None:
            raise ConfigError(f"tracker={self.service}: needs {self.service}; pip install 'aerun[{self.service}]'")

    def connect(self, run: TrackedRun, key: str) -> None:
        """Begin a run on the server, or continue the one with this key."""
        raise NotImplementedError

    def send(self, rows: Sequence[Row]) -> None:
        """Send the numbers of a step, or of several. After an error all of them are sent again."""
        raise NotImplementedError

    def send_figure(self, path: Path, step: int) -> None:
        """Send a PNG file."""
        raise NotImplementedError

    def disconnect(self, finished: bool) -> None:
        """End the run on the server, for now or because it has finished."""

    def open(self, run: TrackedRun) -> None:
        """Start the thread that sends."""
        self._delivery = Delivery(self, run)
        self._due, self._closing, self._finished, self._said = threading.Event(), False, False, False
        self._thread = threading.Thread(target=self._run, name=f"tracker.{self.service}", daemon=True)
        self._thread.start()

    def flush(self) -> None:
        """Let the thread send what is in the file by now."""
        self._due.set()

    def finish(self) -> None:
        self._finished = True

    def close(self) -> None:
        """Wait for the thread, but not longer than ``wait_seconds``; say what was not sent."""
        self._closing = True
        self._due.set()
        self._thread.join(self.wait_seconds)
        self._delivery.abandoned = self._thread.is_alive()
        unsent = self._delivery.count_unsent()
        if unsent:
            log.warning(
                "tracker=%s: %s rows of scalars.csv are not sent yet; aerun-track %s sends them",
                self.service,
                f"{unsent:,}",
                self._delivery.run.folder,
            )

    def _run(self) -> None:
        while not self._delivery.abandoned:
            self._due.wait()
            self._due.clear()
            closing = self._closing
            try:
                self._delivery.deliver()
                if closing:
                    self._delivery.conclude(self._finished)
            except Exception as error:  # whatever a server or its client may raise: nothing is lost
                self._report(error)
            if closing:
                return

    def _report(self, error: Exception) -> None:
        """Log the first error of a run."""
        if not self._said:
            self._said = True
            text = " ".join(str(error).split())[:300]
            log.warning(
                "tracker=%s: %s: %s; the run continues, and what is not sent is kept in scalars.csv",
                self.service,
                type(error).__name__,
                text,
            )


class Delivery:
    """Sends what a run folder has, from where the last delivery ended."""

    def __init__(self, tracker: Remote, run: TrackedRun) -> None:
        self.run, self.abandoned = run, False
        self._tracker = tracker
        self._path = run.folder / f"sent_{tracker.service}.json"
        self._sent: Sent | None = None
        self._connected = False
        self._reader = RowReader(run.folder)
        self._skipped_step: int | None = None
        self._waiting: list[Row] = []

    def deliver(self, rows: Sequence[Row] | None = None) -> int:
        """Send the rows of scalars.csv that were not sent yet; or ``rows``, for a folder without that file. Returns how
        many that were."""
        sent = self._begin(rows)
        before = sent.rows
        self._waiting += self._unsent(self._reader.read())
        while self._waiting and not self.abandoned:
            self._connect(sent)
            some = list(_first_steps(self._waiting, self._tracker.rows_at_once))
            self._tracker.send(some)
            del self._waiting[: len(some)]
            sent.rows += len(some)
            sent.step, sent.name = some[-1].step, some[-1].name
            self._write(sent)
        return sent.rows - before

    def conclude(self, finished: bool) -> None:
        """Send the figures that are new, and end the run on the server."""
        sent = self._begin(None)
        files = sorted((self.run.folder / FIGURES).glob("*.png"), key=lambda path: path.stat().st_mtime_ns)
        for path in files:
            moment = path.stat().st_mtime_ns
            if moment > sent.figures and not self.abandoned:
                self._connect(sent)
                self._tracker.send_figure(path, sent.step)
                sent.figures = moment
                self._write(sent)
        if not sent.ended and not self.abandoned:
            self._connect(sent)
            self._tracker.disconnect(finished)
            self._connected, sent.ended = False, True
            self._write(sent)

    def _connect(self, sent: Sent) -> None:
        if not self._connected:
            self._tracker.connect(self.run, sent.key)
            self._connected = True
            if sent.ended:
                sent.ended = False
                self._write(sent)

    def count_unsent(self) -> int:
        """How many rows are not sent."""
        try:
            self._begin(None)
            return len(self._waiting) + len(self._unsent(self._reader.read(keep=True)))
        except AerunError:
            return 0

    def _begin(self, rows: Sequence[Row] | None) -> Sent:
        """What was sent before. It is read once, and decides which rows are new."""
        if self._sent is None:
            known = rows if rows is not None else self._reader.read()
            self._sent = _read_sent(self._path) or Sent(uuid.uuid4().hex)
            self._waiting = self._first_unsent(known, self._sent)
            self._write(self._sent)
        return self._sent

    def _first_unsent(self, rows: Sequence[Row], sent: Sent) -> list[Row]:
        """The rows after the last one that was sent. If a resumed run has dropped it, those of later steps: what it
        logs again is the same."""
        last = rows[sent.rows - 1] if 0 < sent.rows <= len(rows) else None
        if sent.rows == 0 or (last is not None and (last.step, last.name) == (sent.step, sent.name)):
            return list(rows[sent.rows :])
        self._skipped_step = sent.step
        return self._unsent(rows)

    def _unsent(self, rows: Sequence[Row]) -> list[Row]:
        return [row for row in rows if self._skipped_step is None or row.step > self._skipped_step]

    def _write(self, sent: Sent) -> None:
        write_text(self._path, json.dumps(vars(sent)) + "\n")


def _first_steps(rows: Sequence[Row], most: int) -> Iterator[Row]:
    """The rows of the first steps, at most ``most``, but of at least one step."""
    count = 0
    for _, some in groupby(rows, lambda row: row.step):
        together = list(some)
        if count and count + len(together) > most:
            return
        count += len(together)
        yield from together


def _read_sent(path: Path) -> Sent | None:
    """What was sent; None if nothing was. DataError for a damaged file."""
    try:
        content: Mapping[str, Any] = read_json(path)
        SENT_SCHEMA("", content)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DataError(f"{path}: does not say what was sent ({error}); delete it to send everything again") from error
    return Sent(**{name: content[name] for name in vars(Sent(""))})
