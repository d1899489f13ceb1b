"""A data set: the 1,797 handwritten digits of 8x8 pixels that come with scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.datasets import load_digits

from aerun.contracts import Count
from aerun.dataset import Arrays, Dataset


@dataclass(frozen=True, kw_only=True)
class Digits(Dataset):
    """Alpaydin & Kaynak 1998, "Optical Recognition of Handwritten Digits". The last ``test_images`` are the test part.

    A data set only reads arrays: images [N,C,H,W] or vectors [N,F], uint8 or float, and labels if it has any. Splits,
    transforms, standardization, caching and the device are ``Dataset``'s.
    """

    test_images: Count

    def read(self) -> Arrays:
        digits = load_digits()
        images = np.round(digits.images * (255 / 16)).astype(np.uint8)[:, None]  # gray values from 0 to 16
        count = len(images) - self.test_images
        labels = digits.target
        names = [str(name) for name in digits.target_names]
        return Arrays(images[:count], images[count:], labels[:count], labels[count:], names)
