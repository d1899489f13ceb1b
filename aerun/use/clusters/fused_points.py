"""Points whose Euclidean distances compare pictures by code, by color, by texture, or by all of them together."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from aerun.errors import ConfigError
from aerun.use.collection.fingerprint_files import as_fingerprints
from aerun.use.collection.fingerprints import Fingerprints
from aerun.use.collection.looks import TEXTURE_SIZES
from aerun.use.search.vector_index import Metric, check_codes

if TYPE_CHECKING:
    from aerun.use.collection.fingerprint_files import Collection
    from aerun.use.search.vector_index import Codes

By = Literal["all", "code", "color", "texture"]
BY: tuple[By, ...] = get_args(By)
WEIGHTS = {"code": 1.0, "color": 1.0, "texture": 2.0}  # of squared distances, chosen on openclipart-png


def fused_points(collection: Collection | Codes, by: By | None, metric: Metric) -> tuple[np.ndarray, tuple[str, ...]]:
    """Points float64 [N,D], and what they are of: ``code``, ``color``, ``texture``.

    The squared distance of ``all`` is the sum of those by code, color and texture, each divided by its mean over the
    collection, and weighted. ``by`` None means ``all`` where a file holds colors and textures, and ``code`` otherwise.
    Codes are scaled to length 1 for ``cosine``; of several views of a picture, the whole picture counts. Colors and
    textures are square roots of shares: their distances are Hellinger's. ConfigError for what the file does not hold.
    """
    looks, title = None, "the collection"
    if isinstance(collection, Fingerprints | str | os.PathLike):
        prints = as_fingerprints(collection)
        collection, looks, title = prints.whole_codes, prints.looks, prints.title
    codes = check_codes(collection, "the collection")
    parts = {"code": _scaled(codes if codes.ndim == 2 else codes[:, 0], metric)}
    if looks is not None:
        parts["color"] = looks.colors / 255.0
        if looks.textures is not None:
            kinds = np.split(looks.textures / 255.0, np.cumsum(TEXTURE_SIZES)[:-1], axis=1)
            parts["texture"] = np.concatenate([balanced(kind) for kind in kinds], axis=1)
    if by not in (None, *BY):
        raise ConfigError(f"by={by}: must be one of {', '.join(BY)}")
    lacking = [part for part in (WEIGHTS if by == "all" else [by] if by else []) if part not in parts]
    if lacking:
        raise ConfigError(f"by={by}: {title} has no {lacking[0]}: make it again with aerun-embed from a folder")
    chosen = parts if by in (None, "all") else {by: parts[by]}
    if len(chosen) == 1:
        return next(iter(chosen.values())), tuple(chosen)
    weighted = [balanced(points) * WEIGHTS[part] ** 0.5 for part, points in chosen.items()]
    return np.concatenate(weighted, axis=1), tuple(chosen)


def balanced(points: np.ndarray) -> np.ndarray:
    """points [N,D], centered, with a mean squared length of 1 unless they are all the same."""
    points = points - points.mean(0)
    scale = np.sqrt(np.einsum("nd,nd->n", points, points).mean())
    return points / scale if scale > 0 else points


def _scaled(codes: np.ndarray, metric: Metric) -> np.ndarray:
    points = codes.astype(np.float64)
    if metric != "cosine":
        return points
    length = np.linalg.norm(points, axis=1, keepdims=True)
    return points / np.where(length > 0, length, 1)
