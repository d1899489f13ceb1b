"""Find the picture that a query is a copy of: smaller, cropped, mirrored, recolored, turned, scanned or photographed.

The query is compared in several variants (without margins, straightened, turned, mirrored) with every picture of the
collection, as a whole and as a part of it, at 16 pixels a side; the nearest are compared again at 32.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from aerun.errors import ConfigError, DataError
from aerun.use.collection.looks import SIDE, Looks, as_picture, colors_of, square, trim
from aerun.use.collection.thumbnails import read_thumbnail
from aerun.use.search.vector_index import Neighbors

if TYPE_CHECKING:
    from torch import Tensor

    from aerun.use.collection.fingerprints import Fingerprints
    from aerun.use.opened_run import OpenedRun
    from aerun.use.search.queries import Query

COARSE, STEP = 16, 2  # pixels of a side in the first comparison, and between the parts that are tried
PARTS = (16, 14, 12)  # their sides
CANDIDATES = 50
TURNS = (-5, 5)  # degrees
TOLERANCES = (24, 48)  # of the margins of a photographed page, whose light is uneven
EDGE = 0.03  # of a straightened page, cut off
SMALLEST_PAGE = 0.2  # of the query's area
# Chosen on openclipart-png: what a difference in brightness, a missing share of the picture and other colors add to
# 1 - correlation.
BRIGHTNESS, MISSING, COLOR = 0.5, 0.05, 0.1
FLAT = 0.02  # standard deviation below which a part counts as having no structure
ROWS_PER_BLOCK = 8192
QUERY_PIXELS = 192  # of the longer side of a query, so that a page in a photo keeps enough of them
log = logging.getLogger(__name__)


class Window(NamedTuple):
    """A square part, by its upper left corner and its side."""

    top: int
    left: int
    side: int

    def of(self, thumbnails: Tensor) -> Tensor:
        """thumbnails[...,S,S] -> the part, flat [...,side * side]."""
        bottom, right = self.top + self.side, self.left + self.side
        return thumbnails[..., self.top : bottom, self.left : right].flatten(-2)


WINDOWS = [
    Window(top, left, side)
    for side in PARTS
    for top in range(0, COARSE - side + 1, STEP)
    for left in range(0, COARSE - side + 1, STEP)
]


def search_copies(
    fingerprints: Fingerprints,
    images: Sequence[np.ndarray],
    k: int = 12,
    excluded: Sequence[Sequence[int]] | None = None,
) -> Neighbors:
    """The ``k`` pictures of which images, each uint8 [C,H,W], are most likely copies. ``excluded``: rows for each query
    that are no results.

    The distance is 1 - correlation of the gray values, plus half of their mean difference, a twentieth of the share of
    the picture that the query lacks, and a tenth of the difference of colors. ConfigError without ``looks``.
    """
    looks = require_looks(fingerprints)
    thumbnails = _as_float(looks.thumbnails)
    found = [_search(looks, thumbnails, as_picture(image), k, rows) for image, rows in _with_excluded(images, excluded)]
    return Neighbors(np.stack([rows for rows, _ in found]), np.stack([distances for _, distances in found]))


def search_colors(
    fingerprints: Fingerprints,
    images: Sequence[np.ndarray],
    k: int = 12,
    excluded: Sequence[Sequence[int]] | None = None,
) -> Neighbors:
    """The ``k`` pictures with the most similar colors, without their margins: 1 - the cosine of the square roots of
    their shares (Bhattacharyya). ConfigError without ``looks``."""
    colors = require_looks(fingerprints).colors.astype(np.float32)
    colors /= np.linalg.norm(colors, axis=1, keepdims=True)
    found = []
    for image, rows in _with_excluded(images, excluded):
        distances = 1 - colors @ colors_of(trim(as_picture(image)))
        distances[list(rows)] = np.inf
        order = np.argsort(distances, kind="stable")[: min(k, len(colors) - len(rows))]
        found.append((order, distances[order].clip(0)))
    return Neighbors(np.stack([rows for rows, _ in found]), np.stack([distances for _, distances in found]))


def read_pictures(run: OpenedRun, queries: Sequence[Query]) -> tuple[list[Query], list[np.ndarray]]:
    """The queries whose files can be read, and their pictures, each uint8 [3,H,W].

    Others are skipped with a warning. DataError if no picture can be read.
    """
    decoder = run.decoder()
    kept: list[Query] = []
    pictures: list[np.ndarray] = []
    for query in queries:
        assert query.path is not None  # fingerprints with looks are of files
        picture = read_thumbnail(query.path, decoder.background, decoder.white_value, QUERY_PIXELS)
        if picture is None:
            log.warning("%s: cannot be read, and is skipped", query.path)
        else:
            kept.append(query)
            pictures.append(picture)
    if not kept:
        raise DataError("none of the images can be read")
    return kept, pictures


def require_looks(fingerprints: Fingerprints) -> Looks:
    """ConfigError for fingerprints without looks."""
    if fingerprints.looks is None:
        raise ConfigError(
            f"{fingerprints.title}: has no thumbnails and colors, which are stored for image files since this version; "
            "make it again with aerun-embed, of a folder"
        )
    return fingerprints.looks


def _with_excluded(
    images: Sequence[np.ndarray], excluded: Sequence[Sequence[int]] | None
) -> Iterator[tuple[np.ndarray, Sequence[int]]]:
    return zip(images, excluded or [()] * len(images), strict=True)


def _as_float(thumbnails: np.ndarray) -> Tensor:
    import torch

    return torch.from_numpy(thumbnails).float() / 255


def variants(picture: np.ndarray) -> list[np.ndarray]:
    """What may be the picture in picture uint8 [H,W,3]: it, without its margins, turned, the page on it, and it as most
    runs see it, on white."""
    pages: list[tuple[np.ndarray, tuple[int, ...]]] = [(picture, ())]
    page = straightened(picture)
    if page is not None:
        pages.append((page, TOLERANCES))
    result = list[np.ndarray]()
    for whole, tolerances in pages:
        border = np.concatenate([whole[0], whole[-1]])
        fill = tuple(int(value) for value in np.median(border, 0))
        turned = [
            np.asarray(Image.fromarray(whole).rotate(turn, Image.Resampling.BICUBIC, expand=True, fillcolor=fill))
            for turn in TURNS
        ]
        result += [whole, trim(whole), *(trim(whole, tolerance) for tolerance in tolerances)]
        result += [trim(each, *tolerances[-1:]) for each in turned]
    padded = np.asarray(ImageOps.pad(Image.fromarray(picture), (2 * SIDE, 2 * SIDE), Image.Resampling.LANCZOS, "white"))
    return [*result, padded, trim(padded)]


def straightened(picture: np.ndarray) -> np.ndarray | None:
    """The page on a table, photographed at an angle: the largest part that differs from the border, between its corners
    stretched to a rectangle. None if there is none."""
    from scipy import ndimage

    values = picture.astype(np.float32)
    height, width = values.shape[:2]
    border = np.concatenate([values[:2].reshape(-1, 3), values[-2:].reshape(-1, 3)])
    border = np.concatenate([border, values[:, :2].reshape(-1, 3), values[:, -2:].reshape(-1, 3)])
    table = np.median(border, 0)
    differs = np.abs(values - table).max(2) > 25 + 3 * np.abs(border - table).mean()
    numbers, count = ndimage.label(ndimage.binary_opening(differs))
    if not count:
        return None
    sizes = ndimage.sum_labels(np.ones_like(numbers), numbers, range(1, count + 1))
    ys, xs = np.nonzero(numbers == 1 + int(np.argmax(sizes)))
    if len(xs) < SMALLEST_PAGE * height * width:
        return None
    corners = [(xs[i], ys[i]) for i in ((xs + ys).argmin(), (xs - ys).argmax(), (xs + ys).argmax(), (xs - ys).argmin())]
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = corners  # clockwise from the upper left
    size = max(8, round(float(np.hypot(x1 - x0, y1 - y0)))), max(8, round(float(np.hypot(x3 - x0, y3 - y0))))
    quad = [float(value) for value in (x0, y0, x3, y3, x2, y2, x1, y1)]
    page = Image.fromarray(picture).transform(size, Image.Transform.QUAD, quad, Image.Resampling.BICUBIC)
    cut = round(EDGE * size[0]), round(EDGE * size[1])
    return np.asarray(page.crop((*cut, size[0] - cut[0], size[1] - cut[1])))


def _search(
    looks: Looks, thumbnails: Tensor, picture: np.ndarray, k: int, excluded: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and distances of one query."""
    import torch

    seen = variants(picture)
    gray = torch.from_numpy(np.stack([square(each) for each in seen]))
    gray = torch.cat([gray, gray.flip(-1)])
    count = len(looks) - len(set(excluded))
    coarse, window, variant = _coarse(thumbnails, gray)
    coarse[list(excluded)] = np.inf
    candidates = torch.from_numpy(coarse.min(1)).topk(min(max(k, CANDIDATES), count), largest=False).indices.numpy()
    fine = np.full(len(candidates), np.inf)
    for number, row in enumerate(candidates.tolist()):
        for kind in range(2):
            place = WINDOWS[window[row, kind]]
            distance = _fine(thumbnails[row, kind], gray[variant[row, kind]], place)
            fine[number] = min(fine[number], distance)
    colors = looks.colors[candidates].astype(np.float32)
    likeness = (colors @ np.stack([colors_of(each) for each in seen]).T).max(1) / np.linalg.norm(colors, axis=1)
    distances = fine + COLOR * (1 - likeness).clip(0)
    order = np.argsort(distances, kind="stable")[:k]
    return candidates[order], distances[order]


def _coarse(thumbnails: Tensor, gray: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """thumbnails[N,2,32,32], gray[V,32,32] -> for each thumbnail the distance to the nearest variant, in which window
    of the thumbnail, and which variant: each [N,2]."""
    import torch
    from torch.nn import functional as F

    factor = SIDE // COARSE
    sizes = {side: _resized(gray, side).flatten(1) for side in PARTS}
    wanted = {side: _centered(flat) for side, flat in sizes.items()}
    blocks = []
    for block in thumbnails.split(ROWS_PER_BLOCK):
        small = F.avg_pool2d(block, factor).flatten(0, 1)
        best = torch.full((len(small),), torch.inf)
        window, variant = torch.zeros(len(small), dtype=torch.long), torch.zeros(len(small), dtype=torch.long)
        for number, place in enumerate(WINDOWS):
            likeness, which = (_centered(place.of(small)) @ wanted[place.side].T).max(1)
            distance = 1 - likeness + MISSING * (1 - (place.side / COARSE) ** 2)
            nearer = distance < best
            best = torch.where(nearer, distance, best)
            window, variant = torch.where(nearer, number, window), torch.where(nearer, which, variant)
        blocks.append([each.view(-1, 2).numpy() for each in (best, window, variant)])
    return tuple(np.concatenate(parts) for parts in zip(*blocks, strict=True))  # type: ignore[return-value]


def _fine(thumbnail: Tensor, gray: Tensor, place: Window) -> float:
    """The distance of gray[32,32] to a part of thumbnail[32,32], at the best of nine places about ``place``."""
    factor = SIDE // COARSE
    side = place.side * factor
    wanted = _resized(gray[None], side).flatten()
    best, shifts = np.inf, range(-1, 2) if side < SIDE else range(1)
    for down in shifts:
        for right in shifts:
            moved = Window(place.top * factor + down, place.left * factor + right, side)
            if min(moved[:2]) < 0 or max(moved[:2]) + side > SIDE:
                continue
            part = moved.of(thumbnail)
            correlation = float(_centered(part) @ _centered(wanted))
            best = min(best, 1 - correlation + BRIGHTNESS * float((part - wanted).abs().mean()))
    return max(0.0, best) + MISSING * (1 - (side / SIDE) ** 2)


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
