"""The progress of a training on a terminal."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import NoReturn, Self

from tqdm import tqdm

from aerun.base.progress_bar import bar_class, bar_stream, bars_are_shown, in_notebook
from aerun.contracts import EpochEnd, Observer, RunView

log = logging.getLogger(__name__)


class ProgressBar(Observer):
    """A bar on a terminal or in a notebook, elsewhere one line per epoch. As a context manager it restores the terminal
    at the end."""

    def __init__(self) -> None:
        self._shown = (sys.stderr.isatty() or in_notebook()) and bars_are_shown()
        # The bar shows the epochs, and their lines only go to the log file.
        handlers = [*logging.getLogger().handlers, *logging.getLogger("aerun").handlers]
        self._consoles = [handler for handler in handlers if type(handler) is logging.StreamHandler]
        self._filter = (lambda record: "epoch" not in vars(record)) if self._shown else (lambda record: True)
        self._bar: tqdm[NoReturn] | None = None

    def __enter__(self) -> Self:
        for handler in self._consoles:
            handler.addFilter(self._filter)
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        for handler in self._consoles:
            handler.removeFilter(self._filter)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def begin(self, run: RunView) -> None:
        """A bar over the steps of the run, or of its stage."""
        self._close()
        self._what = f"{run.stage}, " if run.stage else ""
        self._epochs, self._before = run.epochs, run.progress.stage_epoch
        self._bar = bar_class()(
            total=run.total_steps,
            initial=run.progress.step,
            unit="step",
            leave=False,
            dynamic_ncols=True,
            disable=not self._shown,
            file=bar_stream(),
        )

    def step(self, step: int, values: Mapping[str, float] | None) -> None:
        if values is not None and self._bar is not None:
            self._bar.update(step - self._bar.n)

    def epoch(self, end: EpochEnd) -> None:
        """A line with the losses of the epoch."""
        numbers, epoch = end.numbers, end.epoch - self._before
        text = ", ".join(
            f"{name} {numbers[f'{name}/loss']:.5g}" for name in ("train", "validation") if f"{name}/loss" in numbers
        )
        log.info("%sepoch %d/%d: %s", self._what, epoch, self._epochs, text, extra={"epoch": epoch})
        if self._bar is not None:
            self._bar.set_description(f"{self._what}epoch {epoch}/{self._epochs}", refresh=False)
            self._bar.set_postfix_str(text)
            if end.ended:
                self._close()
