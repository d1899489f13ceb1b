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
from aerun.use.collection.thumbnails import inputs_of
from aerun.use.collection.views import MOST, SHARE, codes_of_views, crops
from aerun.use.pictures import as_inputs
from aerun.use.search.index import Index, Metric, Neighbours, open_index
from aerun.use.search.queries import Query

if TYPE_CHECKING:
    from torch import Tensor

    from aerun.use.opened import Opened

AMONG, STEPS = 50, 5  # candidates, and places of their crops either way
GONE = 1.0  # what cannot be compared is as far as pictures can be
TOGETHER = 16  # queries whose candidates are in memory at once
PLACES = tuple((i / (STEPS - 1), j / (STEPS - 1)) for i in range(STEPS) for j in range(STEPS))


def search_cropped(
    run: Opened | str | os.PathLike[str],
    fingerprints: Fingerprints,
    images: Tensor,
    k: int = 12,
    *,
    metric: Metric = "euclidean",
    views: int = MOST,
    index: Index | None = None,
    excluded: Sequence[Sequence[int]] | None = None,
) -> Neighbours:
    """The ``k`` pictures from which each of ``images`` [Q,C,H,W], as the run takes them, has most likely been cropped.

    Of the 50 nearest codes, or ``k`` if that is more, those are nearest whose pixels are: see ``pixel_distances``.
    Their pictures must still be there; one that is gone comes last, at distance 1. DataError if all are,
    nothing tells where they are, or the codes are of another run.
    """
    from aerun.use.opened import opened

    run = opened(run)
    fingerprints.refuse_other(run)
    index = index or open_index(fingerprints, metric)
    codes = codes_of_views(run.encode, images, views, 1 / SHARE)
    near = index.query(codes if views > 1 else codes[:, 0], max(k, AMONG), excluded).rows
    return reordered(lambda rows: inputs_of(run, fingerprints, rows), images, near, k)


def reordered(
    read: Callable[[np.ndarray], tuple[np.ndarray, Tensor]], images: Tensor, near: np.ndarray, k: int
) -> Neighbours:
    """Of the rows ``near`` [Q,n] the ``k`` whose pixels are nearest to images[Q,C,H,W]; equal ones stay in order.

    ``read`` gives of sorted rows those that can be read, and their images.
    """
    k = min(k, near.shape[1])
    rows, distances = np.empty((len(near), k), np.int64), np.empty((len(near), k))
    for start in range(0, len(near), TOGETHER):
        found, pictures = read(np.unique(near[start : start + TOGETHER]))
        place = {row: number for number, row in enumerate(found.tolist())}
        for number, (candidates, image) in enumerate(
            zip(near[start : start + TOGETHER], images[start : start + TOGETHER], strict=True), start
        ):
            there = np.array([row in place for row in candidates.tolist()], bool)
            apart = np.full(len(candidates), GONE)
            if there.any():
                numbers = [place[row] for row in candidates[there].tolist()]
                apart[there] = pixel_distances(image, pictures[numbers])
            order = np.argsort(apart, kind="stable")[:k]
            rows[number], distances[number] = candidates[order], apart[order]
    return Neighbours(rows, distances)


def pixel_distances(image: Tensor, pictures: Tensor) -> np.ndarray:
    """image[C,H,W], pictures[n,C,H,W], uint8 or in [0,1] -> [n], from 0 to 1.

    The root of the mean squared difference between the image and that crop of the picture which is most like it: the
    whole, or nine tenths of its sides at 5 x 5 places.
    """
    import torch

    shown, wanted = _values(pictures), _values(image)
    views = chain([shown], (crops(shown, places=[place])[1] for place in PLACES))  # one at a time in memory
    squares = torch.stack([(view - wanted).square().double().mean((1, 2, 3)) for view in views])
    return np.asarray(squares.amin(0).sqrt().numpy())


def _values(images: Tensor) -> Tensor:
    return images.float() if images.dtype.is_floating_point else images.float() / 255


def query_images(run: Opened, fingerprints: Fingerprints, queries: Sequence[Query]) -> tuple[list[Query], Tensor]:
    """Those of the queries whose pictures can be read, and these as the run takes them [n,C,H,W].

    Others are named in a warning. DataError if none can be read.
    """
    import torch

    files = [(str(number), query.path) for number, query in enumerate(queries) if query.path is not None]
    inside = {query.row for query in queries if query.path is None}
    images: dict[int, Tensor] = {}
    if files:
        for names, chunk in as_inputs(run, [(name, Path(path)) for name, path in files]):
            images |= dict(zip(map(int, names), chunk, strict=True))
    if inside:
        rows, chunk = inputs_of(run, fingerprints, np.array(sorted(inside)))
        known = dict(zip(rows.tolist(), chunk, strict=True))
        images |= {n: known[query.row] for n, query in enumerate(queries) if query.path is None and query.row in known}
    numbers = sorted(images)
    return [queries[number] for number in numbers], torch.stack([images[number] for number in numbers])
