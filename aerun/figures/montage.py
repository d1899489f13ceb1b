"""The same images, as reconstructed by several runs: one labeled row for each run. No torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from aerun.figures.canvas import Pixels, render

GAP, MIN_TILE_PIXELS, MAX_TILE_PIXELS = 2, 56, 112
HEADING_PIXELS = 20  # above the rows
DPI, LETTER_PIXELS = 100, 6.3  # the width of a letter at that resolution


def montage(
    rows: Sequence[tuple[str, np.ndarray]], largest: int = MAX_TILE_PIXELS, heads: Sequence[str] = ()
) -> Pixels:
    """Rows of a label and uint8 images [N,C,H,W] of one size, gray or color -> pixels [H',W',3].

    Shorter rows are padded with white; images with sides of more than ``largest`` pixels are reduced. ``heads`` are
    written above the first columns.
    """
    from matplotlib.figure import Figure

    strips = [_strip(images, largest) for _, images in rows]
    longest = max(strip.shape[1] for strip in strips)
    filled = [np.pad(s, ((0, 0), (0, longest - s.shape[1]), (0, 0)), constant_values=255) for s in strips]
    grid = np.concatenate(filled)[:-GAP]
    height, width = grid.shape[:2]
    lines = [line for label, _ in rows for line in label.split("\n")]
    left = int(LETTER_PIXELS * max(map(len, lines))) + 16
    top = HEADING_PIXELS if heads else 0
    figure = Figure(figsize=((left + width) / DPI, (height + top) / DPI), dpi=DPI)
    # The axes have exactly as many pixels as the grid, so that nothing is resampled.
    axes = figure.add_axes((left / (left + width), 0.0, width / (left + width), height / (height + top)))
    axes.imshow(grid, interpolation="nearest", aspect="auto")
    axes.axis("off")
    step = (height + GAP) / len(rows)
    for number, (label, _) in enumerate(rows):
        middle = 1 - (top + number * step + (step - GAP) / 2) / (height + top)
        figure.text((left - 8) / (left + width), middle, label, ha="right", va="center", fontsize=8, linespacing=1.3)
    wide = strips[0].shape[1] / len(rows[0][1])
    for number, head in enumerate(heads):
        middle = (left + (number + 0.5) * wide - GAP / 2) / (left + width)
        figure.text(middle, 1 - top / 2 / (height + top), head, ha="center", va="center", fontsize=8)
    return render(figure)


def _strip(images: np.ndarray, largest: int) -> np.ndarray:
    """A row of images with gaps to the right and below, enlarged or reduced by a whole factor."""
    pixels = np.broadcast_to(images, (len(images), 3, *images.shape[2:])) if images.shape[1] == 1 else images[:, :3]
    if pixels.shape[1] == 2:
        pixels = np.concatenate([pixels, pixels[:, :1] * 0], 1)
    pixels = pixels.transpose(0, 2, 3, 1)
    size = max(pixels.shape[1:3])
    smaller, larger = -(-size // largest), max(1, MIN_TILE_PIXELS // size)
    pixels = pixels[:, ::smaller, ::smaller].repeat(larger, 1).repeat(larger, 2)
    framed = np.pad(pixels, ((0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=255)
    return np.concatenate(list(framed), 1)
