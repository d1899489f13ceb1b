"""Lay pictures on top of each other: move, stretch and tilt one until it fits the other, by least squares."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

# Of a change of each of the eight numbers of a homography, as many squared errors: small ones come from noise alone.
RIGIDITY = (2.0, 2.0, 1.0, 2.0, 2.0, 1.0, 8.0, 8.0)
OUTLIER = 0.15  # error of a pixel, of 1, above which it counts less and less, since a mark or a hair may be there
RIDGE = 1e-2  # of gain and offset, so that a uniform picture has a solution
GAINS = (0.2, 5.0)  # of contrast, between which a copy may be
FLAT = 0.02  # standard deviation below which a picture counts as having no structure


class Fit(NamedTuple):
    """How pictures lie on top of each other: ``likeness`` [n], at most 1; ``shape`` [n,8], the homographies; ``seen``
    [n,S,S], the known pictures as they are seen through these."""

    likeness: Tensor
    shape: Tensor
    seen: Tensor


def register(known: Tensor, asked: Tensor, start: Tensor, steps: int) -> Fit:
    """Fit known[n,S,S] to asked[n,S,S], from the homographies start[n,8] on, in so many Gauss-Newton steps.

    (u, v) of ``asked``, from -1 to 1, is at (a u + b v + c, d u + e v + f) / (1 + g u + h v) of ``known``; ``start``
    has a to h. The squared errors after the best gain and offset are minimized, in which outliers count less (Geman and
    McClure, 1987). The likeness is the square root of the share of them that the fit explains: without outliers, the
    correlation.
    """
    import torch

    side = asked.shape[-1]
    axis = (torch.arange(side) + 0.5) * 2 / side - 1
    v, u = (each.flatten() for each in torch.meshgrid(axis, axis, indexing="ij"))
    layers, wanted, one = _with_slopes(known), asked.flatten(1), torch.ones(len(asked), side * side)
    rigidity = torch.tensor(RIGIDITY) * (side / 32) ** 2
    shape, weights = start, one
    lowest, best = torch.full((len(asked),), torch.inf), [start, one, one]
    for step in range(steps + 1):
        (x, y, depth), (seen, dx, dy) = _sample(layers, shape, u, v)
        gain, offset = _fit_contrast(seen, wanted, weights)
        error = gain * seen + offset - wanted
        cost = _robust(error).sum(1) + (rigidity * (shape - start).square()).sum(1)
        better = (cost < lowest)[:, None]
        lowest = torch.minimum(cost, lowest)
        best = [torch.where(better, new, old) for new, old in zip((shape, seen, error), best, strict=True)]
        if step == steps:
            break
        weights = 1 / (1 + (error / OUTLIER).square()).square()
        dx, dy = gain * dx / depth, gain * dy / depth
        tilt = -(dx * x + dy * y)
        slopes = torch.stack([dx * u, dx * v, dx, dy * u, dy * v, dy, tilt * u, tilt * v, seen, one], 1)
        weighted = slopes * weights[:, None]
        normal = weighted @ slopes.transpose(1, 2) + torch.diag(torch.cat([rigidity, torch.full((2,), RIDGE)]))
        downhill = (weighted @ error[..., None])[..., 0]
        downhill[:, :8] += rigidity * (shape - start)
        shape = shape - torch.linalg.solve(normal, downhill)[:, :8]
    shape, seen, error = best
    without = _robust(wanted - wanted.median(1, keepdim=True).values).sum(1) + FLAT**2 * side**2
    return Fit((1 - _robust(error).sum(1) / without).clamp_min(0).sqrt(), shape, seen.view_as(asked))


def shown_area(shape: Tensor) -> Tensor:
    """The share [n] of the known picture that the asked one shows, from shape[n,8]."""
    return (shape[:, 0] * shape[:, 4] - shape[:, 1] * shape[:, 3]).clamp(0, 1)


def _robust(error: Tensor) -> Tensor:
    square = error.square()
    return square / (1 + square / OUTLIER**2)


def _fit_contrast(seen: Tensor, wanted: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Gain and offset [n,1] that make seen[n,P] most similar to wanted[n,P]."""
    total = weights.sum(1, keepdim=True)
    means = [(weights * each).sum(1, keepdim=True) / total for each in (seen, wanted)]
    centered = seen - means[0]
    gain = (weights * centered * (wanted - means[1])).sum(1, keepdim=True)
    gain = (gain / (weights * centered.square()).sum(1, keepdim=True).clamp_min(1e-3)).clamp(*GAINS)
    return gain, means[1] - gain * means[0]


def _with_slopes(pictures: Tensor) -> Tensor:
    """pictures[n,S,S] -> [n,3,S,S]: they and their changes to the right and downwards, for half a side."""
    import torch
    from torch.nn import functional as F

    padded = F.pad(pictures[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    half = pictures.shape[-1] / 4
    right, down = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2], padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
    return torch.stack([pictures, half * right, half * down], 1)


def _sample(layers: Tensor, shape: Tensor, u: Tensor, v: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Where (u, v) are, [n,P] each, and the layers there."""
    import torch
    from torch.nn import functional as F

    a, b, c, d, e, f, g, h = (each[:, None] for each in shape.unbind(1))
    depth = (1 + g * u + h * v).clamp_min(0.1)
    x, y = (a * u + b * v + c) / depth, (d * u + e * v + f) / depth
    places = torch.stack([x, y], -1)[:, None]
    values = F.grid_sample(layers, places, padding_mode="border", align_corners=False)[:, :, 0]
    return (x, y, depth), values.unbind(1)
