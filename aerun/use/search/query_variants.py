"""What a query may be a copy of: versions of it without margins, shade, marks and perspective."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

from aerun.use.collection.looks import SIDE, trim

TURNS = (-5, 5)  # degrees
EDGE = 0.03  # of a straightened page, cut off
SMALLEST_PAGE = 0.2  # of the query's area
NOT_STRAIGHT = 0.1  # of a page's area, between its outline and its corners
FRAME = 0.02  # share of each side in which the paper is looked for
UNEVEN = 0.08  # median deviation of a frame from a plane, above which it is not paper
PAPER_TOLERANCE = 20  # of margins after the light was evened out
LARGEST_MARK = 0.004  # share of the area of a speck or hair that is removed
MARK_CONTRAST = 30


def variants(picture: np.ndarray) -> list[np.ndarray]:
    """What may be the picture in picture uint8 [H,W,3]: it, without its margins, turned, on evenly lit white paper,
    without specks, the page on it, and it as most runs see it, on white."""
    page = straightened(picture)
    result = list[np.ndarray]()
    for whole in [picture] if page is None else [picture, page]:
        border = np.concatenate([whole[0], whole[-1]])
        fill = tuple(int(value) for value in np.median(border, 0))
        turned = [
            np.asarray(Image.fromarray(whole).rotate(turn, Image.Resampling.BICUBIC, expand=True, fillcolor=fill))
            for turn in TURNS
        ]
        result += [whole, trim(whole), *(trim(each) for each in turned)]
        paper = evenly_lit(whole)
        if paper is not None:
            clean = without_marks(paper)
            result += [trim(paper, PAPER_TOLERANCE), clean, trim(clean, PAPER_TOLERANCE)]
    padded = np.asarray(ImageOps.pad(Image.fromarray(picture), (SIDE, SIDE), Image.Resampling.LANCZOS, "white"))
    darkest = np.repeat(picture.min(2, keepdims=True), 3, 2)  # toning such as sepia leaves one channel unclipped
    return [*result, padded, trim(padded), darkest, trim(darkest)]


def evenly_lit(picture: np.ndarray) -> np.ndarray | None:
    """picture[H,W,3] with white paper: divided by a plane through the colors of its frame. None if there is no paper,
    where the frame does not lie on a plane."""
    height, width = picture.shape[:2]
    rows, columns = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    plane = np.stack([np.ones_like(rows), rows, columns], -1)
    frame = np.maximum(abs(rows), abs(columns)) >= 1 - 2 * FRAME - 2 / min(height, width)
    values, places = picture[frame].astype(np.float64) / 255, plane[frame]
    kept = np.ones(len(values), bool)
    for _ in range(4):  # dust and what reaches into the frame are left out
        fit = np.linalg.lstsq(places[kept], values[kept], rcond=None)[0]
        off = np.abs(values - places @ fit).max(1)
        kept = off <= max(2 * float(np.median(off)), 0.02)
    if float(np.median(off)) > UNEVEN or float((places @ fit).min()) < 0.2:
        return None
    even = picture / (plane @ fit).clip(0.1)
    return np.asarray(even.clip(0, 255).round().astype(np.uint8))


def without_marks(picture: np.ndarray) -> np.ndarray:
    """picture[H,W,3] without small dark specks and hairs, which are filled in from around them."""
    from scipy import ndimage

    gray = picture.min(2)
    size = max(3, round(min(gray.shape) / 16) | 1)
    closed = ndimage.grey_closing(gray, (size, size))
    numbers, count = ndimage.label(closed.astype(int) - gray > MARK_CONTRAST, np.ones((3, 3)))
    if not count:
        return picture
    areas = np.bincount(numbers.ravel())
    small = areas <= LARGEST_MARK * gray.size
    small[0] = False
    marks = ndimage.binary_dilation(small[numbers])
    filled = np.stack([ndimage.grey_closing(picture[..., c], (size, size)) for c in range(3)], -1)
    return np.where(marks[..., None], filled, picture)


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
    page = ndimage.binary_fill_holes(numbers == 1 + int(np.argmax(sizes)))
    ys, xs = np.nonzero(page)
    if len(xs) < SMALLEST_PAGE * height * width:
        return None
    corners = [(xs[i], ys[i]) for i in ((xs + ys).argmin(), (xs - ys).argmax(), (xs + ys).argmax(), (xs - ys).argmin())]
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = corners  # clockwise from the upper left
    area = abs((x2 - x0) * (y3 - y1) - (x3 - x1) * (y2 - y0)) / 2
    if abs(len(xs) - area) > NOT_STRAIGHT * area:
        return None
    size = max(8, round(float(np.hypot(x1 - x0, y1 - y0)))), max(8, round(float(np.hypot(x3 - x0, y3 - y0))))
    quad = [float(value) for value in (x0, y0, x3, y3, x2, y2, x1, y1)]
    page = Image.fromarray(picture).transform(size, Image.Transform.QUAD, quad, Image.Resampling.BICUBIC)
    cut = round(EDGE * size[0]), round(EDGE * size[1])
    return np.asarray(page.crop((*cut, size[0] - cut[0], size[1] - cut[1])))
