"""Output files and folders: existing ones are replaced only with ``--overwrite``, foreign ones never."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from aerun.base.files import make_folder, storage_error, temporary_path
from aerun.errors import ConfigError


@dataclass(frozen=True)
class OutputFolder:
    """A kind of folder that is written as a whole by the command ``maker``.

    ``foreign(folder)`` names what is in a folder that the command did not write.
    """

    maker: str
    foreign: Callable[[Path], list[str]]


def require_absent(paths: Sequence[Path], overwrite: bool) -> None:
    """ConfigError if a file exists and ``overwrite`` is false, or if a path cannot be a file."""
    for path in paths:
        if path.is_dir():
            raise ConfigError(f"{path}: is a folder; name a file")
        _check_parents(path)
    existing = [path for path in paths if os.path.lexists(path)]
    if existing and not overwrite:
        raise _exists_error(existing)


def check_output_folder(folder: Path, kind: OutputFolder, overwrite: bool) -> None:
    """ConfigError unless the folder is new or empty or, with ``overwrite``, contains only an earlier result."""
    _check_parents(folder)
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise ConfigError(f"{folder}: is not a folder; name a folder")
    existing = sorted(folder.iterdir())
    if not existing:
        return
    foreign = kind.foreign(folder)
    if foreign:
        raise ConfigError(
            f"{folder}: contains {foreign[0]}{and_more(foreign)}, not written by {kind.maker}; name another folder"
        )
    if not overwrite:
        raise _exists_error(existing)


@contextlib.contextmanager
def replacing_folder(folder: Path, kind: OutputFolder, overwrite: bool = False) -> Iterator[Path]:
    """A hidden temporary folder to write into; its contents become the contents of ``folder`` when the block succeeds.

    An exception leaves ``folder`` unchanged. ``check_output_folder`` runs before and after the block.
    """
    check_output_folder(folder, kind, overwrite)
    place = folder.resolve()
    building = temporary_path(place)
    try:
        make_folder(building)
        yield building
        check_output_folder(folder, kind, overwrite)
        try:
            _swap_contents(place, building)
        except OSError as error:
            raise storage_error(error, folder) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _swap_contents(place: Path, building: Path) -> None:
    """Move the contents of ``building`` to ``place``; if one move fails, undo all."""
    if not place.exists():
        building.rename(place)
        return
    # Keep the folder itself: it may be a mount point, or a shell's working folder.
    new, old = sorted(building.iterdir()), building / ".old"
    old.mkdir()
    moved = list[tuple[Path, Path]]()
    try:
        pairs = [(path, old / path.name) for path in sorted(place.iterdir(), reverse=True)]
        for path, goal in [*pairs, *((path, place / path.name) for path in new)]:
            shutil.move(path, goal)
            moved.append((path, goal))
    except OSError:
        for path, goal in reversed(moved):
            shutil.move(goal, path)
        raise


def _check_parents(path: Path) -> None:
    parent = next((parent for parent in path.parents if os.path.lexists(parent)), None)
    if parent is not None and not parent.is_dir():
        raise ConfigError(f"{path}: cannot be written, {parent} is not a folder")


def _exists_error(paths: Sequence[Path]) -> ConfigError:
    verb, what = ("exist", "them") if len(paths) > 1 else ("exists", "it")
    return ConfigError(f"{paths[0]}{and_more(paths)}: already {verb}; pass --overwrite to replace {what}")


def and_more(items: Sequence[object]) -> str:
    """`` and 2 more``, to follow the first of three items; nothing if there is only one."""
    return f" and {len(items) - 1} more" if len(items) > 1 else ""


def plural(number: int, noun: str) -> str:
    """1 image, 2 images, 8,000 images."""
    return f"{number:,} {noun}" + "s" * (number != 1)
