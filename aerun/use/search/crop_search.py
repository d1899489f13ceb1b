"""Find the image that a query was cropped from: candidates by code, ranked by pixels.

Encoded with several margins, a crop has its original among the first few dozen codes. Comparing its pixels with crops
of these candidates at many positions then shows which one it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from aerun.errors import DataError
from aerun.use.collection.fingerprint_files import as_fingerprints
from aerun.use.collection.fingerprints import Fingerprints
from aerun.use.collection.thumbnails import read_rows
from aerun.use.collection.views import MAX_VIEWS, crop_each, encode_views
from aerun.use.image_files import read_inputs
from aerun.use.search.code_search import open_index
from aerun.use.search.queries import Query
from aerun.use.search.vector_index import ExactIndex, Metric, Neighbors

if TYPE_CHECKING:
    from torch import Tensor

    from aerun.core.image_inputs import Images
    from aerun.use.collection.fingerprint_files import Collection
    from aerun.use.opened_run import OpenedRun, Run

CANDIDATES = 50
QUERIES_PER_CHUNK = 16  # their candidates' images are in memory together
MISSING_DISTANCE = 1.0  # of an image that cannot be read: the largest possible distance
HALVED_FROM_PIXELS = 16  # of the shorter side: larger images are first compared at half their size
# Remaining share of each side -> positions along each side, in steps of about 1/40 of the image.
POSITIONS_PER_SHARE = {0.95: 3, 0.9: 5, 0.8: 7}
CROPS = [
    (share, (i / (steps - 1), j / (steps - 1)))
    for share, steps in POSITIONS_PER_SHARE.items()
    for i in range(steps)
    for j in range(steps)
]


def search_cropped(
    run: Run,
    fingerprints: Collection,
    images: Images,
    k: int = 12,
    *,
    metric: Metric = "euclidean",
    views: int = MAX_VIEWS,
    index: ExactIndex | None = None,
    excluded: Sequence[Sequence[int]] | None = None,
) -> Neighbors:
    """The ``k`` images of a collection (fingerprints, or their file) from which each of images[Q,C,H,W], the run's
    inputs, was most likely cropped.

    The 50 nearest codes, or ``k`` if that is more, are ranked by ``pixel_distances``. An image whose file is missing
    comes last, at distance 1. DataError if all files are missing, if their folder is not known, or if the codes are of
    another run.
    """
    from aerun.use.opened_run import as_opened

    run, found = as_opened(run), as_fingerprints(fingerprints)
    found.require_same_run(run)
    inputs = run.as_inputs(images)
    index = index or open_index(found, metric)
    codes = encode_with_margins(run.encode, inputs, views)
    near = index.query(codes if views > 1 else codes[:, 0], max(k, CANDIDATES), excluded).rows
    return rank_by_pixels(lambda rows: read_rows(run, found, rows), inputs, near, k)


def encode_with_margins(encode: Callable[[Tensor], Tensor], images: Tensor, views: int = MAX_VIEWS) -> np.ndarray:
    """Codes of images[N,C,H,W], and of them with margins of each size at ``views`` - 1 positions: [N,V,D]."""
    shares = POSITIONS_PER_SHARE if views > 1 else [1.0]
    parts = [encode_views(encode, images, views, 1 / share) for share in shares]
    return np.concatenate([parts[0], *(part[:, 1:] for part in parts[1:])], 1)


def rank_by_pixels(
    read: Callable[[np.ndarray], tuple[np.ndarray, Tensor]], images: Tensor, candidates: np.ndarray, k: int
) -> Neighbors:
    """Of the rows candidates[Q,n], the ``k`` whose pixels are nearest to images[Q,C,H,W]; equal ones keep their order.

    ``read(rows)`` returns the readable ones among sorted rows, and their images.
    """
    k = min(k, candidates.shape[1])
    rows, distances = np.empty((len(candidates), k), np.int64), np.empty((len(candidates), k))
    for start in range(0, len(candidates), QUERIES_PER_CHUNK):
        chunk = slice(start, start + QUERIES_PER_CHUNK)
        readable, pixels = read(np.unique(candidates[chunk]))
        position = {row: number for number, row in enumerate(readable.tolist())}
        for number, (near, image) in enumerate(zip(candidates[chunk], images[chunk], strict=True), start):
            is_readable = np.array([row in position for row in near.tolist()], bool)
            found = np.full(len(near), MISSING_DISTANCE)
            if is_readable.any():
                numbers = [position[row] for row in near[is_readable].tolist()]
                found[is_readable] = pixel_distances(image, pixels[numbers])
            order = np.argsort(found, kind="stable")[:k]
            rows[number], distances[number] = near[order], found[order]
    return Neighbors(rows, distances)


def pixel_distances(image: Tensor, others: Tensor) -> np.ndarray:
    """image[C,H,W], others[n,C,H,W], uint8 or in [0,1] -> distances [n], from 0 to 1.

    The root mean squared difference of the image to the whole of the other, or to the one of its ``CROPS`` that is most
    similar at half the size.
    """
    import torch
    from torch.nn.functional import avg_pool2d

    wholes, wanted = _as_float(others), _as_float(image)
    small, goal = (avg_pool2d(x, 2) if min(x.shape[-2:]) >= HALVED_FROM_PIXELS else x for x in (wholes, wanted))
    views = chain([small], (crop_each(small, [crop] * len(small)) for crop in CROPS))  # one at a time in memory
    best = torch.stack([_mean_squares(view, goal) for view in views]).argmin(0).tolist()
    of_whole = _mean_squares(wholes, wanted)
    of_crop = _mean_squares(crop_each(wholes, [CROPS[max(0, number - 1)] for number in best]), wanted)
    return np.asarray(torch.where(torch.tensor(best) == 0, of_whole, of_crop).sqrt().numpy())


def _mean_squares(images: Tensor, wanted: Tensor) -> Tensor:
    return (images - wanted).square().double().mean((1, 2, 3))


def _as_float(images: Tensor) -> Tensor:
    return images.float() if images.dtype.is_floating_point else images.float() / 255


def read_query_images(
    run: OpenedRun, fingerprints: Fingerprints, queries: Sequence[Query]
) -> tuple[list[Query], Tensor]:
    """The queries whose images can be read, and these images as inputs [n,C,H,W].

    Others are skipped with a warning. DataError if no image can be read.
    """
    import torch

    if all(query.row >= 0 and query.path is not None and not query.path.exists() for query in queries):
        raise DataError(fingerprints.describe_missing(fingerprints.missing()))
    files = [(str(number), query.path) for number, query in enumerate(queries) if query.path is not None]
    rows_without_file = {query.row for query in queries if query.path is None}
    images: dict[int, Tensor] = {}
    if files:
        for names, chunk in read_inputs(run, files):
            images |= dict(zip(map(int, names), chunk, strict=True))
    if rows_without_file:
        rows, chunk = read_rows(run, fingerprints, np.array(sorted(rows_without_file)))
        known = dict(zip(rows.tolist(), chunk, strict=True))
        images |= {n: known[query.row] for n, query in enumerate(queries) if query.path is None and query.row in known}
    numbers = sorted(images)
    return [queries[number] for number in numbers], torch.stack([images[number] for number in numbers])
