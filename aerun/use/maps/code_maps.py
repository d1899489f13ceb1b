"""Pictures of a run's code space: maps, the decoded plane, what each unit does. They return pixels [H,W,3], uint8."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from aerun.errors import ConfigError
from aerun.figures import as_bytes
from aerun.figures import code_plots as figures
from aerun.figures.canvas import Pixels
from aerun.figures.projection import NAMES, Method, project
from aerun.use.generation.empty_points import EmptyPoints, find_empty_points, nearest_errors
from aerun.use.inputs import DEFAULT_IMAGES, Sample, images_or_test_sample, sample_test_images
from aerun.use.maps import code_units as _units
from aerun.use.opened_run import OpenedRun, Run, as_opened

MARGIN_SHARE = 0.05  # share of codes, or of the prior, that the decoded grid leaves out on each side


def latent_map(
    run: Run,
    images: Tensor | None = None,
    method: Method = "pca",
    *,
    labels: Tensor | None = None,
    classes: Sequence[str] | None = None,
    thumbnails: bool = False,
    drawn: Tensor | None = None,
    seed: int = 0,
) -> Pixels:
    """The codes of images[N,*shape] in two dimensions (``plane.project``), by class, or as the images themselves. Of
    2,000 of the run's test images with their classes, if none are given.

    ``drawn``: further codes [P,*code_shape], as ``sampling.sample_codes`` makes them, whose decoded images are drawn
    in. They are mapped together with the others: t-SNE places nothing afterwards.
    """
    run = as_opened(run)
    if images is None:
        own = sample_test_images(run, DEFAULT_IMAGES)
        images, labels, classes = own.images, own.labels, own.classes
    codes = run.encode(images).flatten(1)
    count = len(codes)
    if drawn is not None:
        codes = torch.cat([codes, drawn.flatten(1)])
    places = project(codes, method, seed)
    show = run.is_image
    return figures.code_map(
        figures.Points(places[:count], None if labels is None else labels.numpy(), classes),
        f"Codes of {count} images" + ("" if method == "codes" else f", {'PCA' if method == 'pca' else NAMES[method]}"),
        NAMES[method],
        first={"codes": 0, "pca": 1}.get(method),
        thumbnails=_to_uint8(images) if thumbnails and show else None,
        marks=places[count:] if drawn is not None and show else None,
        images=_to_uint8(run.decode(drawn)) if drawn is not None and show else None,
    )


def manifold_codes(run: OpenedRun, images: Tensor | None, side: int) -> tuple[Tensor, list[float], list[float]]:
    """Codes [side*side,*code_shape] of two values on a grid, row after row from the top, with the values of its
    columns (value 0, ascending) and rows (value 1, descending).

    For a Gaussian latent quantiles of the prior, from 5 to 95 % in even steps (Kingma & Welling 2013, appendix A), else
    even steps between these percentiles of the codes of ``images``.
    """
    if run.code_size != 2:
        raise ConfigError(f"a grid of decoded codes needs codes of 2 values, {run.folder} has {run.code_size}")
    if run.is_gaussian:
        even = torch.linspace(MARGIN_SHARE, 1 - MARGIN_SHARE, side, dtype=torch.float64)
        columns = rows = torch.special.ndtri(even)
    else:
        if images is None:
            raise ConfigError("the grid of a model without a prior spans the codes of images: none are given")
        codes = run.encode(images).flatten(1).double()
        low, high = codes.quantile(MARGIN_SHARE, dim=0), codes.quantile(1 - MARGIN_SHARE, dim=0)
        columns, rows = (torch.linspace(float(low[i]), float(high[i]), side, dtype=torch.float64) for i in (0, 1))
    down = rows.flip(0)
    grid = torch.stack([columns.repeat(side), down.repeat_interleave(side)], 1)
    return grid.float().view(-1, *run.autoencoder.code_shape), columns.tolist(), down.tolist()


def manifold(run: Run, images: Tensor | None = None, side: int = 20) -> Pixels:
    """What a code of two values decodes to, on a grid (``manifold_codes``): value 0 grows to the right, 1 upwards.

    Without a prior and without ``images`` over 2,000 of the run's test images.
    """
    run = as_opened(run)
    if run.code_size == 2 and not run.is_gaussian:
        images = images_or_test_sample(run, images)
    codes, columns, rows = manifold_codes(run, images, side)
    way = "quantiles of the prior" if run.is_gaussian else "between percentiles of the codes"
    title = f"Decoded codes, {way}, 5 to 95 %"
    return figures.manifold(_to_uint8(run.decode(codes)), columns, rows, title, "code unit")


def active_units(run: Run, images: Tensor | None = None) -> Pixels:
    """The KL divergence of each dimension of a Gaussian latent over images[N,*shape] (2,000 of the run's test images,
    if they are not given), and which are active."""
    run = as_opened(run)
    if not run.is_gaussian:
        raise ConfigError(f"{run.folder}: its latent is deterministic: no unit has a KL divergence")
    found = _units.measure_units(run, images_or_test_sample(run, images))
    assert found.kl is not None
    return figures.kl_bars(found.kl.numpy(), found.active.numpy(), found.order)


def dictionary(run: Run, images: Tensor | None = None, rows: int = 24, top: int = 8) -> Pixels:
    """Code units sorted by use, each with what it adds to an image and the ``top`` images, of those given or of
    2,000 of the run's test images, that excite it most."""
    run = as_opened(run)
    if run.autoencoder.input_shape[1:] != run.autoencoder.output_shape[1:] or not run.is_image:
        raise ConfigError(f"{run.folder}: its inputs and outputs are not images of one size, to be shown side by side")
    images = images_or_test_sample(run, images)
    found = _units.find_dictionary(run, images, rows, top)
    excited = np.stack([_to_uint8(images[row]) for row in found.images])
    return figures.dictionary(found.numbers, found.use.tolist(), found.features.float().numpy(), excited)


def empty_regions(runs: Sequence[Run], shown: Sequence[Sample], seed: int = 0) -> tuple[Pixels, list[EmptyPoints]]:
    """Points of several models' code spaces where no codes are, and random ones, decoded: a row a model, and what was
    found. ``shown``: of each model the images whose codes are drawn."""
    found, parts = [], []
    for run, some in zip(map(as_opened, runs), shown, strict=True):
        empty = find_empty_points(run, some.images, seed=seed)
        errors = nearest_errors(empty.images, some.images) if run.shape == run.autoencoder.output_shape else None
        captions = []
        for number, distance in enumerate(empty.distances):
            kind = ("emptiest" if number == 0 else "next emptiest") if number < len(empty.empty) else "random"
            captions.append(f"{kind}, {distance / empty.usual:.0f}x" + _format_error(errors, number))
        where = "codes" if empty.plane.is_whole else f"plane of {empty.plane.share:.0%} of the codes' variance"
        title = f"{run.folder.name}: {len(empty.codes)} codes ({where})"
        labels = None if some.labels is None else some.labels.numpy()
        points = figures.Points(empty.codes, labels, some.classes)
        marks = np.concatenate([empty.empty, empty.random])
        parts.append(figures.Region(title, points, marks, _to_uint8(empty.images), captions, len(empty.empty)))
        found.append(empty)
    return figures.regions(parts), found


def _format_error(errors: Tensor | None, number: int) -> str:
    return "" if errors is None else f"\nMSE {float(errors[number]):.3f}"


def _to_uint8(images: Tensor) -> np.ndarray:
    pixels: np.ndarray = as_bytes(images).numpy()
    return pixels
