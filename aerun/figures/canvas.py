"""A matplotlib figure that nothing keeps alive, and its pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

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


def class_colours(labels: np.ndarray, classes: Sequence[str] | None) -> Callable[[int], Any]:
    """A colour for each class's number, the same whichever classes are there."""
    from matplotlib import colormaps

    count = max(len(classes or []), int(labels.max()) + 1)
    colours = colormaps["tab10"] if count <= 10 else colormaps["nipy_spectral"]
    return lambda number: colours(number if count <= 10 else number / count)


def coloured(
    axes: Any, points: np.ndarray, labels: np.ndarray | None, classes: Sequence[str] | None, size: float = 5
) -> None:
    """Draw points [N,2], in their class's colours where there are labels [N], with a legend of up to 20 classes."""
    if labels is None:
        axes.scatter(points[:, 0], points[:, 1], s=size)
        return
    colour = class_colours(labels, classes)
    there = sorted(set(labels.tolist()))
    for number in there:
        name = classes[number] if classes else str(number)
        axes.scatter(*points[labels == number].T, s=size, color=colour(number), label=name)
    if max(len(classes or []), there[-1] + 1) <= 20:
        axes.legend(loc="best", fontsize=8)
