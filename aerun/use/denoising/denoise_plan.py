"""What is cleaned, into which file, and beside which original: found before any work, and without torch."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

from aerun.dataset.decoder import failure_reason
from aerun.errors import ConfigError, DataError
from aerun.use.denoising.scan_files import SAVE_OPTIONS, output_name, size_of
from aerun.use.image_files import find_images
from aerun.use.outputs import require_absent

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """Names, pictures and the files to write; which of these files are ``there`` and stay; originals by name."""

    pairs: list[tuple[str, Path, Path]]
    there: frozenset[str] = frozenset()
    originals: dict[str, Path] = field(default_factory=dict)


def make_plan(
    source: Path, target: Path, originals: Path | None = None, *, overwrite: bool = False, resume: bool = False
) -> Plan:
    """DataError if there is no picture, ConfigError if a file would be lost; ``resume``: what is cleaned stays so.

    The pictures themselves, and their clean originals, are never written over, whatever ``overwrite`` says.
    """
    source, target = source.expanduser(), target.expanduser()
    pairs = _find_pairs(source, target)
    if source.is_dir() and target.exists() and target.samefile(source):
        raise ConfigError(f"{target}: IN and OUT are the same; name another folder: originals are never replaced")
    _protect_originals(pairs, [path for _, path, _ in pairs], "IN")
    there = frozenset(name for name, _, place in pairs if place.is_file()) if resume else frozenset()
    clean = {} if originals is None else _match_originals(pairs, originals.expanduser())
    _protect_originals(pairs, list(clean.values()), "--clean")
    require_absent([place for name, _, place in pairs if name not in there], overwrite)
    return Plan(pairs, there, clean)


def _protect_originals(pairs: list[tuple[str, Path, Path]], originals: list[Path], which: str) -> None:
    """ConfigError if a file to write is one of these, by whatever name."""
    known = {(about.st_dev, about.st_ino) for path in originals if (about := _stat(path))}
    for _, _, place in pairs:
        if (about := _stat(place)) and (about.st_dev, about.st_ino) in known:
            raise ConfigError(
                f"{place}: {which} and OUT are the same; name another folder: originals are never replaced"
            )


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:  # nothing there, or a link to nothing
        return None


def _find_pairs(source: Path, target: Path) -> list[tuple[str, Path, Path]]:
    found = find_images(source)
    if source.is_file():
        is_file = target.suffix.lower() in SAVE_OPTIONS and not target.is_dir()
        if target.suffix and not is_file and not target.is_dir():
            raise DataError(f"{target}: cleaned pictures are written as {', '.join(sorted(SAVE_OPTIONS))}")
        return [(name, path, target if is_file else target / output_name(name)) for name, path in found]
    if target.is_file():
        raise DataError(f"{target}: is a file, {source} a folder")
    apart = target.resolve() != source.resolve()
    within = [path for _, path in found if apart and path.resolve().is_relative_to(target.resolve())]
    return [(name, path, target / output_name(name)) for name, path in found if path not in within]


def _match_originals(pairs: list[tuple[str, Path, Path]], folder: Path) -> dict[str, Path]:
    """The clean original of each picture that has one: of the same name, whatever its ending."""
    found = find_images(folder)
    if folder.is_file():
        originals = {pairs[0][0]: folder} if len(pairs) == 1 else {}
    else:
        by_stem = {str(Path(name).with_suffix("")): path for name, path in reversed(found)}
        exact = dict(found)
        matched = {name: exact.get(name) or by_stem.get(str(Path(name).with_suffix(""))) for name, _, _ in pairs}
        originals = {name: path for name, path in matched.items() if path is not None}
        missing = [name for name in matched if name not in originals]
        if missing and originals:
            log.warning(
                "%s has no original of %s%s", folder, missing[0], f" and {len(missing) - 1} more" * (len(missing) > 1)
            )
    if not originals:
        raise DataError(f"--clean {folder}: has no original of any of the pictures; they go by their names")
    _check_sizes({name: path for name, path, _ in pairs}, originals)
    return originals


def _check_sizes(pictures: dict[str, Path], originals: dict[str, Path]) -> None:
    """DataError if a picture and its original differ in size; pictures that cannot be read are named when it is their
    turn."""
    different = list[str]()
    for name, original in originals.items():
        sizes = _compare_sizes(pictures[name], original)
        if sizes is not None and sizes[0] != sizes[1]:
            told = " and ".join(f"{width}x{height}" for width, height in sizes)
            different.append(f"{name}: the picture and its clean original differ in size, {told}")
    if different:
        raise DataError(different[0] + f"; {len(different) - 1} more do" * (len(different) > 1))


def _compare_sizes(picture: Path, original: Path) -> list[tuple[int, int]] | None:
    """Of both; None if the picture cannot be read. Only what seems to differ is looked at more closely."""
    sizes = list[tuple[int, int]]()
    for thorough in (False, True):
        try:
            sizes = [size_of(picture, thorough)]
        except Exception:  # damaged metadata make Pillow raise nearly anything
            return None
        try:
            sizes.append(size_of(original, thorough))
        except Exception as error:
            raise DataError(f"--clean: {original}: cannot be decoded ({failure_reason(error)})") from error
        if sizes[0] == sizes[1]:
            break
    return sizes
