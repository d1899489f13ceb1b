"""matplotlib figures outside pyplot, so that they are freed after rendering."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Pixels = np.ndarray
COLUMN_WIDTHS = {1: 3.25, 2: 6.75}  # inches, of a figure over one or two columns of a page
# Fonts are embedded in PDF files as TrueType, and drawn as outlines in SVG files.
PAPER_STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.linewidth": 0.6,
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "",
}


@dataclass(frozen=True)
class Sheet:
    """What a chart is drawn for: a screen, or a page on which it is ``width`` inches wide."""

    width: float | None = None

    def size(self, width: float, height: float, legend: int = 0) -> tuple[float, float]:
        """Inches of a chart that has this size on a screen, with so many lines of legend below it on a page."""
        return (width, height) if self.width is None else (self.width, min(0.62 * self.width, 3.0) + 0.16 * legend)

    def points(self, size: float) -> float:
        """The size of a font that has this size on a screen."""
        return size if self.width is None else 0.78 * size


SCREEN = Sheet()
Draw = Callable[[Sheet], "Figure"]


def encode(draw: Draw, sheet: Sheet, form: str) -> bytes:
    """The figure as a file of that format: pdf or svg, the same bytes whenever it is drawn."""
    from matplotlib import rc_context

    encoded = io.BytesIO()
    with rc_context(PAPER_STYLE):
        draw(sheet).savefig(encoded, format=form, metadata={{"pdf": "CreationDate", "svg": "Date"}[form]: None})
    return encoded.getvalue()


def create_axes(size: tuple[float, float], dpi: int = 100, measured: bool = True, above: float = 0.0):  # type: ignore[no-untyped-def]
    """A figure of that size in inches, not registered with pyplot, and its axes.

    ``measured``: measure the labels to make room for them, which takes as long as drawing; otherwise fixed margins
    leave room for numbers at the ticks, and ``above`` inches more for what stands above the axes.
    """
    from matplotlib.figure import Figure

    if measured:
        figure = Figure(figsize=size, dpi=dpi, layout="constrained")
        return figure, figure.subplots()
    figure, (width, height) = Figure(figsize=size, dpi=dpi), size
    box = {"left": 1.0 / width, "right": 1 - 0.3 / width, "bottom": 0.55 / height, "top": 1 - (0.4 + above) / height}
    return figure, figure.subplots(gridspec_kw=box)


def set_title(axes: Any, text: str = "") -> None:
    """A title at the top of the axes. Given a place, matplotlib does not measure the ticks to find one."""
    axes.set_title(text, y=1.0)


def render(figure: Figure) -> Pixels:
    """Draw the figure, return its pixels [H,W,3] uint8, and release its memory."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[:, :, :3].copy()
    figure.clear()
    return pixels


def class_colors(labels: np.ndarray, classes: Sequence[str] | None) -> Callable[[int], Any]:
    """A function from a class's number to its color, which does not depend on which classes occur."""
    from matplotlib import colormaps

    count = max(len(classes or []), int(labels.max()) + 1)
    colors = colormaps["tab10"] if count <= 10 else colormaps["nipy_spectral"]
    return lambda number: colors(number if count <= 10 else number / count)


def scatter_by_class(
    axes: Any, points: np.ndarray, labels: np.ndarray | None, classes: Sequence[str] | None, size: float = 5
) -> None:
    """Draw points [N,2], colored by class if there are labels [N], with a legend for up to 20 classes."""
    if labels is None:
        axes.scatter(points[:, 0], points[:, 1], s=size)
        return
    color = class_colors(labels, classes)
    present = sorted(set(labels.tolist()))
    for number in present:
        name = classes[number] if classes else str(number)
        # Not a collection, which takes longer to draw. The marker "." has half the size of others.
        style = {"markersize": 2 * math.sqrt(size), "markeredgewidth": 0, "color": color(number)}
        axes.plot(*points[labels == number].T, ".", label=name, **style)
    if max(len(classes or []), present[-1] + 1) <= 20:
        axes.legend(loc="best", fontsize=8, markerscale=2)


def set_logarithmic(axis: Any, values: Sequence[float], set_scale: bool = True) -> None:
    """Make the axis logarithmic, with plain numbers as labels; within one decade also between powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if set_scale:
        axis.axes.set_yscale("log")
    decades = math.log10(max(values) / min(values)) if min(values) > 0 else 1.0
    dense = np.arange(1.0, 10.0, 1.0 if decades > 0.25 else 0.25)
    steps = (1.0,) if decades > 3 else (1.0, 2.0, 5.0) if decades > 0.9 else tuple(dense)
    axis.set_major_locator(LogLocator(10, steps, numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
