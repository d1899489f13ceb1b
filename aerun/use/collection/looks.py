"""What pictures look like, in two kilobytes each: small gray pictures with and without their margins, and colors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

SIDE = 32  # pixels of a thumbnail
LEVELS = 4  # of red, green and blue each, in the histogram of colors
TOLERANCE = 10  # of 255, within which a margin is of one color
FEWEST = 4  # lines that stay when margins are cut off
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Looks:
    """Of N pictures: ``thumbnails`` uint8 [N,2,32,32], the gray picture without its margins and the whole one, both
    stretched to a square; ``colors`` uint8 [N,64], the square roots of the shares of 4 x 4 x 4 colors, times 255."""

    thumbnails: np.ndarray
    colors: np.ndarray

    def __len__(self) -> int:
        return len(self.thumbnails)


def looks_of(images: np.ndarray) -> Looks:
    """Of images uint8 [N,C,H,W]."""
    pictures = [as_picture(image) for image in images]
    thumbnails = [[square(trim(picture)), square(picture)] for picture in pictures]
    colors = [colors_of(trim(picture)) for picture in pictures]
    return Looks(
        (np.array(thumbnails, np.float32).reshape(-1, 2, SIDE, SIDE) * 255).round().astype(np.uint8),
        (np.array(colors, np.float32).reshape(-1, LEVELS**3) * 255).round().astype(np.uint8),
    )


def joined(parts: list[Looks]) -> Looks:
    """The looks of several collections, one after the other."""
    return Looks(np.concatenate([part.thumbnails for part in parts]), np.concatenate([part.colors for part in parts]))


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
