"""Which of a run's changes to a picture are made, so that what is no mark stays as it is, to the bit."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SURE = 0.7  # of the way from a mark to what lies around it: how far a change must go on average
VISIBLE = 0.25  # of the range from black to white: what a change reaches somewhere
LEAST = 0.016  # around that, the smallest change that belongs to it
MOST = 0.25  # of the pixels: a picture that would change more has probably no marks


class Changes(NamedTuple):
    """A picture [C,H,W] ``before`` and after the changes, its ``values``, and the ``share`` of the pixels that a change
    touches."""

    before: np.ndarray
    values: np.ndarray
    share: float

    @property
    def is_sure(self) -> bool:
        """Whether so few pixels change that they may be marks."""
        return self.share <= MOST


def sure_changes(
    before: np.ndarray, after: np.ndarray, strength: float = 1.0, mask: np.ndarray | None = None
) -> Changes:
    """before, after: [C,H,W] in [0,1] -> ``before`` with those changes of which the run is sure, times ``strength``.

    A net that minimizes the squared error answers with a mean: it takes away half of what is a mark with a probability
    of a half. So a connected region, of changes of at least 1.6 % that reach 25 % somewhere, changes only if it comes
    70 % of the way to the pixels next to it, and not as much too far: with d from each pixel to the nearest unchanged
    one and the change c, 0.7 <= sum(c d) / sum(d d) <= 1 / 0.7. All other pixels stay equal to ``before``, as do those
    outside of ``mask`` [H,W].
    """
    from scipy import ndimage

    change = after - before
    size = np.abs(change).max(0)
    if mask is not None:
        size = size * mask
    regions, count = ndimage.label(size > LEAST, np.ones((3, 3)))
    kept = np.zeros(count + 1, bool)
    kept[np.unique(regions[size > VISIBLE])] = True
    if count and (regions == 0).any():
        places = ndimage.distance_transform_edt(regions > 0, return_distances=False, return_indices=True)
        around = before[:, *places] - before
        made, whole = (
            np.bincount(regions.ravel(), (around * other).sum(0).ravel(), count + 1) for other in (change, around)
        )
        kept &= (whole > 0) & (made >= SURE * whole) & (made <= whole / SURE)
    kept[0] = False
    touched = kept[regions]
    values = np.where(touched, (before + strength * change).clip(0, 1), before).astype(before.dtype)
    return Changes(before, values, float(touched.mean()))


def all_changes(
    before: np.ndarray, after: np.ndarray, strength: float = 1.0, mask: np.ndarray | None = None
) -> Changes:
    """Every change, times ``strength``; ``share`` is of the pixels that change visibly."""
    values = (before + strength * (after - before)).clip(0, 1).astype(before.dtype)
    if mask is not None:
        values = np.where(mask, values, before)
    return Changes(before, values, float((np.abs(values - before).max(0) > LEAST).mean()))


def as_difference(changes: Changes) -> np.ndarray:
    """What was taken away, uint8 [H,W] or [H,W,3]: white where nothing changed."""
    shown = ((1 - np.abs(changes.values - changes.before)) * 255).round().astype(np.uint8)
    return shown[0] if len(shown) == 1 else np.ascontiguousarray(shown.transpose(1, 2, 0))
