"""A walk from one image to another through the real images whose codes are nearest to the line between theirs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from aerun.core.interpolation import linear
from aerun.dataset.data import as_float
from aerun.errors import DataError
from aerun.use.opened_run import Run, as_opened

if TYPE_CHECKING:
    from aerun.core.image_inputs import Images


@dataclass(frozen=True)
class Walk:
    """``images`` [S,*shape]: the two ends and the real images between them, as the run's inputs, and their
    ``reconstructions`` [S,*output_shape].

    ``rows`` [S-2]: which of the images they are. ``distances`` [S-2]: from their codes to the line's. ``usual``: the
    median distance between the code of an image and the nearest other one, the scale of these distances.
    """

    images: Tensor
    reconstructions: Tensor
    rows: Tensor
    distances: Tensor
    usual: float


def walk_through_neighbors(run: Run, first: Images, last: Images, images: Images, steps: int = 11) -> Walk:
    """From first[1,*shape] to last[1,*shape] through ``steps - 2`` of images[N,*shape].

    The line between the two codes is divided equally. Each of its points between the ends gets one image, none gets the
    same as another, and the sum of the Euclidean distances between points and codes is the least possible. Images whose
    codes are those of an end are left out. DataError for fewer images than points.
    """
    from scipy.optimize import linear_sum_assignment

    if steps < 3:
        raise DataError(f"steps={steps}: must be at least 3, both ends included")
    run = as_opened(run)
    ends = [run.as_inputs(image) for image in (first, last)]
    for name, end in zip(("first", "last"), ends, strict=True):
        if len(end) != 1:
            raise DataError(f"{name}: {len(end)} images where one is expected, images[:1]")
    known = run.as_inputs(images)
    codes = run.encode(known).flatten(1).double()
    start, stop = (run.encode(end).flatten(1).double() for end in ends)
    is_new = (codes != start).any(1) & (codes != stop).any(1)
    if int(is_new.sum()) < steps - 2:
        raise DataError(f"images: {int(is_new.sum())} other images for {steps - 2} steps between the ends")
    points = linear(start, stop, steps)[1:-1, 0]
    distances = torch.cdist(points, codes, compute_mode="donot_use_mm_for_euclid_dist")
    distances[:, ~is_new] = torch.finfo(distances.dtype).max / (2 * steps)
    rows = torch.from_numpy(linear_sum_assignment(distances.numpy())[1])
    chosen = as_float(known[rows.to(known.device)]).cpu()
    shown = torch.cat([as_float(ends[0]).cpu(), chosen, as_float(ends[1]).cpu()])
    found = distances[torch.arange(len(rows)), rows]
    return Walk(shown, run.reconstruct(shown), rows, found, _usual_distance(codes))


def _usual_distance(codes: Tensor) -> float:
    """The median distance of a code from the nearest other one."""
    from scipy.spatial import cKDTree

    if len(codes) < 2:
        return 0.0
    return float(torch.from_numpy(cKDTree(codes.numpy()).query(codes.numpy(), 2)[0][:, 1]).median())
