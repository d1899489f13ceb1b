"""Find the picture that a query is a copy or a part of: smaller, cropped, mirrored, recolored, turned, scanned,
photographed.

The query is compared in several variants (``query_variants``) with every picture of the collection, as a whole and as a
part of it, at 16 pixels a side; the nearest are laid on top of it (``registration``) at 32 pixels, and the nearest of
these at 64.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from aerun.use.collection.looks import Looks, as_picture, colors_of, square, trim
from aerun.use.search.queries import Picture
from aerun.use.search.query_variants import variants
from aerun.use.search.registration import FLAT, register, shown_area
from aerun.use.search.vector_index import Neighbors

if TYPE_CHECKING:
    from torch import Tensor

    from aerun.use.collection.fingerprints import Fingerprints

COARSE, STEP = 16, 2  # pixels of a side in the first comparison, and between the parts that are tried
COPY_PARTS = (16, 14, 12)  # their sides
MOTIF_PARTS = (*COPY_PARTS, 10, 8, 6)
CANDIDATES, MOTIF_CANDIDATES = 50, 150
FIRST, LAST = (32, 8), (64, 4)  # pixels of a side and steps of the two comparisons that follow
PAIRS = 24  # of a candidate and a kind of thumbnail, that are compared last
# Chosen on openclipart-png: what a difference in brightness, a missing share of the picture and other colors add to
# 1 - correlation.
BRIGHTNESS, MISSING, COLOR = 0.5, 0.05, 0.1
ROWS_PER_BLOCK = 8192


class Window(NamedTuple):
    """A square part, by its upper left corner and its side."""

    top: int
    left: int
    side: int

    def of(self, thumbnails: Tensor) -> Tensor:
        """thumbnails[...,S,S] -> the part, flat [...,side * side]."""
        bottom, right = self.top + self.side, self.left + self.side
        return thumbnails[..., self.top : bottom, self.left : right].flatten(-2)

    @property
    def homography(self) -> list[float]:
        """The eight numbers with which ``register`` starts."""
        scale = self.side / COARSE
        right, down = (2 * corner / COARSE - 1 + scale for corner in (self.left, self.top))
        return [scale, 0, right, 0, scale, down, 0, 0]


class QueryLook(NamedTuple):
    """What is compared of a query: ``gray`` [V,S,S] in its variants, and their ``colors`` [V,64]."""

    gray: Tensor
    colors: np.ndarray


def windows(sides: Sequence[int]) -> list[Window]:
    """All windows of these sides, in steps."""
    return [
        Window(top, left, side)
        for side in sides
        for top in range(0, COARSE - side + 1, STEP)
        for left in range(0, COARSE - side + 1, STEP)
    ]


def search_copies(
    fingerprints: Fingerprints,
    images: Sequence[Picture],
    k: int = 12,
    excluded: Sequence[Sequence[int]] | None = None,
    parts: Sequence[int] = COPY_PARTS,
    candidates: int = CANDIDATES,
) -> Neighbors:
    """The ``k`` pictures of which images are most likely copies. ``images``: each uint8 [C,H,W], or a row of the
    collection; ``excluded``: rows for each query that are no results; ``parts``: sixteenths of the sides of pictures
    that a query may show; ``candidates`` are compared at more than 16 pixels.

    The distance is 1 - correlation of the gray values, plus half of their mean difference, a twentieth of the share of
    the picture that the query lacks, and a tenth of the difference of colors. ConfigError without ``looks``.
    """
    looks = fingerprints.require_looks()
    k = _most_results(len(looks), k, excluded)
    places = windows(parts)
    found = [
        _search(looks, look_of(looks, image), k, rows, places, candidates)
        for image, rows in _with_excluded(images, excluded)
    ]
    return Neighbors(np.stack([rows for rows, _ in found]), np.stack([distances for _, distances in found]))


def search_motifs(
    fingerprints: Fingerprints,
    images: Sequence[Picture],
    k: int = 12,
    excluded: Sequence[Sequence[int]] | None = None,
) -> Neighbors:
    """As ``search_copies``, of pictures of which a query may show as little as three eighths of the sides."""
    return search_copies(fingerprints, images, k, excluded, MOTIF_PARTS, MOTIF_CANDIDATES)


def search_colors(
    fingerprints: Fingerprints,
    images: Sequence[Picture],
    k: int = 12,
    excluded: Sequence[Sequence[int]] | None = None,
) -> Neighbors:
    """The ``k`` pictures with the most similar colors, without their margins: 1 - the cosine of the square roots of
    their shares (Bhattacharyya). ConfigError without ``looks``."""
    looks = fingerprints.require_looks()
    k = _most_results(len(looks), k, excluded)
    found = []
    for image, rows in _with_excluded(images, excluded):
        distances = color_distances(looks, image)
        distances[list(rows)] = np.inf
        order = np.argsort(distances, kind="stable")[:k]
        found.append((order, distances[order]))
    return Neighbors(np.stack([rows for rows, _ in found]), np.stack([distances for _, distances in found]))


def _most_results(total: int, k: int, excluded: Sequence[Sequence[int]] | None) -> int:
    """``k``, or fewer: as many as every query has."""
    return min(k, total - max((len(set(rows)) for rows in excluded or ()), default=0))


LOOK_SEARCHES = {"copy": search_copies, "motif": search_motifs, "color": search_colors}


def color_distances(looks: Looks, image: Picture) -> np.ndarray:
    """The distance [N] of the colors of a picture to those of each of the collection."""
    colors = _of_length_1(looks.colors)
    wanted = colors[image] if isinstance(image, int) else colors_of(trim(as_picture(image)))
    return np.asarray((1 - colors @ wanted).clip(0))


def look_of(looks: Looks, image: Picture) -> QueryLook:
    """The variants of a picture uint8 [C,H,W], or of the stored thumbnail of a row of the collection."""
    import torch

    if isinstance(image, int):
        stored = looks.thumbnails[image]
        gray = [*(stored / np.float32(255)), *(square(each, looks.side) for each in variants(as_picture(stored[1:])))]
        return QueryLook(torch.from_numpy(np.stack(gray)), _of_length_1(looks.colors[[image]]))
    seen = variants(as_picture(image))
    gray = [square(each, looks.side) for each in seen]
    return QueryLook(torch.from_numpy(np.stack(gray)), np.stack([colors_of(each) for each in seen]))


def _with_excluded(
    images: Sequence[Picture], excluded: Sequence[Sequence[int]] | None
) -> Iterator[tuple[Picture, Sequence[int]]]:
    return zip(images, excluded or [()] * len(images), strict=True)


def _of_length_1(colors: np.ndarray) -> np.ndarray:
    values = colors.astype(np.float32)
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True))


def _search(
    looks: Looks, asked: QueryLook, k: int, excluded: Sequence[int], places: list[Window], most: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and distances of one query."""
    import torch

    gray = torch.cat([asked.gray, asked.gray.flip(-1)])
    count = len(looks) - len(set(excluded))
    coarse, window, variant = _coarse(looks.thumbnails, gray, places)
    coarse[list(excluded)] = np.inf
    near = torch.from_numpy(coarse.min(1)).topk(min(max(k, most), count), largest=False).indices
    rows, kinds = near.repeat_interleave(2), torch.arange(2).repeat(len(near))
    which = torch.from_numpy(variant)[rows, kinds]
    shape = torch.tensor([place.homography for place in places])[torch.from_numpy(window)[rows, kinds]]
    distance, shape = _compare(looks, rows, kinds, gray[which], shape, *FIRST)
    if looks.side > FIRST[0]:
        last = distance.argsort(stable=True)[:PAIRS]
        finer, _ = _compare(looks, rows[last], kinds[last], gray[which[last]], shape[last], *LAST)
        distance[last] = (distance[last] + finer) / 2
    candidates, numbers = rows.unique(return_inverse=True)
    best = torch.full((len(candidates),), torch.inf).scatter_reduce(0, numbers, distance, "amin").numpy()
    candidates = candidates.numpy()
    likeness = (_of_length_1(looks.colors[candidates]) @ asked.colors.T).max(1)
    distances = best + COLOR * (1 - likeness).clip(0)
    order = np.argsort(distances, kind="stable")[:k]
    return candidates[order], distances[order]


def _coarse(thumbnails: np.ndarray, gray: Tensor, places: list[Window]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """thumbnails uint8 [N,2,S,S], gray[V,S,S] -> for each thumbnail the distance to the nearest variant, in which
    window of the thumbnail, and which variant: each [N,2]."""
    import torch
    from torch.nn import functional as F

    wanted = {side: _centered(_resized(gray, side).flatten(1)) for side in {place.side for place in places}}
    blocks = []
    for start in range(0, len(thumbnails), ROWS_PER_BLOCK):
        block = torch.from_numpy(thumbnails[start : start + ROWS_PER_BLOCK].astype(np.float32)) / 255
        small = F.avg_pool2d(block, block.shape[-1] // COARSE).flatten(0, 1)
        best = torch.full((len(small),), torch.inf)
        window, variant = torch.zeros(len(small), dtype=torch.long), torch.zeros(len(small), dtype=torch.long)
        for number, place in enumerate(places):
            likeness, which = (_centered(place.of(small)) @ wanted[place.side].T).max(1)
            distance = 1 - likeness + MISSING * (1 - (place.side / COARSE) ** 2)
            nearer = distance < best
            best = torch.where(nearer, distance, best)
            window, variant = torch.where(nearer, number, window), torch.where(nearer, which, variant)
        blocks.append([each.view(-1, 2).numpy() for each in (best, window, variant)])
    return tuple(np.concatenate(parts) for parts in zip(*blocks, strict=True))  # type: ignore[return-value]


def _compare(
    looks: Looks, rows: Tensor, kinds: Tensor, gray: Tensor, shape: Tensor, side: int, steps: int
) -> tuple[Tensor, Tensor]:
    """Distances [n] of gray[n,S,S] to thumbnails, laid on top of each other from shape[n,8] on, and where they lie."""
    import torch

    known = torch.from_numpy(looks.thumbnails[rows.numpy(), kinds.numpy()]).float() / 255
    known, asked = _resized(known, side), _resized(gray, side)
    fit = register(known, asked, shape, steps)
    brightness = (fit.seen - asked).abs().mean((1, 2))
    distance = 1 - fit.likeness + BRIGHTNESS * brightness + MISSING * (1 - shown_area(fit.shape))
    return distance, fit.shape


def _resized(gray: Tensor, side: int) -> Tensor:
    """gray[V,S,S] -> [V,side,side]."""
    from torch.nn import functional as F

    if side == gray.shape[-1]:
        return gray
    return F.interpolate(gray[:, None], (side, side), mode="bilinear", antialias=True)[:, 0]


def _centered(flat: Tensor) -> Tensor:
    """Rows with mean 0 and length 1; those without structure become shorter."""
    flat = flat - flat.mean(-1, keepdim=True)
    return flat / flat.norm(dim=-1, keepdim=True).clamp_min(FLAT * flat.shape[-1] ** 0.5)
