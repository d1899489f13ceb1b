"""How near is a near-duplicate: no farther than a picture from a poorer copy of itself."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from aerun.dataset.pictures import any_size, over_white
from aerun.use.collection.fingerprints import Fingerprints
from aerun.use.collection.thumbnails import collection_inputs
from aerun.use.pictures import as_bytes
from aerun.use.search.index import Index, Metric, exact_distances

if TYPE_CHECKING:
    from torch import Tensor

    from aerun.use.opened import Opened

SAMPLE, SHARE, QUALITY = 256, 0.9, 75
SAME, OTHERS = 1e-9, 10  # of a code that is there several times the tenth other may be the first that differs


def near_threshold(run: Opened, fingerprints: Fingerprints, metric: Metric = "cosine") -> float:
    """The distance within which nine of ten pictures are from their own copy of half the size, kept as JPEG of quality
    75; over 256 of the collection. Of a run's own data, which are small already, the copy is not made smaller.

    It is never more than the median distance to the nearest different code: a model that tells pictures poorly apart
    would else call most of them the same.
    """
    originals, copies, rows = copied(run, fingerprints)
    first, second = (run.encode(images).flatten(1).numpy() for images in (originals, copies))
    apart = exact_distances(first, second, metric)
    near = Index(fingerprints.main, metric).query(first, 1 + OTHERS, [[row] for row in rows.tolist()]).distances
    near = np.where(near > SAME, near, np.inf).min(1)
    near = near[np.isfinite(near)]
    return float(min(np.quantile(apart, SHARE), np.median(near) if len(near) else np.inf))


def copied(run: Opened, fingerprints: Fingerprints) -> tuple[Tensor, Tensor, np.ndarray]:
    """Some pictures of the collection and poorer copies of them [n,C,H,W], and their rows; files that are gone are
    left out."""
    import torch

    rows, images = collection_inputs(run, fingerprints, SAMPLE)
    pixels = images.numpy() if images.dtype == torch.uint8 else as_bytes(images)
    decoder, copies = run.decoder(), list[np.ndarray]()
    for row, picture in zip(rows.tolist(), pixels, strict=True):
        if fingerprints.split:
            small = Image.fromarray(picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0))
            copies.append(decoder.fitted(as_jpeg(small)))
        else:
            with any_size(), Image.open(Path(fingerprints.root) / fingerprints.names[row]) as opened:
                whole = over_white(ImageOps.exif_transpose(opened)).convert("RGB")
            copies.append(decoder.fitted(as_jpeg(whole.reduce(2) if min(whole.size) > 1 else whole)))
    return torch.from_numpy(pixels), torch.from_numpy(np.stack(copies)), rows


def as_jpeg(picture: Image.Image) -> Image.Image:
    """What is left of a picture that was kept as JPEG."""
    content = io.BytesIO()
    picture.save(content, "jpeg", quality=QUALITY)
    return Image.open(content)
