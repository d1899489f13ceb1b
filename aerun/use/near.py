"""How near is a near-duplicate: no farther than a picture from a poorer copy of itself."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from aerun.use.fingerprints import Fingerprints
from aerun.use.pictures import as_bytes
from aerun.use.search import Metric, exact_distances
from aerun.use.thumbnails import collection_inputs

if TYPE_CHECKING:
    from aerun.use.opened import Opened

SAMPLE, SHARE, QUALITY, SMALLER = 256, 0.9, 75, 0.75
RANDOM_PAIRS, RANDOM_SHARE, SAME = 20_000, 0.001, 1e-9


def near_threshold(
    run: Opened, fingerprints: Fingerprints, metric: Metric = "cosine", trusted_packages: Sequence[str] = ()
) -> float:
    """The distance within which nine of ten pictures are from their own copy, which was scaled to three quarters and
    back and kept as JPEG of quality 75; over 256 of the collection.

    It is never more than what one of a thousand random pairs of different codes is within: a model that tells pictures
    poorly apart would else call many of them the same.
    """
    import torch

    rows, images = collection_inputs(run, fingerprints, SAMPLE, trusted_packages)
    pixels = images.numpy() if images.dtype == torch.uint8 else as_bytes(images)
    copies = torch.from_numpy(np.stack([poorer(picture) for picture in pixels]))
    apart = exact_distances(fingerprints.main[rows], run.encode(copies).flatten(1).numpy(), metric)
    random = np.random.default_rng(0)
    first, second = random.integers(0, len(fingerprints), (2, RANDOM_PAIRS))
    pairs = exact_distances(fingerprints.main[first], fingerprints.main[second], metric)
    pairs = pairs[pairs > SAME]
    most = np.quantile(pairs, RANDOM_SHARE) if len(pairs) else np.inf
    return float(min(np.quantile(apart, SHARE), most))


def poorer(picture: np.ndarray) -> np.ndarray:
    """uint8 [C,H,W] -> a poorer copy of the same shape."""
    from PIL import Image

    original = Image.fromarray(picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0))
    smaller = tuple(max(1, round(side * SMALLER)) for side in original.size)
    copy = original.resize((smaller[0], smaller[1]), Image.Resampling.BICUBIC)
    content = io.BytesIO()
    copy.resize(original.size, Image.Resampling.BICUBIC).save(content, "jpeg", quality=QUALITY)
    pixels = np.asarray(Image.open(content))
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
