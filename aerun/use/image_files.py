"""Image files as a run's inputs, and images as PNG files."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerun.base.files import make_folder, write_bytes
from aerun.dataset.cache import cached_rows, lookup_rows
from aerun.dataset.decoder import is_sideways
from aerun.dataset.folder import decoded_key
from aerun.dataset.picture_files import find_pictures, open_picture, pillow_settings, suffixes
from aerun.dataset.picture_notes import PictureNotes
from aerun.dataset.row_file import CHUNK as CHUNK_BYTES
from aerun.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from aerun.use.opened_run import OpenedRun

log = logging.getLogger(__name__)


def find_images(path: Path, quiet: bool = False) -> list[tuple[str, Path]]:
    """The image file ``path``, or all images in a folder and its subfolders, sorted: (name relative to it, path).

    Unless ``quiet``, logs in one line which files of a folder are left out. DataError if there is no image.
    """
    path = path.expanduser()
    allowed = ", ".join(sorted(suffixes()))
    if path.is_file():
        if path.suffix.lower() not in suffixes():
            raise DataError(f"{path}: is not an image file ({allowed})")
        return [(path.name, path)]
    if not path.is_dir():
        raise DataError(f"{path}: there is no such file or folder")
    found = find_pictures(path)
    if not found.paths:
        others = f"; it has {found.others}" if found.others else ""
        raise DataError(f"{path}: contains no image file ({allowed}){others}")
    if not quiet:
        found.log_left_out(path)
    return [(image.relative_to(path).as_posix(), image) for image in found.paths]


def describe_file(path: Path) -> tuple[int, int, int, int]:
    """Its bytes, the time of its change in nanoseconds, and the picture's width and height as shown; 0 if not read."""
    try:
        status = path.stat()
        with pillow_settings(), open_picture(path, load=False) as opened:
            width, height = opened.size[::-1] if is_sideways(opened) else opened.size
    except Exception:  # for damaged files Pillow raises nearly anything
        return 0, 0, 0, 0
    return status.st_size, status.st_mtime_ns, width, height


def read_inputs(
    run: OpenedRun, images: Sequence[tuple[str, Path]], root: Path | None = None
) -> Iterator[tuple[list[str], Tensor]]:
    """Image files as the run's inputs, in chunks: names, and uint8 [n,C,H,W].

    Undecodable files, and links that lead out of ``root``, are skipped with a warning. DataError if all are.
    """
    paths, notes = [path for _, path in images], PictureNotes()
    start = 0
    for chunk in run.decoder().chunks(paths, notes, root):
        yield from _select_decoded(images, notes.bad, start, chunk)
        start += len(chunk)
    _report(paths, notes)


def read_folder_inputs(run: OpenedRun, root: Path) -> Iterator[tuple[list[str], Tensor]]:
    """``read_inputs`` for a whole folder, with the decoded pixels cached on disk.

    The cache is shared with ``dataset=image_folder``, so links that lead out of the folder are skipped too.
    """
    root, images, notes = root.expanduser(), find_images(root, quiet=True), PictureNotes()
    paths, decoder = [path for _, path in images], run.decoder()
    size = len(paths) * math.prod(decoder.shape)

    def about() -> dict[str, Any]:
        _require_decoded(paths, notes)
        return notes.as_metadata()

    rows = cached_rows(decoded_key(root, paths, decoder), lambda: decoder.chunks(paths, notes, root), about, size)
    if rows is None:
        yield from read_inputs(run, images)
        return
    notes = PictureNotes.from_metadata(rows.metadata)
    # Many blocks of the file at a time: models take images in larger blocks, and pad the last one.
    step = rows.block * max(1, CHUNK_BYTES // (rows.block * rows.row_bytes))
    for start in range(0, len(rows), step):
        yield from _select_decoded(images, notes.bad, start, rows.read(start, min(start + step, len(rows))))
    _report(paths, notes)


def read_cached_inputs(run: OpenedRun, root: Path, names: Sequence[str]) -> tuple[list[str], Tensor] | None:
    """Names and inputs [n,C,H,W] of the decodable images among ``names``; None if the folder is not cached."""
    import numpy as np
    import torch

    if not root.is_dir():
        return None
    images = [(path.relative_to(root).as_posix(), path) for path in find_pictures(root).paths]
    rows = lookup_rows(decoded_key(root, [path for _, path in images], run.decoder()))
    if rows is None:
        return None
    bad, wanted = dict(rows.metadata["bad"]), set(names)
    found = [index for index, (name, _) in enumerate(images) if name in wanted and index not in bad]
    if not found:
        return None
    pixels = np.concatenate([rows.read(index, index + 1) for index in found])
    return [images[index][0] for index in found], torch.from_numpy(pixels)


def _select_decoded(
    images: Sequence[tuple[str, Path]], bad: dict[int, str], start: int, chunk: np.ndarray
) -> Iterator[tuple[list[str], Tensor]]:
    """Names and pixels of the decoded images in a chunk; nothing if there are none."""
    import torch

    decoded = [index for index in range(len(chunk)) if start + index not in bad]
    if decoded:
        yield [images[start + index][0] for index in decoded], torch.from_numpy(chunk[decoded])


def _require_decoded(paths: list[Path], notes: PictureNotes) -> None:
    """DataError if no file could be decoded."""
    if len(notes.bad) == len(paths):
        others = f"; none of the {len(paths)} image files can" if len(paths) > 1 else ""
        raise DataError(f"{paths[0]}: cannot be decoded ({notes.bad[0]}){others}")


def _report(paths: list[Path], notes: PictureNotes) -> None:
    """Warn about files that do not decode, or that are nearly black. DataError if none decodes."""
    _require_decoded(paths, notes)
    named = notes.named_failures()
    for index, reason in named:
        log.warning("%s: cannot be decoded (%s); skipped", paths[index], reason)
    if len(notes.bad) > len(named):
        log.warning("%d more image files cannot be decoded; skipped", len(notes.bad) - len(named))
    notes.warn_if_dark(paths)


def to_uint8(images: Tensor) -> np.ndarray:
    """images[N,C,H,W] or [C,H,W] in [0,1] -> uint8 of the same shape: clipped, scaled by 255 and rounded."""
    pixels: np.ndarray = (images.detach().cpu().clamp(0, 1) * 255).round().byte().numpy()
    return pixels


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write uint8 pixels [H,W,C], with one to four channels. Creates the folder. StorageError if writing fails."""
    from PIL import Image

    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    content = io.BytesIO()
    image.save(content, "png")
    make_folder(path.parent)
    write_bytes(path, content.getvalue())
