"""Charts of many runs, from plain numbers and arrays. No torch.

The first ``MAX_COLORED`` groups of a chart have their own colors; the others are gray.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from aerun.figures.canvas import Pixels, create_axes, render, set_logarithmic

MAX_COLORED = 10
DPI = 130
GRAY = "#b8b8b8"


@dataclass(frozen=True)
class Curve:
    """The mean of several runs by epoch, with the lowest and the highest of them. ``complete``: all have finished."""

    label: str
    epochs: Sequence[float]
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    complete: bool = True


@dataclass(frozen=True)
class Scale:
    """One axis of parallel coordinates: a value for each line, numbers or words; None is missing."""

    name: str
    values: Sequence[float | str | None]


@dataclass(frozen=True)
class ErrorBySize:
    """Mean errors of one kind of autoencoder by code size, with their standard deviations."""

    label: str
    sizes: Sequence[float]
    means: Sequence[float]
    deviations: Sequence[float]


def learning_curves(curves: Sequence[Curve], ylabel: str) -> Pixels:
    """One line for each group, with a band from its lowest to its highest run; dashed if runs have not finished."""
    longest = max(len(curve.label) for curve in curves[:MAX_COLORED])
    figure, axes = create_axes((7 + 0.075 * longest, 4.6), DPI)
    palette = _palette()
    for number, curve in reversed(list(enumerate(curves))):
        is_named = number < MAX_COLORED
        color = palette[number] if is_named else GRAY
        style = "-" if curve.complete else "--"
        marker = "." if len(curve.epochs) < 30 and is_named else None
        width = 1.6 if is_named else 0.8
        axes.plot(curve.epochs, curve.mean, style, color=color, marker=marker, lw=width, zorder=3 if is_named else 1)
        if is_named:
            axes.fill_between(curve.epochs, curve.low, curve.high, color=color, alpha=0.18, lw=0)
    if all(value > 0 for curve in curves for value in curve.low):
        # A single diverging run must not flatten all others.
        top = min(max(max(curve.high) for curve in curves), 10 * statistics.median(max(curve.high) for curve in curves))
        bottom = min(min(curve.low) for curve in curves)
        set_logarithmic(axes.yaxis, [bottom, top])
        axes.set_ylim(bottom / 1.1, top * 1.1)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="epoch", ylabel=ylabel)
    axes.grid(alpha=0.25, which="both")
    handles = [
        axes.plot([], [], "-" if curve.complete else "--", color=palette[number], label=curve.label)[0]
        for number, curve in enumerate(curves[:MAX_COLORED])
    ]
    if len(curves) > MAX_COLORED:
        handles += axes.plot([], [], color=GRAY, label=f"{len(curves) - MAX_COLORED} more")
    figure.legend(handles=handles, loc="outside right upper", fontsize=9, frameon=False)
    return render(figure)


def heat_map(
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    names: tuple[str, str],
    metric: str,
    higher_is_better: bool,
) -> Pixels:
    """values[R,C] as colors and numbers, NaN as empty cells; darker is better."""
    from matplotlib.colors import LogNorm, Normalize

    height, width = 1.6 + 0.55 * len(rows), 2.8 + 0.085 * max(map(len, rows)) + 0.95 * len(columns)
    figure, axes = create_axes((max(4.5, min(width, 16)), max(2.6, min(height, 14))), DPI)
    finite = values[np.isfinite(values)]
    low, high = float(finite.min()), float(finite.max())
    scale = LogNorm if low > 0 and high / low > 10 else Normalize
    colors = "viridis_r" if higher_is_better else "viridis"
    axes.set_facecolor("#ececec")
    picture = axes.imshow(values, cmap=colors, norm=scale(low, high), aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=0 if max(map(len, columns)) < 12 else 30)
    axes.set_yticks(range(len(rows)), rows)
    axes.set(xlabel=names[1], ylabel=names[0])
    if values.size <= 200:
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                red, green, blue, _ = picture.cmap(picture.norm(value))
                dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
                axes.text(column, row, f"{value:.4g}", ha="center", va="center", color="white" if dark else "black")
            else:
                axes.text(column, row, "–", ha="center", va="center", color="#777777")  # noqa: RUF001
    bar = figure.colorbar(picture, ax=axes, label=metric)
    if scale is LogNorm:
        set_logarithmic(bar.ax.yaxis, [low, high], set_scale=False)
    return render(figure)


def parallel_coordinates(scales: Sequence[Scale], metric: Scale, higher_is_better: bool) -> Pixels:
    """One line for each group, through its settings to its metric; better ones are thicker and drawn on top."""
    from matplotlib import colormaps
    from matplotlib.path import Path

    figure, axes = create_axes((max(6.5, 2.0 * (len(scales) + 1)), 4.6), DPI)
    heights = np.array([_draw_axis(axes, x, scale) for x, scale in enumerate([*scales, metric])])
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
    axes.set(xlim=(-0.3, len(scales) + 0.45), ylim=(-0.06, 1.16))
    axes.axis("off")
    return render(figure)


def _draw_curve(axes: Any, path: Any, color: Any, width: float, alpha: float) -> None:
    from matplotlib.patches import PathPatch

    axes.add_patch(PathPatch(path, fill=False, edgecolor=color, lw=width, alpha=alpha))


def _draw_axis(axes: Any, x: float, scale: Scale) -> list[float]:
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
        axes.text(x + 0.03, height, text[:18], va="center", fontsize=9, zorder=6, bbox=box)
    axes.text(x, 1.09, scale.name, ha="center", va="bottom", fontsize=10, weight="bold")
    return heights


def _sort_key(value: float | str | None) -> tuple[int, float, str]:
    """Missing values first, then numbers by size, then words."""
    order = (value is not None) + isinstance(value, str)
    return order, value if isinstance(value, float) else 0.0, str(value)


def _format_value(value: float | str | None) -> str:
    return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)  # noqa: RUF001


def error_by_code_size(
    kinds: Sequence[ErrorBySize], pca: tuple[Sequence[float], Sequence[float]], constant: float | None, ylabel: str
) -> Pixels:
    """One line for each kind; PCA with the same code sizes dashed, the mean image dotted."""
    longest = max(len(kind.label) for kind in kinds[:MAX_COLORED])
    figure, axes = create_axes((7 + 0.075 * longest, 4.6), DPI)
    palette = _palette()
    handles: list[Any] = []
    for number, kind in enumerate(kinds):
        color, label = (palette[number], kind.label) if number < MAX_COLORED else (GRAY, None)
        style = {"color": color, "label": label, "marker": "o", "ms": 4, "lw": 1.5, "capsize": 3}
        style["zorder"] = 3 if label else 2
        drawn = axes.errorbar(kind.sizes, kind.means, kind.deviations, **style)
        handles += [drawn] if label else []
    if pca[0]:
        handles += axes.plot(*pca, "k--", marker="s", ms=3, lw=1.2, label="PCA")
    if constant is not None:
        handles.append(axes.axhline(constant, color="black", ls=":", lw=1.2, label="mean image"))
    sizes = sorted({size for kind in kinds for size in kind.sizes} | set(pca[0]))
    errors = [mean for kind in kinds for mean in kind.means] + list(pca[1])
    axes.set_xscale("log", base=2)
    if min(errors) > 0:
        set_logarithmic(axes.yaxis, errors)
    ticks = _spaced_sizes(sizes)
    axes.set_xticks(ticks, [f"{size:.0f}" for size in ticks])
    axes.minorticks_off()
    axes.set(xlabel="code size", ylabel=ylabel)
    axes.grid(alpha=0.25)
    figure.legend(handles=handles, loc="outside right upper", fontsize=9, frameon=False)
    return render(figure)


def _spaced_sizes(sizes: Sequence[float]) -> list[float]:
    """Those ascending sizes whose labels do not overlap on a logarithmic axis."""
    span = math.log(sizes[-1] / sizes[0]) if sizes[0] > 0 else 0.0
    chosen = [sizes[0]]
    for size in sizes[1:]:
        if span and math.log(size / chosen[-1]) > span / 14:
            chosen.append(size)
    return chosen


def _palette() -> list[Any]:
    from matplotlib import colormaps

    return [colormaps["tab10"](number) for number in range(MAX_COLORED)]
