"""A matplotlib figure that nothing keeps alive, and its pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Pixels = np.ndarray


def axes_of(size: tuple[float, float], dpi: int = 100, measured: bool = True):  # type: ignore[no-untyped-def]
    """A figure of that size in inches, unknown to pyplot, and its axes.

    ``measured``: make room for the labels by measuring each, which takes as long as the drawing; else the margins
    are those that numbers on ticks need.
    """
    from matplotlib.figure import Figure

    if measured:
        figure = Figure(figsize=size, dpi=dpi, layout="constrained")
        return figure, figure.subplots()
    figure, (width, height) = Figure(figsize=size, dpi=dpi), size
    box = {"left": 1.0 / width, "right": 1 - 0.3 / width, "bottom": 0.55 / height, "top": 1 - 0.4 / height}
    return figure, figure.subplots(gridspec_kw=box)


def rendered(figure: Figure) -> Pixels:
    """The figure's pixels [H,W,3]; its memory is released."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[:, :, :3].copy()
    figure.clear()
    return pixels
