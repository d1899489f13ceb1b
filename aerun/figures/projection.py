"""Projections of codes to two dimensions, and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from aerun.errors import ConfigError

MIN_CODES = 4  # that t-SNE and UMAP need
Method = Literal["codes", "pca", "tsne", "umap"]
NAMES = {"codes": "code unit", "pca": "principal axis", "tsne": "t-SNE", "umap": "UMAP"}


@dataclass(frozen=True)
class Plane:
    """A plane in code space: the whole space if codes have two values, otherwise the two leading principal axes.

    ``share``: the share of the codes' variance in the plane. ``points``: codes [N,D] -> points [N,2]; ``codes``: back.
    """

    is_whole: bool
    share: float
    points: Callable[[Tensor], np.ndarray]
    codes: Callable[[np.ndarray], Tensor]


def plane_of(codes: Tensor) -> Plane:
    """The plane of codes[N,D]. ConfigError unless there are two codes of two values."""
    if codes.shape[1] < 2 or len(codes) < 2:
        raise ConfigError(
            f"{len(codes)} codes of {codes.shape[1]} values span no plane; at least 2 codes of 2 values are needed"
        )
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
    """codes[N,D] -> points [N,2] float64.

    ``codes``: the values of two-dimensional codes; ``pca``: the leading principal axes; ``tsne``: van der Maaten &
    Hinton 2008; ``umap``: McInnes, Healy & Melville 2018 (arXiv:1802.03426), which needs the extra ``maps``.
    ConfigError for too few codes, or if the extra is missing.
    """
    values = codes.flatten(1).float().cpu()
    if method in ("codes", "pca"):
        return plane_of(values).points(values)
    if len(values) < MIN_CODES:
        raise ConfigError(f"{NAMES[method]} of {len(values)} codes: needs at least {MIN_CODES}")
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
