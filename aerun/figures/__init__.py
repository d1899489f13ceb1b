"""Pictures of a run. Functions take tensors or numbers and return pixels; none writes a file.

Grids of images are plain arrays; matplotlib is imported only for figures with axes. Importing this package does not
import torch, because ``aerun.compare`` draws with ``run_charts`` and works without it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from aerun.figures.canvas import Pixels, create_axes, render, scatter_by_class, set_title

if TYPE_CHECKING:
    from torch import Tensor

GAP, MIN_TILE_PIXELS = 2, 56  # pixels between images, and the size to which smaller ones are enlarged
MAX_TILES = 256
LEGEND_COLUMNS = 2  # of curves with baselines


def as_bytes(images: Tensor) -> Tensor:
    """Images in [0,1], clipped to that range -> uint8 on the CPU."""
    return (images.float().clamp(0, 1) * 255).round().byte().cpu()


def image_rows(rows: list[Tensor], scale: int | None = None) -> Pixels:
    """Rows of images [N,C,H,W] in [0,1], clipped to that range -> one uint8 picture [H',W'] or [H',W',3].

    If any row is in color, all are drawn in color. Small images are enlarged by a whole factor.
    """
    channels = max(row.shape[1] for row in rows)
    height, width = rows[0].shape[2:]
    scale = scale or max(1, MIN_TILE_PIXELS // max(height, width))
    count = max(len(row) for row in rows)
    canvas = np.full(
        (len(rows) * (height * scale + GAP) - GAP, count * (width * scale + GAP) - GAP, channels),
        255,
        np.uint8,
    )
    for top, row in enumerate(rows):
        pixels = as_bytes(row)
        pixels = pixels.expand(-1, channels, -1, -1).permute(0, 2, 3, 1)
        enlarged = pixels.repeat_interleave(scale, 1).repeat_interleave(scale, 2).numpy()
        for left, image in enumerate(enlarged):
            y, x = top * (height * scale + GAP), left * (width * scale + GAP)
            canvas[y : y + height * scale, x : x + width * scale] = image
    return canvas[:, :, 0] if channels == 1 else canvas


def wrap(images: Tensor, columns: int) -> list[Tensor]:
    """Split images [N,C,H,W] into rows of ``columns``."""
    return list(images.split(columns))


def reconstruction_grid(inputs: Tensor, noisy: Tensor, outputs: Tensor, targets: Tensor) -> Pixels:
    """Rows: input, corrupted input, target, reconstruction, absolute error; one column for each image.

    The corrupted input and the target have a row only where they differ from the input. Inputs of another size than
    the targets are left out.
    """
    rows = [inputs, noisy] if not noisy.equal(inputs) else [inputs]
    if inputs.shape[2:] != targets.shape[2:]:
        rows = [targets]
    elif not targets.equal(inputs):
        rows.append(targets)
    return image_rows([*rows, outputs, (outputs.clamp(0, 1) - targets).abs()])


def filters(weights: Tensor, use: Tensor | None = None) -> Pixels:
    """Weights [N,C,H,W] as tiles, each scaled by its largest absolute value, so that gray is zero.

    At most 256 tiles: the first, or with ``use`` [N] the most used, in their own order. Unused ones stay gray.
    """
    if use is not None:
        weights = weights * (use > 0).view(-1, 1, 1, 1)
        if len(weights) > MAX_TILES:
            weights = weights[use.topk(MAX_TILES).indices.sort().values]
    weights = weights[:MAX_TILES].detach().float().cpu()
    if weights.shape[1] not in (1, 3):
        weights = weights.mean(1, keepdim=True)
    largest = weights.abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-12)
    tiles = weights / largest * 0.5 + 0.5
    columns = int(np.ceil(np.sqrt(len(tiles))))
    scale = max(1, MIN_TILE_PIXELS // max(tiles.shape[2:]))
    return image_rows(wrap(tiles, columns), scale=scale)


def code_heatmap(codes: Tensor) -> Pixels:
    """Codes [N,D]: one row for each unit, one column for each image; colors are clipped at the 99.5th percentile of
    absolute values."""
    from matplotlib.ticker import MaxNLocator

    values = codes.float().cpu().numpy().T
    figure, axes = create_axes((9, min(4 + len(values) / 100, 12)), measured=False)
    limit = float(np.quantile(np.abs(values), 0.995)) or float(np.abs(values).max()) or 1.0
    signed = values.min() < 0
    picture = axes.imshow(
        values,
        aspect="auto",
        interpolation="nearest",
        cmap="RdBu_r" if signed else "viridis",
        vmin=-limit if signed else 0,
        vmax=limit,
    )
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="image", ylabel="code unit")
    bar = figure.colorbar(picture, ax=axes, extend="both" if signed else "max", label="code")
    set_title(axes, f"Codes of {values.shape[1]} test images")
    set_title(bar.ax)
    return render(figure)


def scatter(
    points: Tensor, labels: Tensor | None, classes: list[str] | None, title: str, axis: str, first: int = 1
) -> Pixels:
    """Points [N,2], colored by class; the color of a class does not depend on which others occur.

    ``axis`` is the name of both axes, which are numbered from ``first``.
    """
    figure, axes = create_axes((7, 6), measured=False)
    scatter_by_class(axes, points.float().cpu().numpy(), None if labels is None else labels.cpu().numpy(), classes)
    axes.set(xlabel=f"{axis} {first}", ylabel=f"{axis} {first + 1}")
    set_title(axes, title)
    return render(figure)


Series = dict[str, tuple[list[float], list[float]]]  # lines by name, each a pair (epochs, values)


def curves(series: Series, ylabel: str, logarithmic: bool = True) -> Pixels:
    """Lines by epoch."""
    figure, axes = create_axes((7, 4), measured=False)
    _plot_curves(axes, series, ylabel)
    if logarithmic:
        _set_logarithmic(axes, [value for _, y in series.values() for value in y])
    return render(figure)


def curves_with_baselines(series: Series, ends: dict[str, float], baselines: dict[str, float], ylabel: str) -> Pixels:
    """Lines by epoch, ``ends`` as marks at the end, and ``baselines`` as dashed lines, named above the axes, where the
    legend hides none of them. Readable as a small picture."""
    lines = math.ceil((len(series) + len(ends) + len(baselines)) / LEGEND_COLUMNS)
    legend = 0.2 * lines - 0.2  # inches more than the margin
    figure, axes = create_axes((5.6, 3.0 + legend), measured=False, above=legend)
    _plot_curves(axes, series, ylabel)
    last = max((x[-1] for x, _ in series.values()), default=0)
    for name, value in ends.items():
        axes.plot([last], [value], "*", color="black", markersize=9, label=f"{name} {value:.4g}", zorder=3)
    for number, (name, value) in enumerate(baselines.items()):
        axes.axhline(value, linestyle="--", color=f"C{number + 4}", label=f"{name} {value:.4g}")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=LEGEND_COLUMNS, fontsize=9, frameon=False)
    _set_logarithmic(axes, [*ends.values(), *baselines.values(), *(value for _, y in series.values() for value in y)])
    return render(figure)


def _plot_curves(axes: Any, series: Series, ylabel: str) -> None:
    for name, (x, y) in series.items():
        axes.plot(x, y, label=name, marker="." if len(x) < 40 else None)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="epoch", ylabel=ylabel)
    set_title(axes)
    axes.grid(alpha=0.3)
    if len(series) > 1:
        axes.legend()


def _set_logarithmic(axes: Any, values: list[float]) -> None:
    """A logarithmic axis, if all values are positive."""
    from matplotlib.ticker import LogLocator, NullLocator

    if not all(value > 0 for value in values):
        return
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5) if high < 100 * low else (1,)))
    # Plain numbers: typesetting them as formulas takes a third of the drawing time.
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())


def label_curves(curves: dict[str, list[tuple[int, float, float]]]) -> Pixels:
    """Error by number of labels, for each kind of features: points (labels, mean, standard deviation)."""
    figure, axes = create_axes((7, 4), measured=False)
    for name, points in curves.items():
        labels, means, deviations = zip(*points, strict=True)
        axes.errorbar(labels, means, deviations, label=name, marker=".", capsize=3)
    axes.set(xscale="log", yscale="log", xlabel="labels", ylabel="test error in %", title="Label efficiency")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    return render(figure)


def principal_plane(codes: Tensor) -> Tensor:
    """Codes [N,D] -> coordinates [N,2] on the two leading principal axes."""
    import torch

    centered = codes.float().cpu() - codes.float().cpu().mean(0)
    left, values, _ = torch.linalg.svd(centered, full_matrices=False)
    plane = (left * values)[:, :2]
    return torch.nn.functional.pad(plane, (0, 2 - plane.shape[1]))  # a single image has no principal axes
