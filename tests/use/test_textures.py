"""Histograms of texture, compared with loops."""

from __future__ import annotations

import numpy as np
import pytest

from aerun.use.collection.looks import LUMINANCE, PATTERNS, ROUGHNESS, texture_of

PICTURE = np.random.default_rng(0).integers(0, 256, (17, 12, 3)).astype(np.uint8)
FLAT = np.full((8, 8, 3), 120, np.uint8)


def parts(picture: np.ndarray) -> list[np.ndarray]:
    """The shares."""
    return [part**2 for part in np.split(texture_of(picture), [PATTERNS, PATTERNS + len(ROUGHNESS) + 1])]


def test_histograms_equal_loops() -> None:
    gray = (PICTURE.astype(np.float32) @ LUMINANCE).round()
    patterns, rough = np.zeros(PATTERNS), np.zeros(len(ROUGHNESS) + 1)
    ring = [(-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1)]
    height, width = gray.shape
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            bits = "".join("01"[int(gray[y + v, x + u] >= gray[y, x])] for v, u in ring)
            arcs = (bits + bits[0]).count("01")
            patterns[bits.count("1") if arcs <= 1 else PATTERNS - 1] += 1
    values = PICTURE.astype(int)
    for picture in (values, values.transpose(1, 0, 2)):
        for before, here, after in zip(picture, picture[1:], picture[2:], strict=False):
            for a, b, c in zip(before, here, after, strict=True):
                rough[sum(max(abs(a - 2 * b + c)) >= edge for edge in ROUGHNESS)] += 1
    found = parts(PICTURE)
    np.testing.assert_allclose(found[0], patterns / patterns.sum(), atol=1e-6)
    np.testing.assert_allclose(found[1], rough / rough.sum(), atol=1e-6)


@pytest.mark.parametrize(("axis", "bin_"), [(1, 0), (0, 4)])
def test_the_direction_of_stripes(axis: int, bin_: int) -> None:
    stripes = np.moveaxis(np.broadcast_to((np.arange(16) // 4 % 2 * 200)[:, None, None], (16, 16, 3)), 0, axis)
    direction = parts(stripes.astype(np.uint8))[2]
    assert direction[bin_] == pytest.approx(1)


def test_a_flat_picture_has_no_edges_and_a_tiny_one_no_texture() -> None:
    patterns, rough, edges = parts(FLAT)
    assert patterns[8] == pytest.approx(1) and rough[0] == pytest.approx(1) and not edges.any()
    assert not texture_of(FLAT[:2]).any()
