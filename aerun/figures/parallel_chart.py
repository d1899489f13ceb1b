"""Parallel coordinates: each line goes through the settings of a group to its metric. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from aerun.figures.canvas import SCREEN, Sheet, create_axes
from aerun.figures.run_charts import DPI

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Scale:
    """One axis of parallel coordinates: a value for each line, numbers or words; None is missing."""

    name: str
    values: Sequence[float | str | None]


def parallel_coordinates(
    scales: Sequence[Scale], metric: Scale, higher_is_better: bool, sheet: Sheet = SCREEN
) -> Figure:
    """One line for each group, through its settings to its metric; better ones are thicker and drawn on top."""
    from matplotlib import colormaps
    from matplotlib.path import Path

    figure, axes = create_axes(sheet.size(max(6.5, 2.0 * (len(scales) + 1)), 4.6), DPI)
    heights = np.array([_draw_axis(axes, x, scale, sheet) for x, scale in enumerate([*scales, metric])])
    numbers = heights[-1]
    order = np.argsort(numbers if higher_is_better else -numbers)
    ranks = np.empty(len(order))
    ranks[order] = np.linspace(0, 1, len(order)) if len(order) > 1 else 1.0
    # Lines through the same word would cover each other: shift them a little by rank.
    shift = (ranks - 0.5) * 0.05
    for number in order:
        points = heights[:, number] + np.r_[np.full(len(scales), shift[number]), 0.0]
        vertices, codes = [(0.0, points[0])], [Path.MOVETO]
        for x, (before, after) in enumerate(pairwise(points)):
            vertices += [(x + 0.4, before), (x + 0.6, after), (x + 1.0, after)]
            codes += [Path.CURVE4] * 3
        color = colormaps["viridis"](0.92 * (1 - ranks[number]))
        _draw_curve(
            axes, Path(vertices, codes), color, 1.2 + 1.4 * float(ranks[number]), 0.5 + 0.5 * float(ranks[number])
        )
    axes.set(xlim=(-0.3, len(scales) + 0.45), ylim=(-0.06, 1.16 if sheet.width is None else 1.26))
    axes.axis("off")
    return figure


def _draw_curve(axes: Any, path: Any, color: Any, width: float, alpha: float) -> None:
    from matplotlib.patches import PathPatch

    axes.add_patch(PathPatch(path, fill=False, edgecolor=color, lw=width, alpha=alpha))


def _draw_axis(axes: Any, x: float, scale: Scale, sheet: Sheet) -> list[float]:
    """Draw an axis with its ticks at ``x``; return the height of each of its values, from 0 to 1."""
    numbers = [value for value in scale.values if isinstance(value, float) and math.isfinite(value)]
    if len(numbers) == len(scale.values):
        low, high = min(numbers), max(numbers)
        is_log = low > 0 and high / low >= 8
        span = (lambda value: math.log(value)) if is_log else (lambda value: value)
        width = span(high) - span(low) or 1.0
        heights = [(span(value) - span(low)) / width if high > low else 0.5 for value in numbers]
        ticks = dict(zip(numbers, heights, strict=True))
        if len(ticks) > 6:
            steps = np.linspace(span(low), span(high), 5)
            ticks = {(math.exp(step) if is_log else step): (step - span(low)) / width for step in steps}
        marks = [(f"{value:.4g}", height) for value, height in ticks.items()]
    else:
        words = [_format_value(value) for value in sorted(set(scale.values), key=_sort_key)]
        places = dict(zip(words, np.linspace(0, 1, len(words)) if len(words) > 1 else [0.5], strict=True))
        heights = [float(places[_format_value(value)]) for value in scale.values]
        marks = [(word, float(place)) for word, place in places.items()]
    axes.plot([x, x], [-0.03, 1.03], color="#555555", lw=1, zorder=5)
    for text, height in marks:
        box = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1}
        axes.text(x + 0.03, height, text[:18], va="center", fontsize=sheet.points(9), zorder=6, bbox=box)
    raised = 0.1 if sheet.width is not None and x % 2 else 0.0  # on a page two names side by side would overlap
    axes.text(x, 1.09 + raised, scale.name, ha="center", va="bottom", fontsize=sheet.points(10), weight="bold")
    return heights


def _sort_key(value: float | str | None) -> tuple[int, float, str]:
    """Missing values first, then numbers by size, then words."""
    order = (value is not None) + isinstance(value, str)
    return order, value if isinstance(value, float) else 0.0, str(value)


def _format_value(value: float | str | None) -> str:
    return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)  # noqa: RUF001
