"""What a picture was cropped from: its neighbours by codes, put in order by their pixels.

The codes of a cropped picture, shown with margins, find its original among the first few dozen; the pixels of these,
cropped in turn at many places, tell which of them it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aerun.use.collection.fingerprints import Fingerprints
from aerun.use.collection.thumbnails import read_rows
from aerun.use.collection.views import MAX_VIEWS, crop_each, encode_views
from aerun.use.image_files import read_inputs
from aerun.use.search.queries import Query
from aerun.use.search.vector_index import ExactIndex, Metric, Neighbors, open_index

if TYPE_CHECKING:
    from torch import Tensor

    from aerun.use.opened_run import OpenedRun

CANDIDATES = 50  # candidates
# Shares of the sides that may be left, and at how many places either way: steps of about a fortieth of the picture.
POSITIONS_PER_SHARE = {0.95: 3, 0.9: 5, 0.8: 7}
MISSING_DISTANCE = 1.0  # what cannot be compared is as far as pictures can be
QUERIES_PER_CHUNK = 16  # queries whose candidates are in memory at once
CROPS = [
    (share, (i / (steps - 1), j / (steps - 1)))
    for share, steps in POSITIONS_PER_SHARE.items()
    for i in range(steps)
    for j in range(steps)
]
HALVED_FROM_PIXELS = 16  # pixels of the shorter side from which on crops are first compared at half the size


def search_cropped(
    run: OpenedRun | str | os.PathLike[str],
    fingerprints: Fingerprints,
    images: Tensor,
    k: int = 12,
    *,
    metric: Metric = "euclidean",
    views: int = MAX_VIEWS,
    index: ExactIndex | None = None,
    excluded: Sequence[Sequence[int]] | None = None,
) -> Neighbors:
    """The ``k`` pictures from which each of ``images`` [Q,C,H,W], as the run takes them, has most likely been cropped.

    Of the 50 nearest codes, or ``k`` if that is more, those are nearest whose pixels are: see ``pixel_distances``.
    Their pictures must still be there; one that is gone comes last, at distance 1. DataError if all are,
    nothing tells where they are, or the codes are of another run.
    """
    from aerun.use.opened_run import as_opened

    run = as_opened(run)
    fingerprints.require_same_run(run)
    index = index or open_index(fingerprints, metric)
    codes = encode_with_margins(run.encode, images, views)
    near = index.query(codes if views > 1 else codes[:, 0], max(k, CANDIDATES), excluded).rows
    return rank_by_pixels(lambda rows: read_rows(run, fingerprints, rows), images, near, k)


def encode_with_margins(encode: Callable[[Tensor], Tensor], images: Tensor, views: int = MAX_VIEWS) -> np.ndarray:
    """The codes of images[N,C,H,W] as they are and with margins of each size at ``views`` - 1 places: [N,V,D]."""
    parts = [encode_views(encode, images, views, 1 / share) for share in (POSITIONS_PER_SHARE if views > 1 else [1.0])]
    return np.concatenate([parts[0], *(part[:, 1:] for part in parts[1:])], 1)


def rank_by_pixels(
    read: Callable[[np.ndarray], tuple[np.ndarray, Tensor]], images: Tensor, near: np.ndarray, k: int
) -> Neighbors:
    """Of the rows ``near`` [Q,n] the ``k`` whose pixels are nearest to images[Q,C,H,W]; equal ones stay in order.

    ``read`` gives of sorted rows those that can be read, and their images.
    """
    k = min(k, near.shape[1])
    rows, distances = np.empty((len(near), k), np.int64), np.empty((len(near), k))
    for start in range(0, len(near), QUERIES_PER_CHUNK):
        found, pictures = read(np.unique(near[start : start + QUERIES_PER_CHUNK]))
        place = {row: number for number, row in enumerate(found.tolist())}
        for number, (candidates, image) in enumerate(
            zip(near[start : start + QUERIES_PER_CHUNK], images[start : start + QUERIES_PER_CHUNK], strict=True), start
        ):
            there = np.array([row in place for row in candidates.tolist()], bool)
            apart = np.full(len(candidates), MISSING_DISTANCE)
            if there.any():
                numbers = [place[row] for row in candidates[there].tolist()]
                apart[there] = pixel_distances(image, pictures[numbers])
            order = np.argsort(apart, kind="stable")[:k]
            rows[number], distances[number] = candidates[order], apart[order]
    return Neighbors(rows, distances)


def pixel_distances(image: Tensor, pictures: Tensor) -> np.ndarray:
    """image[C,H,W], pictures[n,C,H,W], uint8 or in [0,1] -> [n], from 0 to 1.

    The root of the mean squared difference between the image and that part of the picture which is most like it: the
    whole, or one of ``CROPS``, chosen at half the size where that is not too small.
    """
    import torch
    from torch.nn.functional import avg_pool2d

    shown, wanted = _as_float(pictures), _as_float(image)
    small, goal = (avg_pool2d(x, 2) if min(x.shape[-2:]) >= HALVED_FROM_PIXELS else x for x in (shown, wanted))
    views = chain([small], (crop_each(small, [part] * len(small)) for part in CROPS))  # one at a time in memory
    best = torch.stack([_mean_squares(view, goal) for view in views]).argmin(0).tolist()
    whole = _mean_squares(shown, wanted)
    part = _mean_squares(crop_each(shown, [CROPS[max(0, number - 1)] for number in best]), wanted)
    return np.asarray(torch.where(torch.tensor(best) == 0, whole, part).sqrt().numpy())


def _mean_squares(images: Tensor, wanted: Tensor) -> Tensor:
    return (images - wanted).square().double().mean((1, 2, 3))


def _as_float(images: Tensor) -> Tensor:
    return images.float() if images.dtype.is_floating_point else images.float() / 255


def read_query_images(
    run: OpenedRun, fingerprints: Fingerprints, queries: Sequence[Query]
) -> tuple[list[Query], Tensor]:
    """Those of the queries whose pictures can be read, and these as the run takes them [n,C,H,W].

    Others are named in a warning. DataError if none can be read.
    """
    import torch

    files = [(str(number), query.path) for number, query in enumerate(queries) if query.path is not None]
    inside = {query.row for query in queries if query.path is None}
    images: dict[int, Tensor] = {}
    if files:
        for names, chunk in read_inputs(run, [(name, Path(path)) for name, path in files]):
            images |= dict(zip(map(int, names), chunk, strict=True))
    if inside:
        rows, chunk = read_rows(run, fingerprints, np.array(sorted(inside)))
        known = dict(zip(rows.tolist(), chunk, strict=True))
        images |= {n: known[query.row] for n, query in enumerate(queries) if query.path is None and query.row in known}
    numbers = sorted(images)
    return [queries[number] for number in numbers], torch.stack([images[number] for number in numbers])
