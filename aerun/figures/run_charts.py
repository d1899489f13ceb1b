"""Charts of many runs, from plain numbers and arrays. No torch.

The first ``MAX_COLORED`` groups of a chart have their own colors; the others are gray.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from aerun.figures.canvas import SCREEN, Sheet, create_axes, set_logarithmic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_COLORED = 10
DPI = 130
GRAY = "#b8b8b8"


@dataclass(frozen=True)
class Curve:
    """The mean of several runs at points of the training, with the lowest and the highest of them. ``complete``: all
    have finished."""

    label: str
    x: Sequence[float]
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    complete: bool = True


@dataclass(frozen=True)
class ErrorBySize:
    """Mean errors of one kind of autoencoder by code size, with their standard deviations."""

    label: str
    sizes: Sequence[float]
    means: Sequence[float]
    deviations: Sequence[float]


def learning_curves(curves: Sequence[Curve], ylabel: str, xlabel: str = "epoch", sheet: Sheet = SCREEN) -> Figure:
    """One line for each group, with a band from its lowest to its highest run; dashed if runs have not finished."""
    figure, axes = _axes_with_legend([curve.label for curve in curves], sheet)
    palette = _palette()
    for number, curve in reversed(list(enumerate(curves))):
        is_named = number < MAX_COLORED
        color = palette[number] if is_named else GRAY
        style = "-" if curve.complete else "--"
        marker = "." if len(curve.x) < 30 and is_named else None
        width = 1.6 if is_named else 0.8
        axes.plot(curve.x, curve.mean, style, color=color, marker=marker, lw=width, zorder=3 if is_named else 1)
        if is_named:
            axes.fill_between(curve.x, curve.low, curve.high, color=color, alpha=0.18, lw=0)
    if all(value > 0 for curve in curves for value in curve.low):
        # A single diverging run must not flatten all others.
        top = min(max(max(curve.high) for curve in curves), 10 * statistics.median(max(curve.high) for curve in curves))
        bottom = min(min(curve.low) for curve in curves)
        set_logarithmic(axes.yaxis, [bottom, top])
        axes.set_ylim(bottom / 1.1, top * 1.1)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.grid(alpha=0.25, which="both")
    handles = [
        axes.plot([], [], "-" if curve.complete else "--", color=palette[number], label=curve.label)[0]
        for number, curve in enumerate(curves[:MAX_COLORED])
    ]
    if len(curves) > MAX_COLORED:
        handles += axes.plot([], [], color=GRAY, label=f"{len(curves) - MAX_COLORED} more")
    _add_legend(figure, handles, sheet)
    return figure


def _axes_with_legend(labels: Sequence[str], sheet: Sheet) -> tuple[Figure, Any]:
    """A figure with room for a legend of these labels: to the right on a screen, below on a page."""
    longest = max(len(label) for label in labels[:MAX_COLORED])
    lines = math.ceil((min(len(labels), MAX_COLORED) + 1) / _legend_columns(labels, sheet))
    return create_axes(sheet.size(7 + 0.075 * longest, 4.6, legend=lines), DPI)


def _legend_columns(labels: Sequence[str], sheet: Sheet) -> int:
    """How many columns of a legend fit below a chart on a page."""
    longest = max(len(label) for label in labels[:MAX_COLORED])
    return 1 if sheet.width is None else max(1, int(sheet.width / (0.058 * longest + 0.42)))  # inches of each


def _add_legend(figure: Any, handles: Sequence[Any], sheet: Sheet) -> None:
    place = "outside right upper" if sheet.width is None else "outside lower left"
    columns = _legend_columns([handle.get_label() for handle in handles], sheet)
    figure.legend(handles=handles, loc=place, ncols=columns, fontsize=sheet.points(9), frameon=False)


def heat_map(
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    names: tuple[str, str],
    metric: str,
    higher_is_better: bool,
    sheet: Sheet = SCREEN,
) -> Figure:
    """values[R,C] as colors and numbers, NaN as empty cells; darker is better."""
    from matplotlib.colors import LogNorm, Normalize

    height, width = 1.6 + 0.55 * len(rows), 2.8 + 0.085 * max(map(len, rows)) + 0.95 * len(columns)
    figure, axes = create_axes(sheet.size(max(4.5, min(width, 16)), max(2.6, min(height, 14))), DPI)
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
                style = {"ha": "center", "va": "center", "fontsize": sheet.points(10)}
                axes.text(column, row, f"{value:.4g}", color="white" if dark else "black", **style)
            else:
                axes.text(column, row, "–", ha="center", va="center", color="#777777")  # noqa: RUF001
    bar = figure.colorbar(picture, ax=axes, label=metric)
    if scale is LogNorm:
        set_logarithmic(bar.ax.yaxis, [low, high], set_scale=False)
    return figure


def error_by_code_size(
    kinds: Sequence[ErrorBySize],
    pca: tuple[Sequence[float], Sequence[float]],
    constant: float | None,
    ylabel: str,
    sheet: Sheet = SCREEN,
) -> Figure:
    """One line for each kind; PCA with the same code sizes dashed, the mean image dotted."""
    figure, axes = _axes_with_legend([kind.label for kind in kinds], sheet)
    palette = _palette()
    handles: list[Any] = []
    for number, kind in enumerate(kinds):
        color, label = (palette[number], kind.label) if number < MAX_COLORED else (GRAY, None)
        style = {"color": color, "label": label, "marker": "o", "ms": 4, "lw": 1.5, "capsize": 3}
        style["zorder"] = 3 if label else 2
        drawn = axes.errorbar(kind.sizes, kind.means, kind.deviations, **style)
        handles += [drawn] if label else []
    if len(kinds) > MAX_COLORED:
        handles += axes.plot([], [], color=GRAY, marker="o", ms=4, label=f"{len(kinds) - MAX_COLORED} more")
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
    _add_legend(figure, handles, sheet)
    return figure


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
