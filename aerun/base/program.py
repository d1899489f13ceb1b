"""The running program: the versions it is made of, and the words that start it."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

MODULE = "python -m aerun"  # how sys.argv[0] begins for commands started that way, see aerun/__main__.py


def package_version(name: str = "aerun") -> str:
    """The installed version of a package, which is not imported; ``unknown`` if it is not installed."""
    from importlib.metadata import PackageNotFoundError, version  # takes 10 ms; few commands need it

    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"


def version_line() -> str:
    """``aerun 0.1.0 (torch 2.15.0, hydra 1.3.8)``, for ``--version``."""
    return f"aerun {package_version()} (torch {package_version('torch')}, hydra {package_version('hydra-core')})"


_typed: list[list[str]] = []  # sys.argv as it was before it was rewritten


@contextlib.contextmanager
def rewritten_argv(words: Sequence[str]) -> Iterator[None]:
    """A block in which ``sys.argv`` has these words; ``typed_command`` still returns those that were typed."""
    before = sys.argv
    _typed.append(list(before))
    sys.argv = [before[0], *words]
    try:
        yield
    finally:
        sys.argv = before
        _typed.pop()


def typed_command() -> list[str]:
    """``sys.argv`` as it was typed, to be shown and recorded."""
    return list(_typed[0] if _typed else sys.argv)


def start_words(program: str) -> list[str]:
    """What to type to start a command again, given its ``sys.argv[0]``.

    That is a script, the path of an installed command, or ``python -m aerun COMMAND``.
    """
    if os.access(program, os.X_OK):
        return [program]
    name = Path(sys.executable).name
    python = name if shutil.which(name) == sys.executable else sys.executable
    return [python, *(program.split()[1:] if program.startswith(MODULE) else [program])]


def sibling_words(program: str, command: str) -> list[str]:
    """What to type to start another command of aerun, in the way in which this one was started."""
    if program.startswith(MODULE) or program.endswith(".py"):
        return ["python", "-m", "aerun", command]
    return [f"aerun-{command}"]
