"""Points of a code space that are far from all codes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aerun.figures.projection import Plane, plane_of
from aerun.use.opened_run import Run, as_opened

RELATIVE_SLACK = 1e-9  # of the box, for rounding


@dataclass(frozen=True)
class EmptyPoints:
    """A run's ``codes`` [N,2] in the ``plane``, points in the box around them, and the images decoded there.

    ``empty`` [P,2]: the emptiest points, each the farthest from all codes and from the previous points; ``random``
    [R,2]: uniformly drawn points. ``distances`` [P+R]: to the nearest code. ``usual``: the median distance from a code
    to its nearest other code. ``images`` [P+R,*output_shape]: the empty points first.
    """

    plane: Plane
    codes: np.ndarray
    empty: np.ndarray
    random: np.ndarray
    distances: np.ndarray
    usual: float
    images: Tensor


def find_empty_points(run: Run, images: Tensor, empty: int = 3, random: int = 5, seed: int = 0) -> EmptyPoints:
    """Decode the emptiest points among the codes of images[N,*shape], and random points in the same box.

    Codes of more than two values are projected on the plane of their first two principal components; the other
    components of the points are those of the mean code.
    """
    from scipy.spatial import cKDTree

    run = as_opened(run)
    codes = run.encode(images).flatten(1)
    plane = plane_of(codes)
    flat = plane.points(codes)
    emptiest = emptiest_points(flat, empty)
    low, high = flat.min(0), flat.max(0)
    uniform = np.random.default_rng(seed).uniform(low, high, (random, 2))
    tree = cKDTree(flat)
    usual = float(np.median(tree.query(flat, 2)[0][:, 1]))
    points = np.concatenate([emptiest, uniform])
    decoded = run.decode(plane.codes(points).view(-1, *run.autoencoder.code_shape))
    return EmptyPoints(plane, flat, emptiest, uniform, tree.query(points)[0], usual, decoded)


def emptiest_points(points: np.ndarray, count: int = 1) -> np.ndarray:
    """points[N,2] -> [count,2]: the exact centers of the largest empty circles with centers in the box around them.

    Each center counts as a point for the next ones. Such a center is a vertex of the Voronoi diagram, or lies where the
    diagram meets the box. Mirroring the points at the four sides of the box makes the sides edges of the diagram, so
    that every center is a vertex.
    """
    from scipy.spatial import Voronoi, cKDTree

    points = np.unique(np.asarray(points, np.float64), axis=0)
    low, high = points.min(0), points.max(0)
    slack = RELATIVE_SLACK * (high - low)
    found: list[np.ndarray] = []
    for _ in range(count):
        occupied = np.concatenate([points, *(row[None] for row in found)])
        mirrored = [occupied]
        for axis in (0, 1):
            for side in (low, high):
                image = occupied.copy()
                image[:, axis] = 2 * side[axis] - image[:, axis]
                mirrored.append(image)
        vertices = Voronoi(np.unique(np.concatenate(mirrored), axis=0)).vertices
        inside = vertices[((vertices >= low - slack) & (vertices <= high + slack)).all(1)]
        found.append(inside[cKDTree(occupied).query(inside)[0].argmax()])
    return np.clip(np.stack(found), low, high)


def nearest_errors(images: Tensor, known: Tensor) -> Tensor:
    """The mean squared error of images[P,...], clipped to [0,1], to the nearest of known[N,...]: [P]."""
    clipped, flat = images.clamp(0, 1).flatten(1), known.flatten(1)
    # Matrix products would round small errors away.
    distances = torch.cdist(clipped, flat, compute_mode="donot_use_mm_for_euclid_dist")
    return distances.square().amin(1) / clipped.shape[1]
