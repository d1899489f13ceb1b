"""Compress and decompress the files of a plan."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path

from aerun.base.files import make_folder, require_regular, write_bytes
from aerun.base.progress_bar import progress_bar
from aerun.errors import DataError
from aerun.use.compression.compress import PictureCodec
from aerun.use.compression.picture import read_picture
from aerun.use.compression.plan import Files
from aerun.use.compression.sizes import Sizes, lossless_formats, mean_psnr

log = logging.getLogger(__name__)


def compress_files(codec: PictureCodec, files: Files, quality: int | None, write: bool, compare: bool) -> Sizes:
    """Compress each picture, and ``write`` it; ``compare`` it with what it was and with lossless formats. Pictures that
    cannot be decoded are skipped with a warning. DataError if all are."""
    formats = lossless_formats() if compare else {}
    sizes = Sizes(lossless={name: {} for name in formats})
    for name, path, target in _each(files):
        with _skipped(path, len(files)):
            picture = read_picture(path, codec.white_value)
            content = codec.compress(picture, quality)
            if compare:
                sizes.psnr[name] = mean_psnr(picture, codec.decompress(content))
                for format_name, save in formats.items():
                    sizes.lossless[format_name][name] = save(picture, path)
            if write:
                make_folder(target.parent)
                write_bytes(target, content)
            sizes.before[name], sizes.written[name] = path.stat().st_size, len(content)
            sizes.pixels += picture.pixels.shape[0] * picture.pixels.shape[1]
    if not sizes.before:
        raise DataError(f"none of the {len(files)} pictures can be compressed")
    return sizes


def decompress_files(codec: PictureCodec, files: Files) -> list[str]:
    """Write the PNG of each file; those that cannot be read are skipped with a warning. Returns the names of the
    others. DataError if there are none."""
    done = list[str]()
    for name, path, target in _each(files):
        with _skipped(path, len(files)):
            try:
                require_regular(path)
                content = path.read_bytes()
            except OSError as error:
                raise DataError(f"cannot be read ({error.strerror})") from error
            picture = io.BytesIO()
            codec.decompress(content).as_image().save(picture, "png")
            make_folder(target.parent)
            write_bytes(target, picture.getvalue())
            done.append(name)
    if not done:
        raise DataError(f"none of the {len(files)} files can be read")
    return done


def _each(files: Files) -> Iterator[tuple[str, Path, Path]]:
    with progress_bar("pictures", len(files)) as bar:
        for file in files:
            yield file
            bar.update()


@contextlib.contextmanager
def _skipped(path: Path, files: int) -> Iterator[None]:
    """A block for one file: what is wrong with it ends the command if it is the only one, else it is a warning."""
    try:
        yield
    except DataError as error:
        if files == 1:
            raise DataError(f"{path}: {error}") from error
        log.warning("%s: %s; skipped", path, error)
