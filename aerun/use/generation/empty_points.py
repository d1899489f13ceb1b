"""Where in a code space there are no codes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aerun.figures.projection import Plane, plane_of
from aerun.use.opened_run import Run, as_opened


@dataclass(frozen=True)
class EmptyPoints:
    """A run's ``codes`` [N,2] in the ``plane``, points in the box around them, and the images decoded there.

    ``empty`` [P,2] are the emptiest points, each the farthest from all codes and from those before it, and ``random``
    [R,2] uniformly drawn ones. ``distances`` [P+R] are those to the nearest code, over ``usual``, the median distance
    of a code to the one nearest to it. ``images`` [P+R,*output_shape], the empty points' first.
    """

    plane: Plane
    codes: np.ndarray
    empty: np.ndarray
    random: np.ndarray
    distances: np.ndarray
    usual: float
    images: Tensor


def find_empty_points(run: Run, images: Tensor, empty: int = 3, random: int = 5, seed: int = 0) -> EmptyPoints:
    """Decode points of a run's code space where no codes of images[N,*shape] are, and random ones in the same box.

    Of codes of more than two values the plane of their two leading principal axes is looked at, all else at the mean.
    """
    from scipy.spatial import cKDTree

    run = as_opened(run)
    codes = run.encode(images).flatten(1)
    plane = plane_of(codes)
    flat = plane.points(codes)
    emptiest = emptiest_points(flat, empty)
    low, high = flat.min(0), flat.max(0)
    drawn = np.random.default_rng(seed).uniform(low, high, (random, 2))
    tree = cKDTree(flat)
    usual = float(np.median(tree.query(flat, 2)[0][:, 1]))
    both = np.concatenate([emptiest, drawn])
    decoded = run.decode(plane.codes(both).view(-1, *run.autoencoder.code_shape))
    return EmptyPoints(plane, flat, emptiest, drawn, tree.query(both)[0], usual, decoded)


def emptiest_points(points: np.ndarray, count: int = 1) -> np.ndarray:
    """points[N,2] -> the [count,2] places in the box around them that are farthest from all points, exactly: the
    centres of the largest empty circles. Each counts as a point for those after it.

    Such a centre is a corner of the points' Voronoi diagram, or of where it meets the box. With the points mirrored at
    the four sides of the box these sides are edges of the diagram, and all these places corners of it.
    """
    from scipy.spatial import Voronoi, cKDTree

    points = np.unique(np.asarray(points, np.float64), axis=0)
    low, high = points.min(0), points.max(0)
    slack = 1e-9 * (high - low)
    found: list[np.ndarray] = []
    for _ in range(count):
        there = np.concatenate([points, *(row[None] for row in found)])
        mirrored = [there]
        for axis in (0, 1):
            for side in (low, high):
                image = there.copy()
                image[:, axis] = 2 * side[axis] - image[:, axis]
                mirrored.append(image)
        corners = Voronoi(np.unique(np.concatenate(mirrored), axis=0)).vertices
        inside = corners[((corners >= low - slack) & (corners <= high + slack)).all(1)]
        found.append(inside[cKDTree(there).query(inside)[0].argmax()])
    return np.clip(np.stack(found), low, high)


def nearest_errors(images: Tensor, known: Tensor) -> Tensor:
    """The mean squared error of each of images[P,...], clipped to [0,1], to the nearest of known[N,...]: [P]."""
    one, other = images.clamp(0, 1).flatten(1), known.flatten(1)
    # Not by products of matrices: their rounding hides small errors.
    apart = torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist")
    return apart.square().amin(1) / one.shape[1]
