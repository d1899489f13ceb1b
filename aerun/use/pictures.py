"""Picture files of a folder as a run's inputs, and images as picture files."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aerun.dataset.pictures import ENDINGS, list_pictures
from aerun.errors import DataError
from aerun.files import storage_error, write_bytes

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from aerun.use.opened import Opened

NAMED = 20  # pictures that cannot be decoded are named up to so many
log = logging.getLogger(__name__)


def find(place: Path) -> list[tuple[str, Path]]:
    """The picture file ``place``, or those in the folder and below, sorted, each with its name relative to the folder.

    DataError if there is nothing, or no picture.
    """
    place = place.expanduser()
    if place.is_file():
        if place.suffix.lower() not in ENDINGS:
            raise DataError(f"{place}: is no picture ({', '.join(sorted(ENDINGS))})")
        return [(place.name, place)]
    if not place.is_dir():
        raise DataError(f"{place}: there is no such file or folder")
    found = [(path.relative_to(place).as_posix(), path) for path in list_pictures(place)]
    if not found:
        raise DataError(f"{place}: has no picture ({', '.join(sorted(ENDINGS))}) in it or below")
    return found


def as_inputs(run: Opened, pictures: Sequence[tuple[str, Path]]) -> Iterator[tuple[list[str], Tensor]]:
    """The pictures as the run's inputs, uint8 [n,C,H,W], in chunks, with their names.

    Those that do not decode are named in a warning and left out. DataError if none does.
    """
    import torch

    paths, bad = [path for _, path in pictures], dict[int, str]()
    start = 0
    for chunk in run.decoder().chunks(paths, bad):
        kept = [index for index in range(len(chunk)) if start + index not in bad]
        if kept:
            yield [pictures[start + index][0] for index in kept], torch.from_numpy(chunk[kept])
        start += len(chunk)
    for index, reason in list(bad.items())[:NAMED]:
        log.warning("%s: cannot be decoded (%s); left out", paths[index], reason)
    if len(bad) > NAMED:
        log.warning("%d more pictures cannot be decoded and are left out", len(bad) - NAMED)
    if len(bad) == len(paths):
        raise DataError(f"none of the {len(paths)} pictures can be decoded: {paths[0]}: {bad[0]}")


def as_bytes(images: Tensor) -> np.ndarray:
    """images[N,C,H,W] or [C,H,W] in [0,1] -> uint8 of the same shape, rounded; what is outside is clipped."""
    pixels: np.ndarray = (images.detach().cpu().clamp(0, 1) * 255).round().byte().numpy()
    return pixels


def write_picture(path: Path, pixels: np.ndarray) -> None:
    """uint8 [H,W,C], of one channel to four, into a PNG file, whose folder is made. StorageError if it cannot be."""
    from PIL import Image

    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    content = io.BytesIO()
    picture.save(content, "png")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, path) from error
    write_bytes(path, content.getvalue())
