"""What a person sees while a run trains."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from types import TracebackType
from typing import NoReturn, Self

from tqdm import tqdm

log = logging.getLogger(__name__)
_bars = ContextVar("bars", default=True)


@contextlib.contextmanager
def no_bars() -> Iterator[None]:
    """A block in which a training draws no bar, whatever the terminal: its caller says what there is to say."""
    before = _bars.set(False)
    try:
        yield
    finally:
        _bars.reset(before)


def counting(what: str, total: int) -> tqdm[NoReturn]:
    """A bar over so many things, on a terminal; its ``update(n)`` says that n more are done."""
    return tqdm(total=total, desc=what, leave=False, disable=not sys.stderr.isatty())


class ProgressBar:
    """A bar on a terminal; elsewhere one line an epoch."""

    def __init__(self, initial: int, total: int, what: str = "") -> None:
        self._what = f"{what}, " if what else ""
        terminal = sys.stderr.isatty() and _bars.get()
        # On a terminal the bar shows the epochs; their lines go to the log file alone.
        self._consoles = [handler for handler in logging.getLogger().handlers if type(handler) is logging.StreamHandler]
        self._filter = (lambda record: not hasattr(record, "epoch")) if terminal else (lambda record: True)
        self._bar = tqdm(
            total=total, initial=initial, unit="step", leave=False, dynamic_ncols=True, disable=not terminal
        )

    def __enter__(self) -> Self:
        for handler in self._consoles:
            handler.addFilter(self._filter)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._bar.close()
        for handler in self._consoles:
            handler.removeFilter(self._filter)

    def update(self, step: int) -> None:
        """So many steps are done."""
        self._bar.update(step - self._bar.n)

    def epoch(self, epoch: int, epochs: int, numbers: dict[str, float]) -> None:
        """An epoch is done, with these losses."""
        text = ", ".join(
            f"{name} {numbers[f'{name}/loss']:.5g}" for name in ("train", "validation") if f"{name}/loss" in numbers
        )
        log.info("%sepoch %d/%d: %s", self._what, epoch, epochs, text, extra={"epoch": epoch})
        self._bar.set_description(f"{self._what}epoch {epoch}/{epochs}", refresh=False)
        self._bar.set_postfix_str(text)
