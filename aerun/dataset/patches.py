"""Small patches of photographs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from aerun.config.schema import Count, Range
from aerun.dataset.base import Dataset
from aerun.dataset.data import Arrays
from aerun.dataset.pictures import any_size, list_pictures, over_white, reason
from aerun.dataset.places import existing
from aerun.errors import DataError

if TYPE_CHECKING:
    import numpy as np

LOW, HIGH, DEVIATIONS = 0.1, 0.9, 3.0


@dataclass(frozen=True, kw_only=True)
class Patches(Dataset):
    """``count`` grey patches of ``size`` x ``size`` for training, and ``test`` times as many for testing.

    They come from the pictures below ``root``, or (null) from the two photographs that scikit-learn ships, and are
    drawn by ``split_seed`` without repetition. The rightmost share ``test`` of every photograph is for testing and the
    rest for training, so no pixel is in patches of both; patches for training and for validation may overlap.

    As in the notes of CS294A ("Sparse autoencoder", Ng 2011) each patch loses its mean, the values are cut off at
    three standard deviations (of the training patches) to either side, and [-3, 3] deviations become [0.1, 0.9]. The
    notes' own photographs were whitened before, these are not.
    """

    root: str | None
    size: Annotated[int, Range(2, 256)]
    count: Count
    test: Annotated[float, Range(0, 1, low_open=True, high_open=True)]

    def read(self) -> Arrays:
        import numpy as np

        random = np.random.default_rng(self.split_seed)
        counts = {"training": self.count, "test": max(1, round(self.test * self.count))}
        regions = dict(zip(counts, self._regions(), strict=True))
        patches = {part: self._drawn(part, regions[part], count, random) for part, count in counts.items()}
        if not np.ptp(patches["training"], (2, 3)).any():
            raise DataError(f"dataset.root={self.root}: every patch is of one colour")
        return Arrays(*scaled(patches["training"], patches["test"]))

    def _regions(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """What is for training and what for testing of each photograph, float32 [H,W]."""
        train: list[np.ndarray] = []
        test: list[np.ndarray] = []
        for photograph in self._photographs():
            width = photograph.shape[1]
            cut = min(max(1, round((1 - self.test) * width)), width - 1)
            for part, region in ((train, photograph[:, :cut]), (test, photograph[:, cut:])):
                if min(region.shape) >= self.size:
                    part.append(region)
        return train, test

    def _photographs(self) -> list[np.ndarray]:
        """Grey, float32 [H,W] in [0,1]. DataError where there is none, or one cannot be read."""
        import numpy as np
        from PIL import Image

        if self.root is None:
            from sklearn.datasets import load_sample_images

            pictures = [Image.fromarray(array) for array in load_sample_images().images]
        else:
            root = existing(self.root)
            pictures = []
            for path in list_pictures(root):
                try:
                    with any_size(), Image.open(path) as opened:
                        pictures.append(over_white(opened))
                        pictures[-1].load()
                except Exception as error:  # damaged metadata make Pillow raise nearly anything
                    raise DataError(f"{path}: cannot be decoded ({reason(error)})") from error
            if not pictures:
                raise DataError(f"dataset.root={self.root}: must be a folder with pictures in it or below")
        return [np.asarray(picture.convert("L"), np.float32) / 255 for picture in pictures]

    def _drawn(self, part: str, regions: list[np.ndarray], count: int, random: np.random.Generator) -> np.ndarray:
        """Patches [count,1,size,size] at places drawn without repetition. DataError where there are too few."""
        import numpy as np
        from numpy.lib.stride_tricks import sliding_window_view

        views = [sliding_window_view(region, (self.size, self.size)) for region in regions]
        places = [view.shape[0] * view.shape[1] for view in views]
        if count > sum(places):
            raise DataError(
                f"dataset.count={self.count}: the {part} part of the photographs has {sum(places)} places for patches "
                f"of {self.size}x{self.size}, {count} are needed; use more or larger photographs, or a smaller "
                "dataset.size"
            )
        chosen = random.choice(sum(places), count, replace=False)
        starts = np.cumsum([0, *places])
        result = np.empty((count, 1, self.size, self.size), np.float32)
        for view, start, stop in zip(views, starts[:-1], starts[1:], strict=True):
            here = np.flatnonzero((chosen >= start) & (chosen < stop))
            rows, columns = np.divmod(chosen[here] - start, view.shape[1])
            result[here, 0] = view[rows, columns]
        return result


def scaled(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Patches [N,1,s,s], each without its mean, cut off at three deviations of the training ones, in [0.1, 0.9]."""
    import numpy as np

    train, test = (part - part.mean((2, 3), keepdims=True) for part in (train, test))
    limit = np.float32(DEVIATIONS * float(train.std(dtype=np.float64)))
    middle, half = np.float32((HIGH + LOW) / 2), np.float32((HIGH - LOW) / 2)
    train, test = (middle + half * (part.clip(-limit, limit) / limit) for part in (train, test))
    return train, test
