"""Which files are cleaned, into which files, and compared with which originals. Needs no torch."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

from aerun.dataset.picture_files import failure_reason
from aerun.errors import ConfigError, DataError
from aerun.use.denoising.scan_files import SAVE_OPTIONS, output_name, size_of
from aerun.use.image_files import find_images
from aerun.use.outputs import and_more, plural, require_absent

log = logging.getLogger(__name__)

Files = list[tuple[str, Path, Path]]  # name, image to clean, file to write


@dataclass(frozen=True)
class Plan:
    """``files`` to clean; names of those whose cleaned file is ``existing`` and is kept; by name ``originals``,
    ``masks`` and the files of ``differences``."""

    files: Files
    existing: frozenset[str] = frozenset()
    originals: dict[str, Path] = field(default_factory=dict)
    masks: dict[str, Path] = field(default_factory=dict)
    differences: dict[str, Path] = field(default_factory=dict)


def make_plan(
    source: Path,
    target: Path,
    originals: Path | None = None,
    *,
    masks: Path | None = None,
    differences: Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
) -> Plan:
    """Match images, outputs, originals and masks. ``resume`` keeps existing outputs.

    DataError if there is no image, ConfigError if a file would be replaced without ``overwrite``. Images and originals
    are never replaced.
    """
    source, target = source.expanduser(), target.expanduser()
    files = _match_outputs(source, target, differences)
    if source.is_dir() and target.exists() and target.samefile(source):
        raise ConfigError(f"{target}: is IN itself, and originals are never replaced; name another OUT")
    existing = frozenset(name for name, _, output in files if output.is_file()) if resume else frozenset()
    clean = {} if originals is None else _match_others(files, originals.expanduser(), "--clean", "original")
    shown = {} if masks is None else _match_others(files, masks.expanduser(), "--mask", "mask")
    removed = {}
    if differences is not None:
        folder = differences.expanduser()
        removed = {name: folder / _as_png(name) for name, _, _ in files if name not in existing}
        outputs = {output.resolve() for _, _, output in files}
        if any(path.resolve() in outputs for path in removed.values()):
            raise ConfigError(f"--difference {folder}: is where the cleaned images go; name another folder")
    written = [(name, path, removed[name]) for name, path, _ in files if name in removed]
    for option, paths in (("IN", [path for _, path, _ in files]), ("--clean", clean), ("--mask", shown)):
        _protect([*files, *written], list(paths.values() if isinstance(paths, dict) else paths), option)
    new = [output for name, _, output in files if name not in existing]
    require_absent(new if resume else [*new, *removed.values()], overwrite)
    return Plan(files, existing, clean, shown, removed)


def _as_png(name: str) -> Path:
    written = Path(output_name(name))
    return written if written.suffix.lower() == ".png" else written.with_name(f"{written.name}.png")


def _protect(files: Files, protected: list[Path], where: str) -> None:
    """ConfigError if an output is one of the ``protected`` files, under any name."""
    known = {identity for path in protected if (identity := _file_identity(path))}
    for _, _, output in files:
        if _file_identity(output) in known:
            raise ConfigError(f"{output}: is in {where}, and originals are never replaced; name another OUT")


def _file_identity(path: Path) -> tuple[int, int] | None:
    """Device and inode; None for a missing file or a broken link."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _match_outputs(source: Path, target: Path, differences: Path | None) -> Files:
    found = find_images(source)
    if source.is_file():
        is_file = target.suffix.lower() in SAVE_OPTIONS and not target.is_dir()
        if target.suffix and not is_file and not target.is_dir():
            raise DataError(f"{target}: must be a folder, or end in {', '.join(sorted(SAVE_OPTIONS))}")
        return [(name, path, target if is_file else target / output_name(name)) for name, path in found]
    if target.is_file():
        raise DataError(f"{target}: is a file, but {source} is a folder; name a folder")
    folders = [target] if differences is None else [target, differences.expanduser()]
    written = [folder.resolve() for folder in folders if folder.resolve() != source.resolve()]
    return [
        (name, path, target / output_name(name))
        for name, path in found
        if not any(Path(os.path.realpath(path)).is_relative_to(folder) for folder in written)
    ]


def _match_others(files: Files, folder: Path, option: str, what: str) -> dict[str, Path]:
    """The original, or the mask, of each image that has one: the same name, with any suffix."""
    found = find_images(folder)
    if folder.is_file():
        originals = {files[0][0]: folder} if len(files) == 1 else {}
    else:
        exact = dict(found)
        by_stem = {str(Path(name).with_suffix("")): path for name, path in reversed(found)}
        matched = {name: exact.get(name) or by_stem.get(str(Path(name).with_suffix(""))) for name, _, _ in files}
        originals = {name: path for name, path in matched.items() if path is not None}
        missing = [name for name in matched if name not in originals]
        if missing and originals and option != "--mask":
            log.warning("%s: has no %s of %s%s", folder, what, missing[0], and_more(missing))
    if option == "--mask" and originals and len(originals) < len(files):
        missing = [name for name, _, _ in files if name not in originals]
        raise DataError(f"{option} {folder}: has no mask of {missing[0]}{and_more(missing)}; every image needs one")
    if not originals:
        raise DataError(f"{option} {folder}: has no {what} of any image; {what}s must have the images' names")
    _check_sizes({name: path for name, path, _ in files}, originals, option, what)
    return originals


def _check_sizes(images: dict[str, Path], originals: dict[str, Path], option: str, what: str) -> None:
    """DataError if an image and its original or mask differ in size. Unreadable images are reported later."""
    different = list[str]()
    for name, original in originals.items():
        sizes = _read_sizes(images[name], original, option)
        if sizes is not None and sizes[0] != sizes[1]:
            text = " and ".join(f"{width}x{height}" for width, height in sizes)
            different.append(f"{name}: the image and its {what} differ in size: {text}")
    if different:
        others = f"; so do {plural(len(different) - 1, 'other pair')}" if len(different) > 1 else ""
        raise DataError(different[0] + others)


def _read_sizes(image: Path, original: Path, option: str) -> list[tuple[int, int]] | None:
    """Sizes of both; None if the image cannot be read. Only files that seem to differ are read thoroughly."""
    sizes = list[tuple[int, int]]()
    for thorough in (False, True):
        try:
            sizes = [size_of(image, thorough)]
        except Exception:  # for damaged metadata Pillow raises nearly anything
            return None
        try:
            sizes.append(size_of(original, thorough))
        except Exception as error:
            raise DataError(f"{option}: {original}: cannot be decoded ({failure_reason(error)})") from error
        if sizes[0] == sizes[1]:
            break
    return sizes
