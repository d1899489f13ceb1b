"""Move the folder of a sweep, or of a run, into one ZIP archive, which is read in its place: ``aerun.base.archive``.

The folder is removed at once, and only when every file in it has been read back from the archive. Killed before, it is
whole; killed afterwards, the archive is; the same call continues.
"""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from aerun.base.archive import FREE_BYTES, MAX_EXPANSION, Archive, open_archive
from aerun.base.files import atomic_write, leftover_files, make_subfolder, remove_empty, storage_error
from aerun.base.lock import FILES as LOCK_FILES
from aerun.base.lock import is_held
from aerun.compare.collect import find_places
from aerun.compare.records import RUNNING
from aerun.compare.run_states import file_version, read_state
from aerun.errors import BusyError, ConfigError, DataError
from aerun.runs.folder import SWEEP
from aerun.sweep.launcher.slurm import check_not_queued
from aerun.sweep.launcher_place import PLACES, idle_sweep
from aerun.sweep.tidy import TRASH

SKIPPED = (*LOCK_FILES, PLACES, ".data", TRASH)  # names of files and folders that serve a running sweep only
PACKED = (".yaml", ".json", ".jsonl", ".log", ".tsv", ".pbtxt", ".md", ".csv", ".txt", ".html", "")
CHUNK_BYTES = 1 << 20


def archive_folder(folder: Path, target: Path) -> int:
    """Move a folder into ``target``; return the bytes of the archive. An archive of the same files is used as it is.

    ConfigError or BusyError, and nothing is changed, if something in the folder is in progress, or cannot be archived.
    """
    check_archive(folder, target)
    with ExitStack() as stack:
        if (folder / SWEEP).exists():
            stack.enter_context(idle_sweep(folder))
            check_not_queued(folder)
        files = {path: file_version(path) for path in list_files(folder)}
        if not target.exists():
            _write(folder, target, files)
        _compare(folder, target, files)
        _remove(folder, files)
    return target.stat().st_size


def check_archive(folder: Path, target: Path) -> None:
    """ConfigError if the folder cannot be moved into that file; BusyError if one of its runs is in progress."""
    if not folder.is_dir() or folder.is_symlink():
        raise ConfigError(f"--archive {target}: {folder} is not a folder; name one sweep or run")
    if target.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(f"--archive {target}: is inside {folder}, which it is to replace; name a file elsewhere")
    if target.is_dir() or not target.parent.is_dir():
        raise ConfigError(f"--archive {target}: name a file in a folder that exists")
    if target.exists():
        open_archive(target)  # DataError for another file
    places = [place for group in find_places([folder]) for place in group if place.folder.is_dir()]
    busy = [place.folder for place in places if is_held(place.folder) or read_state(place).state == RUNNING]
    if busy:
        raise BusyError(f"{busy[0]}: is in progress; archive it when all runs have ended")
    list_files(folder)


def list_files(folder: Path) -> list[Path]:
    """The files to archive, in the order of their names. ConfigError for a link or a pipe."""
    found: list[Path] = []
    left_over = set(leftover_files(folder))
    for path in sorted(folder.iterdir()):
        kind = path.lstat().st_mode
        if path.name in SKIPPED or path in left_over:
            continue
        if stat.S_ISDIR(kind):
            found += list_files(path)
        elif stat.S_ISREG(kind):
            found.append(path)
        else:
            raise ConfigError(f"{path}: is not a regular file, which an archive could keep; move it elsewhere")
    return found


def _name(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


def _write(folder: Path, target: Path, files: Mapping[Path, object]) -> None:
    try:
        with atomic_write(target) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for path in files:
                entry = zipfile.ZipInfo.from_file(path, _name(folder, path), strict_timestamps=False)
                entry.compress_type = zipfile.ZIP_DEFLATED if _packs_well(path) else zipfile.ZIP_STORED
                with path.open("rb") as source, archive.open(entry, "w") as place:
                    shutil.copyfileobj(source, place, CHUNK_BYTES)
    except OSError as error:
        raise storage_error(error, target) from error
    except ValueError as error:  # a name that is not UTF-8
        raise ConfigError(f"--archive {target}: {' '.join(str(error).split())}") from error


def _packs_well(path: Path) -> bool:
    """Whether a file is packed: text is, unless it would be taken for a bomb when it is read."""
    if path.suffix not in PACKED and not path.name.startswith("events.out.tfevents."):
        return False
    size = path.stat().st_size
    if size <= FREE_BYTES:
        return True
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    packed = sum(len(packer.compress(chunk)) for chunk in _chunks(path)) + len(packer.flush())
    return packed * MAX_EXPANSION > 2 * size


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _compare(folder: Path, target: Path, files: Mapping[Path, object]) -> None:
    """DataError unless every file can be read back from the archive as it is on disk."""
    archive = open_archive(target)
    for path in files:
        name = _name(folder, path)
        entry = archive.files.get(name)
        if entry is None or not _is_same(archive, entry, path):
            raise DataError(f"{target}: does not have {path} as it is on disk; name another file")


def _is_same(archive: Archive, entry: zipfile.ZipInfo, path: Path) -> bool:
    size = path.stat().st_size
    if entry.file_size != size:
        return False
    with archive.open(entry.filename, size) as stored:
        # Reading to the end also compares the checksum.
        return all(stored.read(len(chunk)) == chunk for chunk in _chunks(path)) and not stored.read(1)


def _remove(folder: Path, files: Mapping[Path, tuple[int, ...]]) -> None:
    """Remove the folder, unless a process has begun to write in it. It is renamed first, and back if that is so."""
    place = make_subfolder(folder.absolute().parent, TRASH) / folder.name
    if place.exists():
        raise ConfigError(f"{place}: is left by a deletion that was killed; aerun-tidy {folder.parent} removes it")
    folder.rename(place)
    moved = {place / path.relative_to(folder): version for path, version in files.items()}
    held = any(is_held(inner) for inner in {path.parent for path in moved} - {place})
    if held or set(list_files(place)) != moved.keys() or any(file_version(path) != moved[path] for path in moved):
        place.rename(folder)
        remove_empty([place.parent])
        raise BusyError(f"{folder}: a process has begun to write in it; nothing was removed")
    shutil.rmtree(place)
    remove_empty([place.parent])
