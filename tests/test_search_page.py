"""What measures searches counts rightly, and chooses settings on other drawings than it reports."""

from __future__ import annotations

import numpy as np

from benchmarks.crops import chosen, recall
from benchmarks.duplicates import measured, unlike


def test_how_many_find_their_original() -> None:
    same = np.array([0, 1, 2, 0, 4, 5, 6, 7])  # rows 0 and 3 are the same picture
    found = np.array([[3, 1, 2, 4, 5, 6], [0, 1, 2, 4, 5, 6], [0, 1, 2, 4, 5, 6], [0, 2, 3, 4, 5, 6]])
    first, five, file, all_of_them = recall(found, np.array([0, 1, 6, 7]), same)
    assert (first, five, file, all_of_them) == (0.25, 0.5, 0.25, 0.75)


def test_settings_are_chosen_on_other_drawings() -> None:
    reported, choosing = chosen(1000, 300, 0)[0], chosen(1000, 300, 1)[0]
    assert len(np.intersect1d(reported, choosing)) == 0 and len(choosing) == len(np.unique(choosing)) == 300
    assert np.array_equal(chosen(1000, 300, 0)[0], reported)


def test_of_like_pictures_one_is_kept() -> None:
    random = np.random.default_rng(0)
    pixels = random.random((60, 12)).astype(np.float32)
    pixels[30:] = pixels[:30] + random.normal(0, 0.02, (30, 12)).astype(np.float32)
    kept: list[int] = []
    for row, values in enumerate(pixels.astype(float)):
        if all(np.sqrt(((values - pixels[other]) ** 2).mean()) >= 0.05 for other in kept):
            kept.append(row)
    assert unlike(pixels, 0.05).tolist() == kept and len(kept) < 40


def test_planted_copies_that_are_found() -> None:
    codes = np.array([[0.0], [10.0], [20.0], [20.5]], np.float32)
    planted = np.array([[0.1], [13.0]], np.float32)
    # Within 1: picture 0 and its copy, and the third and fourth, which are no copies; the second copy is too far.
    assert measured(codes, planted, np.array([0, 1]), 1.0, "euclidean") == (0.5, 0.5)
