"""Plots of a code space, from plain numbers and arrays. No torch; images are uint8 [N,C,H,W]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aerun.figures.canvas import Pixels, class_colors, create_axes, render, scatter_by_class
from aerun.figures.montage import montage
from aerun.figures.spacing import spaced

DPI, MAP_PIXELS = 100, (900, 800)
THUMBNAIL_PIXELS, FRAME_PIXELS = 30, 8  # the longer side of an image on a map, and what its frame adds
MARGIN = 0.05  # of the range of the points
MAX_BARS, EMPTY_COLOR = 128, "red"


@dataclass(frozen=True)
class Points:
    """Positions [N,2] of codes on a map, with the labels [N] of their images if they are known."""

    positions: np.ndarray
    labels: np.ndarray | None = None
    classes: Sequence[str] | None = None


@dataclass(frozen=True)
class Region:
    """A map with marked positions ``marks`` [P,2], the image decoded at each, and a caption for each.

    The first ``empty`` marks are where no codes are.
    """

    title: str
    points: Points
    marks: np.ndarray
    images: np.ndarray
    captions: Sequence[str]
    empty: int = 0


def code_map(
    points: Points,
    title: str,
    axis: str,
    first: int | None = 1,
    thumbnails: np.ndarray | None = None,
    marks: np.ndarray | None = None,
    images: np.ndarray | None = None,
    size: tuple[int, int] | None = None,
) -> Pixels:
    """Codes as dots colored by class or, with ``thumbnails`` [N,C,H,W], as images that do not overlap.

    ``images`` decoded at ``marks`` [P,2] have yellow frames; those that would overlap are left out too. ``axis`` is the
    name of both axes, numbered from ``first``; without it they have no ticks, as their values have no meaning. ``size``
    is the picture's width and height in pixels.
    """
    width, height = (pixels / DPI for pixels in size or MAP_PIXELS)
    figure, axes = create_axes((width, height), DPI, measured=False)
    every = points.positions if marks is None else np.concatenate([points.positions, marks])
    _set_limits(axes, every)
    room = _thumbnail_size(axes, figure, THUMBNAIL_PIXELS + FRAME_PIXELS)
    taken = np.empty((0, 2))
    if marks is not None and images is not None:
        chosen = spaced(marks, room)
        taken = marks[chosen]
        for number in chosen:
            _draw_image(axes, marks[number], images[number], "black", 3, "#ffe000")
        title += f"; in yellow frames: {_count_shown(len(chosen), len(marks))}decoded random points"
    if thumbnails is None:
        scatter_by_class(axes, points.positions, points.labels, points.classes)
    else:
        color = None if (labels := points.labels) is None else class_colors(labels, points.classes)
        shown = spaced(points.positions, room, taken)
        if len(shown) < len(points.positions):
            title += f"\n{len(shown)} of {len(points.positions)} images shown; the others would overlap"
        for number in shown:
            edge = "#b8b8b8" if color is None or labels is None else color(int(labels[number]))
            _draw_image(axes, points.positions[number], thumbnails[number], edge, 2)
        if labels is not None:
            for number in sorted(set(labels.tolist())):
                assert color is not None
                name = points.classes[number] if points.classes else str(number)
                axes.scatter([], [], color=color(number), label=name)
            if len(set(labels.tolist())) <= 20:
                axes.legend(loc="best", fontsize=8).set_zorder(5)
    axes.set_title(title, fontsize=10)  # small enough for two lines
    if first is None:
        axes.set(xticks=[], yticks=[])
    else:
        axes.set(xlabel=f"{axis} {first}", ylabel=f"{axis} {first + 1}")
    return render(figure)


def _count_shown(shown: int, total: int) -> str:
    return "" if shown == total else f"{shown} of {total} "


def manifold(images: np.ndarray, columns: Sequence[float], rows: Sequence[float], title: str, axis: str) -> Pixels:
    """Images decoded from a grid of two-dimensional codes: images[R*S,C,H,W], row by row from the top.

    ``columns`` [S] are the code's values 0, ascending to the right; ``rows`` [R] its values 1, from the top row down,
    descending.
    """
    grid = _join_tiles(images, len(columns))
    height, width = grid.shape[:2]
    scale = max(1, round(700 / max(height, width)))
    left, low, top = 75, 50, 30
    size = (left + width * scale + 20), (low + height * scale + top)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size[0] / DPI, size[1] / DPI), dpi=DPI)
    box = (left / size[0], low / size[1], width * scale / size[0], height * scale / size[1])
    axes = figure.add_axes(box)
    axes.imshow(grid, interpolation="nearest", aspect="auto", cmap="gray", vmin=0, vmax=255)
    for ticks, values, step in (
        (axes.set_xticks, columns, width / len(columns)),
        (axes.set_yticks, rows, height / len(rows)),
    ):
        shown = range(0, len(values), -(-len(values) // 10))
        ticks([(number + 0.5) * step - 0.5 for number in shown], [f"{values[number]:.2f}" for number in shown])
    axes.set(xlabel=f"{axis} 0", ylabel=f"{axis} 1", title=title)
    return render(figure)


def kl_bars(kl: np.ndarray, active: np.ndarray, numbers: Sequence[int]) -> Pixels:
    """The KL divergence kl[D] of each latent dimension, in the order of ``numbers``; those in active[D] are dark."""
    shown = list(numbers)[:MAX_BARS]
    figure, axes = create_axes((max(6, min(16, 0.25 * len(shown) + 2)), 4), DPI)
    for name, color, which in (("active", "#20639b", True), ("not active", "#c8c8c8", False)):
        positions = [place for place, number in enumerate(shown) if bool(active[number]) is which]
        if positions:
            axes.bar(positions, kl[[shown[place] for place in positions]], color=color, label=name)
    axes.set_xticks(range(len(shown)), [str(number) for number in shown], rotation=90 if len(shown) > 30 else 0)
    more = f"; the first {MAX_BARS} shown" if len(kl) > MAX_BARS else ""
    axes.set(
        xlabel="code unit",
        ylabel="KL in nats per image",
        title=f"{int(active.sum())} of {len(kl)} units active (variance of the mean > 0.01), {kl.sum():.1f} nats{more}",
    )
    figure.legend(loc="outside lower center", ncols=2, frameon=False)  # inside it would cover bars
    return render(figure)


def dictionary(numbers: Sequence[int], use: Sequence[float], features: np.ndarray, images: np.ndarray) -> Pixels:
    """One row for each unit: its feature, features[U,C,H,W] float, scaled so that gray is zero, and
    images[U,K,C,H,W]."""
    largest = np.abs(features).max(axis=(1, 2, 3), keepdims=True)
    tiles = (np.divide(features, largest, out=np.zeros_like(features), where=largest > 0) * 127.5 + 127.5).round()
    rows = []
    for row, number in enumerate(numbers):
        channels = max(features.shape[1], images.shape[2])
        tile = np.broadcast_to(tiles[row].astype(np.uint8), (channels, *tiles.shape[2:]))[None]
        exciting = np.broadcast_to(images[row], (images.shape[1], channels, *images.shape[3:]))
        rows.append((f"unit {number}\nuse {use[row]:.3g}", np.concatenate([tile, np.full_like(tile, 255), exciting])))
    return montage(rows)


def regions(found: Sequence[Region]) -> Pixels:
    """One row for each model: the map of its codes with the marks, then the images decoded at the marks."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 5 * len(found) + 0.7), dpi=DPI, layout="constrained")
    figure.suptitle(
        "x: distance to the nearest code, over that between neighboring codes.   "
        "MSE: between the decoded image and the nearest of the images",
        fontsize=10,
    )
    for region, row in zip(found, figure.subfigures(len(found), 1, squeeze=False)[:, 0], strict=True):
        left, right = row.subfigures(1, 2, width_ratios=(5.2, 7.8))
        axes = left.subplots()
        scatter_by_class(axes, region.points.positions, region.points.labels, region.points.classes, size=3)
        _set_limits(axes, np.concatenate([region.points.positions, region.marks]))
        for number, mark in enumerate(region.marks, 1):
            axes.plot(*mark, "x", color=EMPTY_COLOR if number <= region.empty else "black", ms=9, mew=2.5)
            axes.annotate(str(number), mark, xytext=(6, 4), textcoords="offset points", weight="bold")
        axes.set_title(region.title, fontsize=10)
        if axes.get_legend() is not None:  # below, where it does not hide marks
            axes.get_legend().remove()
            left.legend(loc="outside lower center", ncols=5, fontsize=8, frameon=False)
        columns = -(-len(region.images) // 2)
        tiles = np.atleast_2d(right.subplots(2, columns))
        for tile in tiles.flat:
            tile.axis("off")
        for number, (tile, image, caption) in enumerate(
            zip(tiles.flat, region.images, region.captions, strict=False), 1
        ):
            tile.imshow(_for_imshow(image), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            color = EMPTY_COLOR if number <= region.empty else "black"
            tile.set_title(f"{number}: {caption}", fontsize=9, color=color)
    return render(figure)


def _for_imshow(image: np.ndarray) -> np.ndarray:
    """[C,H,W] -> [H,W] or [H,W,3], as imshow takes it."""
    return image[0] if len(image) == 1 else image.transpose(1, 2, 0)


def _join_tiles(images: np.ndarray, columns: int) -> np.ndarray:
    """images[R*S,C,H,W] -> pixels [R*H,S*W] or [R*H,S*W,3], without gaps."""
    count, channels, height, width = images.shape
    grid = images.reshape(count // columns, columns, channels, height, width).transpose(0, 3, 1, 4, 2)
    pixels = grid.reshape(count // columns * height, columns * width, channels)
    return pixels[:, :, 0] if channels == 1 else pixels


def _set_limits(axes: Any, positions: np.ndarray) -> None:
    low, high = positions.min(0), positions.max(0)
    margin = MARGIN * np.where(high > low, high - low, 1)
    axes.set(xlim=(low[0] - margin[0], high[0] + margin[0]), ylim=(low[1] - margin[1], high[1] + margin[1]))


def _thumbnail_size(axes: Any, figure: Any, pixels: float) -> tuple[float, float]:
    """The width and height of that many pixels in the axes' units."""
    box, (left, right), (low, high) = axes.get_position(), axes.get_xlim(), axes.get_ylim()
    width, height = box.width * figure.get_figwidth() * DPI, box.height * figure.get_figheight() * DPI
    return pixels / width * (right - left), pixels / height * (high - low)


def _draw_image(axes: Any, place: np.ndarray, image: np.ndarray, edge: Any, order: int, frame: str = "white") -> None:
    """Draw an image centered at that position."""
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    # OffsetImage counts in points, 72 to the inch.
    zoom = THUMBNAIL_PIXELS / max(image.shape[1:]) * 72 / DPI
    picture = OffsetImage(_for_imshow(image), zoom=zoom, cmap="gray", norm=_byte_range(), interpolation="antialiased")
    box = {"edgecolor": edge, "facecolor": frame, "lw": 1.5 if frame == "white" else 0.5}
    placed = AnnotationBbox(picture, tuple(place), pad=0.1 if frame == "white" else 0.22, bboxprops=box)
    placed.set_zorder(order)
    axes.add_artist(placed)


def _byte_range() -> Any:
    from matplotlib.colors import Normalize

    return Normalize(0, 255)
