"""Writing in folders that somebody else may have made: never through a link, and atomically where possible.

A file that is written atomically has either its old or its new content, never a part of it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import shutil
import stat
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from aerun.errors import StorageError

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)  # Windows has none
MAX_NAME_BYTES = 255  # of a file, by most file systems
CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tabs and line breaks
NO_WAIT = getattr(os, "O_NONBLOCK", 0)  # fail, if the name is a pipe's that nobody reads


def open_to_write(path: Path, mode: str) -> Any:
    """Open a file as ``open`` does, in UTF-8; names of other bytes are written with backslashes.

    StorageError if it is a link: it may lead out of the run folder.
    """

    def no_follow(name: str, flags: int) -> int:
        return os.open(name, flags | NO_FOLLOW | NO_WAIT, 0o666)

    try:
        encoding, errors = (None, None) if "b" in mode else ("utf-8", "backslashreplace")
        return open(path, mode, encoding=encoding, errors=errors, opener=no_follow)
    except OSError as error:
        if path.is_symlink():
            raise _link_error(path) from error
        raise


def make_subfolder(folder: Path, *names: str, mode: int = 0o777) -> Path:
    """Create a folder below ``folder``, with those between, and return it. StorageError if one of them is a link."""
    for name in names:
        folder = folder / name
        if folder.is_symlink():
            raise _link_error(folder)
        folder.mkdir(mode, exist_ok=True)
    return folder


def measure_files(paths: Iterable[Path]) -> tuple[int, int]:
    """How many files these are, with those in folders among them, and their bytes. Links are not followed."""
    count = size = 0
    waiting = [os.fspath(path) for path in paths]
    while waiting:
        path = waiting.pop()
        with contextlib.suppress(OSError):  # removed meanwhile, or not ours to see
            found = os.lstat(path)
            if stat.S_ISDIR(found.st_mode):
                with os.scandir(path) as entries:
                    waiting += [entry.path for entry in entries]
            else:
                count, size = count + 1, size + found.st_size
    return count, size


def format_size(size: int) -> str:
    """``8.6 MB``, in powers of 1000, as disks are measured."""
    amount, unit = float(size), "bytes"
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if amount < 999.5 or unit == "TB":
            break
        amount /= 1000
    return f"{amount:.0f} {unit}" if unit == "bytes" or amount >= 99.95 else f"{amount:.1f} {unit}"


def missing_folders(folder: Path) -> list[Path]:
    """The folder and its parents, as far as they do not exist, from the inside out."""
    return [place for place in (folder.absolute(), *folder.absolute().parents) if not place.exists()]


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders that a failed command made, from the inside out, as far as they are empty."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _link_error(path: Path) -> StorageError:
    return StorageError(f"{path}: is a link, through which nothing is written; remove it or replace it by its target")


class LogFile(logging.FileHandler):
    """Appends to the log file of a run. StorageError if the file is a link, at the first message with ``delay``."""

    def format(self, record: logging.LogRecord) -> str:
        """The message with control characters, by which a name would control a terminal, as ``\\x1b``."""
        return CONTROL_CHARACTERS.sub(lambda found: f"\\x{ord(found[0]):02x}", super().format(record))

    def _open(self) -> Any:
        return open_to_write(Path(self.baseFilename), self.mode)


def end_of_name(name: str, most: int = MAX_NAME_BYTES) -> str:
    """The end of a file's name that has at most so many bytes."""
    while len(os.fsencode(name)) > most:
        name = name[1:]
    return name


def temporary_path(path: Path) -> Path:
    """Where this thread makes what will be renamed to ``path``; ``leftover_files`` knows such names."""
    ending = f".{os.getpid()}.{threading.get_ident()}"
    return path.with_name(f".{end_of_name(path.name, MAX_NAME_BYTES - len(ending) - 1)}{ending}")


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; at the end of the block it is flushed to disk and renamed to ``path``.

    After an exception ``path`` is unchanged.
    """
    temporary = temporary_path(path)
    try:
        temporary.unlink(missing_ok=True)
        open_to_write(temporary, "xb").close()  # so that it is no link when the block opens it
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``path`` atomically. StorageError says which file, how many bytes, and how many are free."""
    try:
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise storage_error(error, path, len(content)) from error


def write_text(path: Path, text: str) -> None:
    """Like write_bytes, in UTF-8; bytes of file names that are not UTF-8 become ``\\udcXX``."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_json(path: Path, content: object) -> None:
    """Like write_text, indented JSON."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def printable(text: str) -> str:
    """The text, with bytes of file names that are not UTF-8 as ``\\udcXX``."""
    return text.encode(errors="backslashreplace").decode()


def format_csv(rows: Iterable[Iterable[object]]) -> str:
    """Rows as CSV. A text that a spreadsheet would compute, such as ``=cmd()``, gets an apostrophe before it."""
    return "".join(",".join(map(_csv_cell, row)) + "\n" for row in rows)


def _csv_cell(cell: object) -> str:
    """A cell, in quotes if it has a comma, a quote or a line break; Python's writer leaves a lone return unquoted."""
    text = "" if cell is None else str(cell)
    if isinstance(cell, str) and text.startswith(FORMULA_STARTS) and not _is_number(text):
        text = f"'{text}"
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\r\n') else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def make_folder(folder: Path) -> None:
    """Create the folder and its parents if they do not exist. StorageError if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, folder) from error


def storage_error(error: OSError, path: Path, size: int | None = None) -> StorageError:
    """Return the error in one line: which file could not be written, why, and how much space is free on a full disk."""
    what = f"{size} bytes cannot be written" if size is not None else "cannot be written"
    free = ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):  # room says nothing about, say, missing permission
        with contextlib.suppress(OSError):
            free = f"; {shutil.disk_usage(path.parent).free} bytes are free there"
    return StorageError(f"{path}: {what} ({error.strerror or error}{free})")


def _sync_folder(folder: Path) -> None:
    """Make a new name durable, if the system can synchronize folders."""
    with contextlib.suppress(OSError, AttributeError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def require_regular(path: Path) -> None:
    """Raise OSError unless ``path`` is a regular file or a link to one.

    Opening a pipe waits for a writer, and reading a device may never end.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kind = "folder" if stat.S_ISDIR(mode) else "pipe" if stat.S_ISFIFO(mode) else "device or socket"
        raise OSError(errno.EINVAL, f"it is a {kind}, not a regular file", str(path))


def leftover_files(folder: Path, *names: str) -> list[Path]:
    """Return the temporary files of processes that were killed while writing to ``folder`` or these subfolders."""
    folders = [folder, *(folder / name for name in names if not (folder / name).is_symlink())]
    files = (path for place in folders if place.is_dir() for path in place.iterdir())
    return [path for path in files if re.fullmatch(r"\..+\.\d+\.\d+", path.name)]
