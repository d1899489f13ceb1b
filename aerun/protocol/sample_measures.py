"""Distances between two sets of images, from their features: rows [N,D] and [M,D], float64."""

from __future__ import annotations

import numpy as np

CHUNK = 1000  # rows whose distances are computed at once


def frechet_distance(real: np.ndarray, fake: np.ndarray) -> float:
    """|m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)), the squared 2-Wasserstein distance of Gaussians with these moments.

    Frechet (1957); of Inception's features it is the FID of Heusel et al. 2017 (arXiv:1706.08500). Covariances divide
    by N - 1. It is biased: smaller sets have a larger distance.
    """
    (first, c), (second, d) = (
        (rows.mean(0), np.cov(rows, rowvar=False).reshape(-1, rows.shape[1])) for rows in (real, fake)
    )
    values, vectors = np.linalg.eigh(c)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    # The eigenvalues of C C' are those of C^(1/2) C' C^(1/2), which is symmetric.
    between = np.sqrt(np.linalg.eigvalsh(root @ d @ root).clip(0)).sum()
    return float(np.square(first - second).sum() + np.trace(c) + np.trace(d) - 2 * between)


def kernel_distance(real: np.ndarray, fake: np.ndarray) -> float:
    """The unbiased squared maximum mean discrepancy with the kernel (x.y / D + 1)^3, which may be negative.

    Of Inception's features it is the KID of Binkowski et al. 2018 (arXiv:1801.01401), here over all rows instead of an
    average over subsets.
    """

    def kernel_sum(a: np.ndarray, b: np.ndarray) -> float:
        return float(((a @ b.T / a.shape[1] + 1) ** 3).sum())

    def own(rows: np.ndarray) -> float:
        diagonal = ((np.square(rows).sum(1) / rows.shape[1] + 1) ** 3).sum()
        return float((kernel_sum(rows, rows) - diagonal) / (len(rows) * (len(rows) - 1)))

    return own(real) + own(fake) - 2 * kernel_sum(real, fake) / (len(real) * len(fake))


def manifold_measures(real: np.ndarray, fake: np.ndarray, k: int) -> dict[str, float]:
    """``precision`` and ``recall`` (Kynkaanniemi et al. 2019, arXiv:1904.06991, equation 2), ``density`` and
    ``coverage`` (Naeem et al. 2020, arXiv:2002.09797, equations 3 and 4).

    Each set is the union of balls around its rows that reach to the ``k``-th nearest other row. Precision: the share of
    fake rows within the real set; recall: the reverse. Density: in how many real balls a fake row is, divided by k, on
    average. Coverage: the share of real balls with a fake row.
    """
    real_radius, fake_radius = (_radii(rows, k) for rows in (real, fake))
    in_real, in_fake, nearest = np.zeros(len(fake)), np.zeros(len(real), bool), np.full(len(real), np.inf)
    for start in range(0, len(real), CHUNK):
        rows = slice(start, start + CHUNK)
        squares = _squares(real[rows], fake)
        in_real += (squares < real_radius[rows, None]).sum(0)
        in_fake[rows] = (squares < fake_radius).any(1)
        nearest[rows] = squares.min(1)
    return {
        "precision": float((in_real > 0).mean()),
        "recall": float(in_fake.mean()),
        "density": float(in_real.mean() / k),
        "coverage": float((nearest < real_radius).mean()),
    }


def _radii(rows: np.ndarray, k: int) -> np.ndarray:
    """The squared distance of each row from its k-th nearest other row; the nearest of all is the row itself."""
    chunks = (_squares(rows[start : start + CHUNK], rows) for start in range(0, len(rows), CHUNK))
    return np.concatenate([np.partition(squares, k, axis=1)[:, k] for squares in chunks])


def _squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared distances [N,M]."""
    return (np.square(a).sum(1)[:, None] + np.square(b).sum(1) - 2 * a @ b.T).clip(0)
