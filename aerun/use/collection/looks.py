"""What pictures look like, in eight kilobytes each: gray pictures with and without margins, colors, texture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

SIDE, OLD_SIDE = 64, 32  # pixels of a side of a thumbnail, now and in files of older versions
LEVELS = 4  # of red, green and blue each, in the histogram of colors
TOLERANCE = 10  # of 255, within which a margin is of one color
FEWEST = 4  # lines that stay when margins are cut off
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
# Texture: bins of local binary patterns, of second differences (up to these values of 255), and of edges' directions.
PATTERNS, DIRECTIONS = 10, 8
ROUGHNESS = np.array([0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 63.5, 127.5])
TEXTURE_SIZES = (PATTERNS, len(ROUGHNESS) + 1, DIRECTIONS)
SHAPES: dict[str, tuple[tuple[int, ...], type]] = {  # of one picture, and the type of a value
    "thumbnails": ((2, SIDE, SIDE), np.uint8),
    "colors": ((LEVELS**3,), np.uint8),
    "textures": ((sum(TEXTURE_SIZES),), np.uint8),
    "files": ((4,), np.int64),
}
RING = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))  # the eight neighbors, in order


@dataclass(frozen=True)
class Looks:
    """Of N pictures: ``thumbnails`` uint8 [N,2,64,64] (32 in files of older versions), the gray picture without its
    margins and the whole one, both stretched to a square; ``colors`` uint8 [N,64], the square roots of the shares of
    4 x 4 x 4 colors, times 255; ``textures`` uint8 [N,27] as ``texture_of``, times 255; ``files`` int64 [N,4], of each
    file its bytes, the time of its change in nanoseconds, and the picture's width and height. Older files have none of
    the last two."""

    thumbnails: np.ndarray
    colors: np.ndarray
    textures: np.ndarray | None = None
    files: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.thumbnails)

    @property
    def side(self) -> int:
        """Pixels of a side of a thumbnail."""
        return int(self.thumbnails.shape[-1])

    def arrays(self) -> dict[str, np.ndarray]:
        """Those that there are, by name, for a file."""
        return {name: values for name, values in vars(self).items() if values is not None}

    def rows(self, rows: np.ndarray) -> Looks:
        """Of these pictures."""
        return Looks(**{name: values[rows] for name, values in self.arrays().items()})


def looks_from(arrays: Mapping[str, np.ndarray], count: int) -> Looks | None:
    """Of the arrays of a file of ``count`` pictures; None for older versions. ValueError for damaged ones."""
    found = {name: arrays[name] for name in SHAPES if name in arrays}
    if not {"thumbnails", "colors"} <= found.keys():
        return None
    for name, values in found.items():
        shape, kind = SHAPES[name]
        is_older = name == "thumbnails" and values.shape == (count, 2, OLD_SIDE, OLD_SIDE)
        if (values.shape != (count, *shape) and not is_older) or values.dtype != kind:
            raise ValueError(f"{count} names, {name} {values.dtype} of shape {list(values.shape)}")
    return Looks(**found)


def looks_of(images: np.ndarray) -> Looks:
    """Of images uint8 [N,C,H,W]."""
    pictures = [as_picture(image) for image in images]
    trimmed = [trim(picture) for picture in pictures]
    thumbnails = [[square(inner), square(picture)] for inner, picture in zip(trimmed, pictures, strict=True)]
    return Looks(
        _as_bytes(thumbnails, "thumbnails"),
        _as_bytes([colors_of(inner) for inner in trimmed], "colors"),
        _as_bytes([texture_of(inner) for inner in trimmed], "textures"),
    )


def _as_bytes(values: Sequence[Any], name: str) -> np.ndarray:
    return (np.array(values, np.float32).reshape(-1, *SHAPES[name][0]) * 255).round().astype(np.uint8)


def joined(parts: list[Looks]) -> Looks:
    """The looks of several collections, one after the other."""
    arrays = [part.arrays() for part in parts]
    names = [name for name in SHAPES if all(name in each for each in arrays)]
    return Looks(**{name: np.concatenate([each[name] for each in arrays]) for name in names})


def as_picture(image: np.ndarray) -> np.ndarray:
    """image uint8 [C,H,W] -> [H,W,3]; channels that are not red, green and blue are averaged."""
    if len(image) != 3:
        image = np.repeat(image.mean(0, keepdims=True).round().astype(np.uint8), 3, 0)
    return image.transpose(1, 2, 0)


def trim(picture: np.ndarray, tolerance: int = TOLERANCE) -> np.ndarray:
    """picture[H,W,3] without the lines at each side that have the color of the outermost one."""
    for axis in (0, 1, 0, 1):  # again, since a margin may end at another one
        lines = np.moveaxis(picture, axis, 0).astype(np.int16)
        count = len(lines)
        before, after = (_margin(side, tolerance) for side in (lines, lines[::-1]))
        if count - before - after >= FEWEST:
            picture = np.moveaxis(np.moveaxis(picture, axis, 0)[before : count - after], 0, axis)
    return picture


def _margin(lines: np.ndarray, tolerance: int) -> int:
    """How many of the first of lines[n,m,3] have one color, that of the first."""
    differs = (np.abs(lines - np.median(lines[0], 0)) > tolerance).any((1, 2))
    return int(differs.argmax()) if differs.any() else len(lines)


def square(picture: np.ndarray, side: int = SIDE) -> np.ndarray:
    """picture[H,W,3] -> gray, stretched to [side,side], in [0,1].

    Gray is the mean of luminance and lightness, (max + min) / 2, of which the second stays as it is if hues are turned.
    """
    values = picture.astype(np.float32)
    gray = (values @ LUMINANCE + (values.max(2) + values.min(2)) / 2) / (2 * 255)
    return np.asarray(Image.fromarray(gray).resize((side, side), Image.Resampling.BILINEAR), np.float32).clip(0, 1)


def colors_of(picture: np.ndarray) -> np.ndarray:
    """picture uint8 [H,W,3] -> square roots of the shares of each color, float32 [64], a vector of length 1."""
    levels = picture.reshape(-1, 3).astype(np.int64) * LEVELS // 256
    counts = np.bincount(levels @ np.array([LEVELS**2, LEVELS, 1]), minlength=LEVELS**3)
    return np.sqrt(counts / counts.sum()).astype(np.float32)


def texture_of(picture: np.ndarray) -> np.ndarray:
    """picture uint8 [H,W,3] -> three histograms after each other, float32 [27], as square roots of shares.

    Uniform local binary patterns of the luminance (Ojala et al. 2002): how many of the eight neighbors are at least as
    bright, 0 to 8, if they are one arc, and all other patterns. Second differences along rows and columns, the largest
    of the channels: flat colors, smooth shades, and rough surfaces differ in them. Directions of edges from 0 to 180
    degrees, weighted by their contrast; zeros if there is none.
    """
    values = picture.astype(np.float32)
    gray = (values @ LUMINANCE).round()
    height, width = gray.shape
    if min(height, width) < 3:
        return np.zeros(sum(TEXTURE_SIZES), np.float32)
    inner = gray[1:-1, 1:-1]
    ring = np.stack([gray[1 + y : height - 1 + y, 1 + x : width - 1 + x] >= inner for y, x in RING])
    changes = (ring != np.roll(ring, 1, 0)).sum(0)
    patterns = np.bincount(np.where(changes <= 2, ring.sum(0), PATTERNS - 1).ravel(), minlength=PATTERNS)
    second = [np.abs(np.diff(values, 2, axis)).max(2).ravel() for axis in (0, 1)]
    rough = np.bincount(np.digitize(np.concatenate(second), ROUGHNESS), minlength=len(ROUGHNESS) + 1)
    across, down = np.diff(gray, axis=1)[:-1], np.diff(gray, axis=0)[:, :-1]
    angle = np.arctan2(down, across) % np.pi
    direction = np.rint(angle / np.pi * DIRECTIONS).astype(int) % DIRECTIONS
    edges = np.bincount(direction.ravel(), np.hypot(across, down).ravel(), minlength=DIRECTIONS)
    return np.concatenate([np.sqrt(count / max(1, count.sum())) for count in (patterns, rough, edges)]).astype(
        np.float32
    )
