"""Picture files of a folder as a run's inputs, and images as picture files."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerun.base.files import make_folder, write_bytes
from aerun.dataset.cache import cached_rows, lookup_rows
from aerun.dataset.decoder import SUFFIXES, list_pictures
from aerun.dataset.folder import decoded_key
from aerun.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from aerun.use.opened_run import OpenedRun

MAX_WARNINGS = 20  # pictures that cannot be decoded are named up to so many
log = logging.getLogger(__name__)


def find_images(place: Path) -> list[tuple[str, Path]]:
    """The picture file ``place``, or those in the folder and below, sorted, each with its name relative to the folder.

    DataError if there is nothing, or no picture.
    """
    place = place.expanduser()
    if place.is_file():
        if place.suffix.lower() not in SUFFIXES:
            raise DataError(f"{place}: is no picture ({', '.join(sorted(SUFFIXES))})")
        return [(place.name, place)]
    if not place.is_dir():
        raise DataError(f"{place}: there is no such file or folder")
    found = [(path.relative_to(place).as_posix(), path) for path in list_pictures(place)]
    if not found:
        raise DataError(f"{place}: has no picture ({', '.join(sorted(SUFFIXES))}) in it or below")
    return found


def read_inputs(run: OpenedRun, pictures: Sequence[tuple[str, Path]]) -> Iterator[tuple[list[str], Tensor]]:
    """The pictures as the run's inputs, uint8 [n,C,H,W], in chunks, with their names.

    Those that do not decode are named in a warning and left out. DataError if none does.
    """
    paths, bad = [path for _, path in pictures], dict[int, str]()
    start = 0
    for chunk in run.decoder().chunks(paths, bad):
        yield from _select_decoded(pictures, bad, start, chunk)
        start += len(chunk)
    _report_undecodable(paths, bad)


def read_folder_inputs(run: OpenedRun, root: Path) -> Iterator[tuple[list[str], Tensor]]:
    """As ``as_inputs`` of all pictures in a folder and below, whose decoded pixels are kept for the next time.

    They are those that a run over ``dataset=image_folder`` keeps, so links out of the folder count as not decoding.
    """
    root, pictures, bad = root.expanduser(), find_images(root), dict[int, str]()
    paths, decoder = [path for _, path in pictures], run.decoder()
    size = len(paths) * math.prod(decoder.shape)

    def about() -> dict[str, Any]:
        _report_undecodable(paths, bad, warn=False)
        return {"bad": list(bad.items())}

    rows = cached_rows(decoded_key(root, paths, decoder), lambda: decoder.chunks(paths, bad, root), about, size)
    if rows is None:
        yield from read_inputs(run, pictures)
        return
    bad = dict(rows.metadata["bad"])
    for start in range(0, len(rows), rows.block):
        yield from _select_decoded(pictures, bad, start, rows.read(start, min(start + rows.block, len(rows))))
    _report_undecodable(paths, bad)


def read_cached_inputs(run: OpenedRun, root: Path, names: Sequence[str]) -> tuple[list[str], Tensor] | None:
    """Those of ``names`` that are in the folder and decode, as inputs, if all its decoded pictures have been kept."""
    import numpy as np
    import torch

    if not root.is_dir():
        return None
    pictures = [(path.relative_to(root).as_posix(), path) for path in list_pictures(root)]
    rows = lookup_rows(decoded_key(root, [path for _, path in pictures], run.decoder()))
    if rows is None:
        return None
    bad, wanted = dict(rows.metadata["bad"]), set(names)
    found = [index for index, (name, _) in enumerate(pictures) if name in wanted and index not in bad]
    if not found:
        return None
    images = np.concatenate([rows.read(index, index + 1) for index in found])
    return [pictures[index][0] for index in found], torch.from_numpy(images)


def _select_decoded(
    pictures: Sequence[tuple[str, Path]], bad: dict[int, str], start: int, chunk: np.ndarray
) -> Iterator[tuple[list[str], Tensor]]:
    """Names and images of a chunk's pictures that have been decoded, if there are any."""
    import torch

    kept = [index for index in range(len(chunk)) if start + index not in bad]
    if kept:
        yield [pictures[start + index][0] for index in kept], torch.from_numpy(chunk[kept])


def _report_undecodable(paths: list[Path], bad: dict[int, str], warn: bool = True) -> None:
    """Name the pictures that do not decode. DataError if none does."""
    if len(bad) == len(paths):
        raise DataError(f"none of the {len(paths)} pictures can be decoded: {paths[0]}: {bad[0]}")
    for index, reason in list(bad.items())[:MAX_WARNINGS] if warn else []:
        log.warning("%s: cannot be decoded (%s); left out", paths[index], reason)
    if warn and len(bad) > MAX_WARNINGS:
        log.warning("%d more pictures cannot be decoded and are left out", len(bad) - MAX_WARNINGS)


def to_uint8(images: Tensor) -> np.ndarray:
    """images[N,C,H,W] or [C,H,W] in [0,1] -> uint8 of the same shape, rounded; what is outside is clipped."""
    pixels: np.ndarray = (images.detach().cpu().clamp(0, 1) * 255).round().byte().numpy()
    return pixels


def write_png(path: Path, pixels: np.ndarray) -> None:
    """uint8 [H,W,C], of one channel to four, into a PNG file, whose folder is made. StorageError if it cannot be."""
    from PIL import Image

    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    content = io.BytesIO()
    picture.save(content, "png")
    make_folder(path.parent)
    write_bytes(path, content.getvalue())
