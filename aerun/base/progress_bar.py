"""Progress bars on a terminal and in a notebook."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, NoReturn

from tqdm import tqdm

_bars = ContextVar("bars", default=True)


@contextlib.contextmanager
def hide_bars() -> Iterator[None]:
    """Hide the progress bars of trainings inside the block; the caller reports progress itself."""
    before = _bars.set(False)
    try:
        yield
    finally:
        _bars.reset(before)


def bars_are_shown() -> bool:
    """Whether trainings may draw bars here."""
    return _bars.get()


def progress_bar(what: str, total: int) -> tqdm[NoReturn]:
    """Return a bar over ``total`` items, shown on a terminal only; ``update(n)`` advances it by n."""
    return tqdm(total=total, desc=what, leave=False, disable=not sys.stderr.isatty(), file=bar_stream())


def status_line() -> tqdm[NoReturn]:
    """Return a line at the bottom of a terminal, which ``set_description_str`` replaces; ``write`` prints above it."""
    return tqdm(
        bar_format="{desc}", leave=False, disable=not sys.stderr.isatty(), file=bar_stream(), dynamic_ncols=True
    )


def bar_stream() -> Any:
    """Standard error as bars need it: commands escape control characters in what anything else prints."""
    return getattr(sys.stderr, "unescaped", sys.stderr)


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook, which shows bars though it has no terminal."""
    shell = sys.modules.get("ipykernel.zmqshell")
    return shell is not None and bool(shell.ZMQInteractiveShell.initialized())


def bar_class() -> Any:
    """tqdm's bar for a terminal, or for a notebook; there a bar of text if ipywidgets is not installed."""
    if not in_notebook():
        return tqdm
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm as automatic

    return automatic
