"""Figures of a run's code space: maps, decoded grids, what each unit does. They return pixels [H,W,3], uint8."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from aerun.core.image_inputs import as_tensor
from aerun.dataset.data import as_float
from aerun.errors import ConfigError, DataError
from aerun.figures import as_bytes
from aerun.figures import code_plots as figures
from aerun.figures.canvas import Pixels
from aerun.figures.projection import NAMES, Method, project
from aerun.use.generation.empty_points import EmptyPoints, find_empty_points, nearest_errors
from aerun.use.inputs import DEFAULT_IMAGES, Sample, images_or_test_sample, sample_test_images
from aerun.use.maps.code_units import find_dictionary, measure_units
from aerun.use.maps.zoom_page import build_zoom_page
from aerun.use.opened_run import OpenedRun, Run, as_opened

if TYPE_CHECKING:
    from aerun.core.image_inputs import Images

MARGIN_SHARE = 0.05  # of codes, or of the prior, outside the decoded grid on each side


@dataclass(frozen=True)
class Placed:
    """``images`` [N,*shape], the run's inputs, at ``points`` [N,2], and codes decoded at ``marks`` [P,2], if any."""

    method: Method
    images: Tensor
    points: np.ndarray
    marks: np.ndarray | None
    decoded: np.ndarray | None

    @property
    def title(self) -> str:
        """What the map shows."""
        suffix = {"codes": "", "pca": ", PCA"}.get(self.method, f", {NAMES[self.method]}")
        return f"Codes of {len(self.points)} images{suffix}"


def place_images(
    run: Run, images: Images, method: Method = "pca", drawn: Tensor | np.ndarray | None = None, seed: int = 0
) -> Placed:
    """The codes of images[N,*shape] in two dimensions (``projection.project``), with more codes [P,*code_shape]."""
    run = as_opened(run)
    inputs = run.as_inputs(images)
    codes = run.encode(inputs).flatten(1)
    count = len(codes)
    if drawn is not None:
        drawn = run.as_codes(drawn)
        codes = torch.cat([codes, drawn.flatten(1)])
    places = project(codes, method, seed)
    if drawn is None or not run.is_image:
        return Placed(method, inputs, places[:count], None, None)
    return Placed(method, inputs, places[:count], places[count:], _to_uint8(run.decode(drawn)))


def latent_map(
    run: Run,
    images: Images | None = None,
    method: Method = "pca",
    *,
    labels: Tensor | np.ndarray | None = None,
    classes: Sequence[str] | None = None,
    thumbnails: bool = False,
    drawn: Tensor | np.ndarray | None = None,
    size: tuple[int, int] | None = None,
    seed: int = 0,
) -> Pixels:
    """The codes of images[N,*shape] in two dimensions (``plane.project``), colored by class, or shown as thumbnails.

    Default: 2,000 of the run's test images with their classes. ``drawn``: more codes [P,*code_shape], such as those of
    ``sampling.sample_codes``, shown as decoded images. They are projected together with the others, because t-SNE
    cannot place points afterwards. ``size``: width and height of the picture in pixels; a larger one has more
    thumbnails, as many as fit without overlap.
    """
    run = as_opened(run)
    if images is None:
        sample = sample_test_images(run, DEFAULT_IMAGES)
        images, labels, classes = sample.images, sample.labels, sample.classes
    placed = place_images(run, images, method, drawn, seed)
    return draw_map(run, placed, labels, classes, thumbnails=thumbnails, size=size)


def draw_map(
    run: OpenedRun,
    placed: Placed,
    labels: Tensor | np.ndarray | None,
    classes: Sequence[str] | None,
    *,
    thumbnails: bool,
    size: tuple[int, int] | None = None,
) -> Pixels:
    """The picture of ``latent_map``, from images that have their places."""
    return figures.code_map(
        figures.Points(placed.points, _label_array(labels, len(placed.points)), classes),
        placed.title,
        NAMES[placed.method],
        first={"codes": 0, "pca": 1}.get(placed.method),
        thumbnails=_to_uint8(as_float(placed.images)) if thumbnails and run.is_image else None,
        marks=placed.marks,
        images=placed.decoded,
        size=size,
    )


def most_thumbnails(size: tuple[int, int]) -> int:
    """How many thumbnails have room on a map of that width and height in pixels, wherever they are."""
    return size[0] * size[1] // (figures.THUMBNAIL_PIXELS + figures.FRAME_PIXELS) ** 2


def zoom_page(placed: Placed, labels: Tensor | np.ndarray | None, classes: Sequence[str] | None) -> str:
    """The images at their places as an HTML page that moves and zooms (``zoom_page.build_zoom_page``)."""
    images, known = _to_uint8(as_float(placed.images)), _label_array(labels, len(placed.points))
    return build_zoom_page(placed.points, images, placed.title, known, classes)


def manifold_codes(run: OpenedRun, images: Images | None, side: int) -> tuple[Tensor, list[float], list[float]]:
    """Codes [side*side,*code_shape] of two values on a grid, row by row from the top.

    Also returns the values of its columns (value 0, ascending) and rows (value 1, descending). For a Gaussian latent:
    quantiles of the prior from 5 to 95% in equal steps (Kingma & Welling 2013, "Auto-encoding variational Bayes",
    appendix A). Otherwise: equal steps between these percentiles of the codes of ``images``.
    """
    if run.code_size != 2:
        raise ConfigError(f"{run.folder}: a grid of decoded codes needs codes of 2 values, these have {run.code_size}")
    if run.is_gaussian:
        quantiles = torch.linspace(MARGIN_SHARE, 1 - MARGIN_SHARE, side, dtype=torch.float64)
        columns = rows = torch.special.ndtri(quantiles)
    else:
        if images is None:
            raise ConfigError("images: needed for the range of the grid, because the model has no prior")
        codes = run.encode(images).flatten(1).double()
        low, high = codes.quantile(MARGIN_SHARE, dim=0), codes.quantile(1 - MARGIN_SHARE, dim=0)
        columns, rows = (torch.linspace(float(low[i]), float(high[i]), side, dtype=torch.float64) for i in (0, 1))
    descending = rows.flip(0)
    grid = torch.stack([columns.repeat(side), descending.repeat_interleave(side)], 1)
    return grid.float().view(-1, *run.autoencoder.code_shape), columns.tolist(), descending.tolist()


def manifold(run: Run, images: Images | None = None, side: int = 20) -> Pixels:
    """Decoded codes of two values on a grid (``manifold_codes``): value 0 grows to the right, value 1 upwards.

    Without a prior, ``images`` (default: 2,000 test images) give the range.
    """
    run = as_opened(run)
    if run.code_size == 2 and not run.is_gaussian:
        images = images_or_test_sample(run, images)
    codes, columns, rows = manifold_codes(run, images, side)
    steps = "quantiles of the prior" if run.is_gaussian else "between percentiles of the codes"
    title = f"Decoded codes, {steps}, 5 to 95 %"
    return figures.manifold(_to_uint8(run.decode(codes)), columns, rows, title, "code unit")


def active_units(run: Run, images: Images | None = None) -> Pixels:
    """The KL divergence of each unit of a Gaussian latent, and which units are active.

    Over images[N,*shape], default 2,000 test images.
    """
    run = as_opened(run)
    if not run.is_gaussian:
        raise ConfigError(f"{run.folder}: its latent is deterministic, so its units have no KL divergence")
    units = measure_units(run, images_or_test_sample(run, images))
    assert units.kl is not None
    return figures.kl_bars(units.kl.numpy(), units.active.numpy(), units.order)


def dictionary(run: Run, images: Images | None = None, rows: int = 24, top: int = 8) -> Pixels:
    """The ``rows`` most used code units, each with what it adds to an image and the ``top`` images that excite it most.

    Over images[N,*shape], default 2,000 test images.
    """
    run = as_opened(run)
    if run.autoencoder.input_shape[1:] != run.autoencoder.output_shape[1:] or not run.is_image:
        raise ConfigError(f"{run.folder}: its inputs and outputs must be images of one size to be shown in one figure")
    inputs = as_float(images_or_test_sample(run, images))
    found = find_dictionary(run, inputs, rows, top)
    excited = np.stack([_to_uint8(inputs[row]) for row in found.images])
    return figures.dictionary(found.numbers, found.use.tolist(), found.features.float().numpy(), excited)


def empty_regions(runs: Sequence[Run], shown: Sequence[Sample], seed: int = 0) -> tuple[Pixels, list[EmptyPoints]]:
    """Points far from all codes, and random points, decoded by several models: one row of the figure per model.

    ``shown``: for each model the images whose codes are drawn.
    """
    found, parts = [], []
    for run, sample in zip(map(as_opened, runs), shown, strict=True):
        inputs = as_float(run.as_inputs(sample.images))
        points = find_empty_points(run, inputs, seed=seed)
        same_shape = run.shape == run.autoencoder.output_shape
        errors = nearest_errors(points.images, inputs) if same_shape else None
        captions = []
        for number, distance in enumerate(points.distances):
            kind = ("emptiest" if number == 0 else "next emptiest") if number < len(points.empty) else "random"
            captions.append(f"{kind}, {distance / points.usual:.0f}x" + _format_error(errors, number))
        plane = "codes" if points.plane.is_whole else f"plane of {points.plane.share:.0%} of the codes' variance"
        title = f"{run.folder.name}: {len(points.codes)} codes ({plane})"
        codes = figures.Points(points.codes, _label_array(sample.labels, len(inputs)), sample.classes)
        marks = np.concatenate([points.empty, points.random])
        parts.append(figures.Region(title, codes, marks, _to_uint8(points.images), captions, len(points.empty)))
        found.append(points)
    return figures.regions(parts), found


def _format_error(errors: Tensor | None, number: int) -> str:
    return "" if errors is None else f"\nMSE {float(errors[number]):.3f}"


def _label_array(labels: Tensor | np.ndarray | None, count: int) -> np.ndarray | None:
    """Labels [N] as an array. DataError unless there is one for each of ``count`` images."""
    if labels is None:
        return None
    found = as_tensor(labels).detach().cpu().numpy()
    if found.shape != (count,):
        raise DataError(f"labels of shape {list(found.shape)}: must be [{count}], one for each image")
    return found


def _to_uint8(images: Tensor) -> np.ndarray:
    pixels: np.ndarray = as_bytes(images).numpy()
    return pixels
