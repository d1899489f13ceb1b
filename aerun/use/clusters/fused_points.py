"""Points whose Euclidean distances compare pictures by code, color, texture, and the size of their files."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

import numpy as np

from aerun.errors import ConfigError
from aerun.use.collection.fingerprint_files import as_fingerprints
from aerun.use.collection.fingerprints import Fingerprints
from aerun.use.collection.looks import TEXTURE_SIZES, Looks
from aerun.use.search.vector_index import Metric, check_codes

if TYPE_CHECKING:
    from aerun.use.collection.fingerprint_files import Collection
    from aerun.use.search.vector_index import Codes

WEIGHTS = {"code": 1.0, "color": 1.0, "texture": 2.0, "size": 1.0}  # of squared distances
ALL = "all"


def fused_points(collection: Collection | Codes, by: str | None, metric: Metric) -> tuple[np.ndarray, tuple[str, ...]]:
    """Points float64 [N,D], and what they are of.

    ``by``: some of ``code``, ``color``, ``texture`` and ``size`` with commas between them, or ``all``; None means those
    that there are. ``code=4`` gives a part a weight of its own. The squared distance is the sum of those by each part,
    divided by their mean over the collection and weighted. Codes are scaled to length 1 for ``cosine``; of several
    views of a picture, the whole picture counts. Colors and textures are square roots of shares, so that their
    distances are Hellinger's; sizes are logarithms of width and height. ConfigError for what the collection lacks.
    """
    looks, title = None, "the collection"
    if isinstance(collection, Fingerprints | str | os.PathLike):
        prints = as_fingerprints(collection)
        collection, looks, title = prints.whole_codes, prints.looks, prints.title
    codes = check_codes(collection, "the collection")
    parts = {"code": _scaled(codes if codes.ndim == 2 else codes[:, 0], metric)} | _parts_of_looks(looks)
    weights = parse_parts(by) if by is not None else {part: WEIGHTS[part] for part in parts}
    wanted = tuple(weights)
    for part in wanted:
        if part not in parts:
            raise ConfigError(f"by={by}: {title} has no {part}: make it again with aerun-embed from a folder")
    if len(wanted) == 1:
        return parts[wanted[0]], wanted
    return np.concatenate([balanced(parts[part]) * weights[part] ** 0.5 for part in wanted], axis=1), wanted


def parse_parts(by: str) -> dict[str, float]:
    """``code=4,color`` -> {"code": 4.0, "color": 1.0}: parts in the usual order, each with its weight. ConfigError for
    anything else."""
    if by == ALL:
        return dict(WEIGHTS)
    given = {part.strip(): weight for part, _, weight in (word.partition("=") for word in by.split(","))}
    try:
        weights = {part: float(weight) if weight else WEIGHTS[part] for part, weight in given.items()}
        if any(not 0 < weight < math.inf for weight in weights.values()):
            raise ValueError
    except (KeyError, ValueError) as error:
        known = ", ".join(WEIGHTS)
        raise ConfigError(
            f"by={by}: must be {ALL}, or some of {known}, with commas between them, each with a weight above 0 if need "
            "be, code=4"
        ) from error
    return {part: weights[part] for part in WEIGHTS if part in weights}


def _parts_of_looks(looks: Looks | None) -> dict[str, np.ndarray]:
    parts = dict[str, np.ndarray]()
    if looks is not None:
        parts["color"] = looks.colors / 255.0
        if looks.textures is not None:
            kinds = np.split(looks.textures / 255.0, np.cumsum(TEXTURE_SIZES)[:-1], axis=1)
            parts["texture"] = np.concatenate([balanced(kind) for kind in kinds], axis=1)
        if looks.files is not None:
            parts["size"] = np.log2(looks.files[:, 2:].clip(1))
    return parts


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
