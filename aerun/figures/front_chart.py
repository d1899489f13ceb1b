"""A Pareto front: all points of two numbers, and the line of those that no other surpasses in both. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aerun.figures.canvas import SCREEN, Sheet, create_axes, set_logarithmic
from aerun.figures.run_charts import DPI, GRAY

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOGARITHMIC_RANGE = 20  # largest over smallest value from which an axis is logarithmic
MAX_LABELS = 12


@dataclass(frozen=True)
class Point:
    """A group's two numbers, and whether it is on the front."""

    label: str
    x: float
    y: float
    on_front: bool


def front_chart(points: Sequence[Point], names: tuple[str, str], sheet: Sheet = SCREEN) -> Figure:
    """The points, those on the front in color and with their labels, joined in the order of x."""
    figure, axes = create_axes(sheet.size(7.5, 4.6), DPI)
    others = [point for point in points if not point.on_front]
    front = sorted((point for point in points if point.on_front), key=lambda point: (point.x, point.y))
    axes.scatter([point.x for point in others], [point.y for point in others], s=14, color=GRAY, label="other rows")
    axes.plot([p.x for p in front], [p.y for p in front], "o-", color="C0", ms=4, lw=1, label="Pareto front")
    for point in front[:MAX_LABELS]:
        style = {"xytext": (4, 4), "textcoords": "offset points", "fontsize": sheet.points(9)}
        axes.annotate(point.label, (point.x, point.y), **style)
    for axis, values in ((axes.xaxis, [p.x for p in points]), (axes.yaxis, [p.y for p in points])):
        if min(values) > 0 and max(values) / min(values) > LOGARITHMIC_RANGE:
            (axes.set_xscale if axis is axes.xaxis else axes.set_yscale)("log")
            set_logarithmic(axis, values, set_scale=False)
    axes.set(xlabel=names[0], ylabel=names[1])
    axes.margins(0.12)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=sheet.points(9), frameon=False)
    return figure
