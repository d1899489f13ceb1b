"""Which files are compressed, and into which files, and back. Needs no torch."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from aerun.base.files import MAX_NAME_BYTES
from aerun.errors import ConfigError, DataError
from aerun.use.image_files import find_images
from aerun.use.outputs import require_absent

SUFFIX = ".aec"
Files = list[tuple[str, Path, Path]]  # name, file to read, file to write


def match_pictures(source: Path, target: Path | None, overwrite: bool) -> Files:
    """Pictures, and the file of each: its name with ``.aec`` after it. Without a target the files are their own, and
    nothing is checked. DataError and ConfigError before work begins."""
    found = find_images(source)
    if target is None:
        return [(name, path, path) for name, path in found]
    return _match(found, source, target, lambda name: f"{name}{SUFFIX}", SUFFIX, overwrite)


def match_compressed(source: Path, target: Path, overwrite: bool) -> Files:
    """Files of ``aerun-compress``, and the PNG of each. DataError and ConfigError before work begins."""
    source = source.expanduser()
    if not source.exists():
        raise DataError(f"{source}: there is no such file or folder")
    found = [(source.name, source)]
    if source.is_dir():
        found = [
            (path.relative_to(source).as_posix(), path)
            for path in sorted(source.rglob("*"))
            if path.suffix.lower() == SUFFIX
        ]
        if not found:
            raise DataError(f"{source}: contains no file with the ending {SUFFIX}")

    def as_png(name: str) -> str:
        plain = name[: -len(SUFFIX)] if name.lower().endswith(SUFFIX) else name
        return plain if plain.lower().endswith(".png") else f"{plain}.png"

    return _match(found, source, target, as_png, ".png", overwrite)


def _match(
    found: list[tuple[str, Path]],
    source: Path,
    target: Path,
    rename: Callable[[str], str],
    suffix: str,
    overwrite: bool,
) -> Files:
    source, target = source.expanduser(), target.expanduser()
    is_file = source.is_file() and target.suffix.lower() == suffix and not target.is_dir()
    if source.is_file() and target.suffix and not is_file and not target.is_dir():
        raise DataError(f"{target}: must be a folder, or end in {suffix}")
    if source.is_dir() and target.is_file():
        raise DataError(f"{target}: is a file, but {source} is a folder; name a folder")
    files = [(name, path, target if is_file else target / rename(name)) for name, path in found]
    times = Counter(output for _, _, output in files)
    for name, path, output in files:
        if times[output] > 1:
            raise ConfigError(f"{output}: would be written for {name} and for another file; name them differently")
        if output.exists() and output.samefile(path):
            raise ConfigError(f"{output}: is the file itself, and originals are never replaced; name another OUT")
        if suffix == ".png" and output.exists() and output.parent.samefile(path.parent):
            raise ConfigError(f"{output}: is in IN, where originals are, which are never replaced; name another OUT")
        if len(os.fsencode(output.name)) > MAX_NAME_BYTES:
            raise ConfigError(f"{output}: its name has more than {MAX_NAME_BYTES} bytes; rename {name}")
    require_absent([output for _, _, output in files], overwrite)
    return files
