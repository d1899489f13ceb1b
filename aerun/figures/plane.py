"""Codes in two dimensions, and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from aerun.errors import ConfigError

FEWEST = 4  # codes that have neighbours to be placed by
Method = Literal["codes", "pca", "tsne", "umap"]
NAMES = {"codes": "code unit", "pca": "principal axis", "tsne": "t-SNE", "umap": "UMAP"}


@dataclass(frozen=True)
class Plane:
    """A plane in code space: the codes themselves where they have two values, else the leading principal axes.

    ``share`` is that of the codes' variance in the plane.
    """

    is_whole: bool
    share: float
    points: Callable[[Tensor], np.ndarray]
    codes: Callable[[np.ndarray], Tensor]


def plane_of(codes: Tensor) -> Plane:
    """The plane of codes[N,D]; ConfigError for a code of a single value."""
    if codes.shape[1] < 2 or len(codes) < 2:
        raise ConfigError(f"{len(codes)} codes of {codes.shape[1]} values span no plane: 2 and 2 at least are needed")
    if codes.shape[1] == 2:
        return Plane(
            True, 1.0, lambda c: c.double().numpy(), lambda p: torch.from_numpy(np.asarray(p, np.float32).copy())
        )
    from sklearn.decomposition import PCA

    pca = PCA(2, svd_solver="covariance_eigh" if codes.shape[1] <= 2000 else "randomized", random_state=0)
    pca.fit(codes.double().numpy())
    return Plane(
        False,
        float(pca.explained_variance_ratio_.sum()),
        lambda c: pca.transform(c.double().numpy()),
        lambda p: torch.from_numpy(pca.inverse_transform(np.asarray(p, np.float64)).astype(np.float32)),
    )


def project(codes: Tensor, method: Method, seed: int = 0) -> np.ndarray:
    """codes[N,D] -> points [N,2] float64, near each other where their codes are, as the method sees it.

    ``codes``: two values as they are; ``pca``: along the leading principal axes; ``tsne``: van der Maaten & Hinton
    2008; ``umap``: McInnes, Healy & Melville 2018 (arXiv:1802.03426), an extra. ConfigError for too few codes, or where
    the extra is missing.
    """
    values = codes.flatten(1).float().cpu()
    if method in ("codes", "pca"):
        return plane_of(values).points(values)
    if len(values) < FEWEST:
        raise ConfigError(f"{NAMES[method]} of {len(values)} codes: {FEWEST} at least are needed")
    if method == "tsne":
        from sklearn.manifold import TSNE

        perplexity = min(30.0, (len(values) - 1) / 3)
        points = TSNE(perplexity=perplexity, random_state=seed, init="pca").fit_transform(values.numpy())
    else:
        try:
            from umap import UMAP
        except ImportError as error:
            raise ConfigError(f"UMAP needs a package: pip install 'aerun[maps]' ({error})") from None
        points = UMAP(n_neighbors=min(15, len(values) - 1), random_state=seed, n_jobs=1).fit_transform(values.numpy())
    return np.asarray(points, np.float64)
