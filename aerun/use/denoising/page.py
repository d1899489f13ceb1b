"""The paper of a scanned page, its tint, uneven light and grain, and the page without them, on white."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CELLS = 96  # of the longer side, in which paper is looked for
DEGREE = 2  # of the polynomial for the logarithm of the light
WITHIN = 0.06  # of the fitted light, relative: what counts as paper
DARKEST, MOST_COLOR = 0.45, 0.4  # of paper: its darkest channel, and the difference of its channels
LEAST_SHARE, LEAST_BORDER = 0.15, 0.4  # of the cells, and of those at the border, that must be paper
ROUNDS = 12
WHITE = 0.996  # paper at least as bright as this everywhere is left as it is
GRAINS = 2.0  # standard deviations of the grain that become white, too


@dataclass(frozen=True)
class Paper:
    """``light`` float32 [C,H,W]: what blank paper has at each pixel; ``grain``: its standard deviation relative to it;
    ``share``: of the page that is blank."""

    light: np.ndarray
    grain: float
    share: float

    def whitened(self, values: np.ndarray) -> np.ndarray:
        """values[C,H,W] in [0,1] relative to the paper, which becomes white; two deviations of its grain as well."""
        white = self.light * (1 - GRAINS * self.grain)
        result: np.ndarray = (values / white).clip(0, 1).astype(np.float32)
        return result


def find_paper(values: np.ndarray) -> Paper | None:
    """The paper of values[C,H,W] in [0,1]; None where there is too little of it to be sure, or it is white already.

    The logarithm of the paper's light is a polynomial of second degree over the page, fitted by least squares to cells
    that differ from it by at most 6 %, from the bright ones on, in each channel. Paper covers a part of the page and
    most of its border, is bright, and has little color.
    """
    side = max(1, -(-max(values.shape[1:]) // CELLS))
    rows, columns = values.shape[1] // side, values.shape[2] // side
    if min(rows, columns) < DEGREE + 2:
        return None
    medians, basis = _cells(values, side), _basis(rows, columns)
    bright = medians.mean(0)
    blank = bright >= np.quantile(bright, 0.75) * (1 - WITHIN)
    with np.errstate(divide="ignore"):
        logarithms = np.log(medians.clip(1e-4))
    for _ in range(ROUNDS):
        if blank.mean() < LEAST_SHARE:
            return None
        weights = np.linalg.lstsq(basis[blank], logarithms[:, blank].T, rcond=None)[0]
        light = np.exp(basis @ weights).T
        found = (np.abs(medians / light - 1) < WITHIN).all(0)
        if (found == blank).all():
            break
        blank = found
    if not _is_paper(blank.reshape(rows, columns), light[:, blank]):
        return None
    whole = np.exp(_basis(*values.shape[1:]) @ weights).T.reshape(values.shape)
    whole = whole.clip(*(limit(light[:, blank], 1)[:, None, None] for limit in (np.min, np.max)))
    return None if whole.min() > WHITE else Paper(whole.astype(np.float32), _grain(values, whole), float(blank.mean()))


def _is_paper(blank: np.ndarray, light: np.ndarray) -> bool:
    border = np.concatenate([blank[0], blank[-1], blank[:, 0], blank[:, -1]])
    if blank.mean() < LEAST_SHARE or border.mean() < LEAST_BORDER:
        return False
    color = np.median(light, 1)
    return bool(light.min() >= DARKEST and color.max() - color.min() <= MOST_COLOR)


def _cells(values: np.ndarray, side: int) -> np.ndarray:
    """The medians [C,cells] of square cells, row by row."""
    rows, columns = (size // side for size in values.shape[1:])
    inside = values[:, : rows * side, : columns * side].reshape(len(values), rows, side, columns, side)
    return np.asarray(np.median(inside.transpose(0, 1, 3, 2, 4).reshape(len(values), rows * columns, -1), 2))


def _basis(height: int, width: int) -> np.ndarray:
    """The terms x^i y^j, i + j <= 2, of each pixel's center, over [-1,1]: [H * W,6]."""
    y, x = ((np.arange(size) + 0.5) * 2 / size - 1 for size in (height, width))
    terms = [np.outer(y**j, x**i).ravel() for i in range(DEGREE + 1) for j in range(DEGREE + 1 - i)]
    return np.stack(terms, 1)


def _grain(values: np.ndarray, light: np.ndarray) -> float:
    """The deviation of paper from its light, robust to what is on it: from the median absolute difference of the
    pixels that are within 6 %."""
    ratio = values.mean(0) / light.mean(0) - 1
    near = ratio[np.abs(ratio) < WITHIN]
    return float(1.4826 * np.median(np.abs(near - np.median(near)))) if near.size else 0.0
