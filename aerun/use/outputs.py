"""What a command writes, where something is there already: refused in a line, and replaced only by ``--overwrite``."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from aerun.base.arguments import Parser
from aerun.base.files import make_folder, storage_error
from aerun.errors import ConfigError


@dataclass(frozen=True)
class OutputFolder:
    """A folder that is written as a whole: ``maker`` is what makes it, ``foreign`` names what is in a folder that is no
    part of one."""

    maker: str
    foreign: Callable[[Path], list[str]]


def add_overwrite_option(parser: Parser) -> None:
    """``--overwrite``, of every command that writes."""
    parser.add_argument("--overwrite", action="store_true", help="replace what it writes, where that is there already")


def require_absent(paths: Sequence[Path], overwrite: bool) -> None:
    """ConfigError if one of these files is there, unless it may be replaced; if it cannot be a file there, always."""
    for path in paths:
        if path.is_dir():
            raise ConfigError(f"{path}: is a folder, and a file is to be written")
        _check_parents(path)
    there = [path for path in paths if os.path.lexists(path)]
    if there and not overwrite:
        raise ConfigError(f"{there[0]}: is there already{and_more(there)}; --overwrite replaces it")


def check_output_folder(folder: Path, result: OutputFolder, overwrite: bool) -> None:
    """ConfigError unless the folder is new or empty; with ``overwrite`` it may hold an older result, no more."""
    _check_parents(folder)
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise ConfigError(f"{folder}: is no folder, and one is to be written")
    there = sorted(folder.iterdir())
    if not there:
        return
    foreign = result.foreign(folder)
    if foreign:
        raise ConfigError(
            f"{folder}: is not empty, and {foreign[0]}{and_more(foreign)} is nothing that {result.maker} wrote; "
            "name another folder"
        )
    if not overwrite:
        raise ConfigError(f"{there[0]}: is there already{and_more(there)}; --overwrite replaces it")


@contextlib.contextmanager
def replacing_folder(folder: Path, result: OutputFolder, overwrite: bool = False) -> Iterator[Path]:
    """A hidden folder beside ``folder`` to write into; what it holds takes its place when the block ends well.

    An older result is replaced, if that is allowed; what ``refuse_folder`` refuses is refused before and after the
    block. A block that does not end well leaves all as it was.
    """
    check_output_folder(folder, result, overwrite)
    place = folder.resolve()
    building = place.with_name(f".{place.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        make_folder(building)
        yield building
        check_output_folder(folder, result, overwrite)
        try:
            _swap_contents(place, building)
        except OSError as error:
            raise storage_error(error, folder) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _swap_contents(place: Path, building: Path) -> None:
    """What is in ``building`` into the place of what is in ``place``."""
    if not place.exists():
        building.rename(place)
        return
    # A folder that is there stays the same: a shell may be in it, or a disk be mounted there.
    new, old = sorted(building.iterdir()), building / ".old"
    old.mkdir()
    moved = list[tuple[Path, Path]]()
    try:
        pairs = [(path, old / path.name) for path in sorted(place.iterdir(), reverse=True)]
        for path, goal in [*pairs, *((path, place / path.name) for path in new)]:
            shutil.move(path, goal)
            moved.append((path, goal))
    except OSError:
        for path, goal in reversed(moved):  # the older result stays
            shutil.move(goal, path)
        raise


def _check_parents(path: Path) -> None:
    above = next((parent for parent in path.parents if os.path.lexists(parent)), None)
    if above is not None and not above.is_dir():
        raise ConfigError(f"{above}: is no folder, and {path} is to be written")


def and_more(things: Sequence[object]) -> str:
    """Said after the first of them: how many there are beside it."""
    return f", and {len(things) - 1} more" if len(things) > 1 else ""
