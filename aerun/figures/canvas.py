"""A matplotlib figure that nothing keeps alive, and its pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Pixels = np.ndarray


def axes_of(size: tuple[float, float], dpi: int = 100):  # type: ignore[no-untyped-def]
    """A figure of that size in inches, unknown to pyplot, and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=dpi, layout="constrained")
    return figure, figure.subplots()


def rendered(figure: Figure) -> Pixels:
    """The figure's pixels [H,W,3]; its memory is released."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[:, :, :3].copy()
    figure.clear()
    return pixels
