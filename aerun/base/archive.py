"""Files in a ZIP archive, read as if the archive were a folder: ``grid.zip/RUN/config.yaml``. Nothing is extracted.

The archive may be anybody's. DataError, in one line that begins with the path, for one with links, with names that lead
out of it or occur twice, or with anything encrypted; and for a file that would unpack to far more bytes than it has.
"""

from __future__ import annotations

import contextlib
import functools
import stat
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from aerun.errors import DataError

FREE_BYTES, MAX_EXPANSION = 1 << 20, 100  # what a file may unpack to: bytes, or times its bytes in the archive
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
DAMAGES = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError)


@dataclass(frozen=True)
class Archive:
    """An open archive: its files by name, and the names in each of its folders; "" is the archive itself."""

    path: Path
    zip: zipfile.ZipFile
    files: dict[str, zipfile.ZipInfo] = field(default_factory=dict)
    folders: dict[str, set[str]] = field(default_factory=dict)

    @contextlib.contextmanager
    def open(self, name: str, most: int) -> Iterator[IO[bytes]]:
        """A stream of the content of a file of at most ``most`` bytes. FileNotFoundError if there is none."""
        path = self.path / name
        entry = self.files.get(name)
        if entry is None:
            raise FileNotFoundError(2, "No such file or directory", str(path))
        if entry.file_size > min(most, max(FREE_BYTES, MAX_EXPANSION * entry.compress_size)):
            raise DataError(f"{path}: cannot be read (it would unpack to {entry.file_size:,} bytes)")
        try:
            with self.zip.open(entry) as stream:
                yield stream
        except DAMAGES as error:
            raise DataError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error


def open_archive(path: Path) -> Archive:
    """The archive in a file, opened once for each version of the file."""
    try:
        found = path.stat()
        return _open(path, (found.st_ino, found.st_size, found.st_mtime_ns))
    except DAMAGES as error:
        raise DataError(f"{path}: is not a ZIP archive ({' '.join(str(error).split())})") from error


@functools.lru_cache(maxsize=4)
def _open(path: Path, version: tuple[int, ...]) -> Archive:
    archive = Archive(path, zipfile.ZipFile(path), folders={"": set()})
    for entry in archive.zip.infolist():
        name = entry.filename.removesuffix("/")
        parts = name.split("/")
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if set(parts) & {"", ".", ".."} or "\\" in name or ":" in parts[0]:
            raise DataError(f"{path}: contains {name!r}, a name that leads out of the archive")
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or entry.flag_bits & 1 or entry.compress_type not in METHODS:
            raise DataError(f"{path}: contains {name!r}, which is a link, encrypted or packed in an unusual way")
        for length, part in enumerate(parts):
            archive.folders.setdefault("/".join(parts[:length]), set()).add(part)
        if entry.is_dir():
            archive.folders.setdefault(name, set())
        elif archive.files.setdefault(name, entry) is not entry:
            raise DataError(f"{path}: contains {name!r} twice")
    if both := archive.files.keys() & archive.folders.keys():
        raise DataError(f"{path}: contains {min(both)!r} as a file and as a folder")
    return archive


def locate(path: Path) -> tuple[Archive, str] | None:
    """The archive that a path leads into, and the name in it; None if no part of the path is a file."""
    for place in (path, *path.parents):
        if place.is_file():
            return open_archive(place), "" if place == path else path.relative_to(place).as_posix()
        if place.exists():
            return None
    return None


def read_member(path: Path, most: int) -> bytes:
    """The content of a file in an archive. FileNotFoundError if there is none."""
    found = locate(path)
    if found is None:
        raise FileNotFoundError(2, "No such file or directory", str(path))
    with found[0].open(found[1], most) as stream:
        return stream.read()


def is_file(path: Path) -> bool:
    """Whether a path is that of a file, on disk or in an archive."""
    if path.is_file():
        return True
    found = locate(path)
    return found is not None and found[1] in found[0].files


def is_folder(path: Path) -> bool:
    """Whether a path is that of a folder, on disk or in an archive; an archive is one."""
    if path.is_dir():
        return True
    found = locate(path)
    return found is not None and found[1] in found[0].folders


def names_in(path: Path) -> list[str]:
    """The names in a folder, on disk or in an archive, sorted; none if there is no such folder."""
    if path.is_dir():
        return sorted(inner.name for inner in path.iterdir())
    found = locate(path)
    return [] if found is None else sorted(found[0].folders.get(found[1], ()))
