"""Small patches cut from photographs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from aerun.contracts import Count, Range
from aerun.dataset.base import StoredDataset
from aerun.dataset.data import Arrays
from aerun.dataset.decoder import brightest_value, flatten, scale_gray
from aerun.dataset.paths import existing_path
from aerun.dataset.picture_files import failure_reason, find_pictures, open_picture, pillow_settings
from aerun.dataset.picture_notes import PictureNotes
from aerun.errors import DataError

if TYPE_CHECKING:
    import numpy as np

LOW, HIGH = 0.1, 0.9  # range of the scaled values
CLIP_DEVIATIONS = 3.0  # standard deviations to either side at which values are clipped


@dataclass(frozen=True, kw_only=True)
class Patches(StoredDataset):
    """``count`` gray patches of ``size`` x ``size`` pixels for training, and ``test`` times as many for testing.

    Patches are cut from the pictures below ``root``, or (null) from the two photographs included in scikit-learn, at
    places drawn by ``split_seed`` without repetition. Test patches come from the rightmost share ``test`` of every
    photograph and training patches from the rest, so they share no pixel; training and validation patches may overlap.
    ``white_value``: white of gray pictures of more than 8 bits; null for 65535, or what a TIFF says.

    As in the notes of CS294A ("Sparse autoencoder", Ng 2011) the mean of each patch is subtracted, values are clipped
    at three standard deviations (of the training patches) to either side, and [-3, 3] deviations are mapped to
    [0.1, 0.9]. The photographs of the notes were whitened first; these are not.
    """

    size: Annotated[int, Range(2, 256)]
    count: Count
    test: Annotated[float, Range(0, 1, low_open=True, high_open=True)]
    white_value: Count | None = None  # configurations of older runs lack it

    def read(self) -> Arrays:
        import numpy as np

        random = np.random.default_rng(self.split_seed)
        counts = {"training": self.count, "test": max(1, round(self.test * self.count))}
        regions = dict(zip(counts, self._regions(), strict=True))
        patches = {part: self._sample(part, regions[part], count, random) for part, count in counts.items()}
        if not np.ptp(patches["training"], (2, 3)).any():
            raise DataError(f"dataset.root={self.root}: every patch has a single color")
        return Arrays(*scale_patches(patches["training"], patches["test"]))

    def _regions(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the training and test regions of the photographs, float32 [H,W]."""
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
        """Return the photographs in gray, float32 [H,W] in [0,1]. DataError if there is none, or one is unreadable."""
        import numpy as np
        from PIL import Image

        if self.root is None:
            from sklearn.datasets import load_sample_images

            pictures = [Image.fromarray(array) for array in load_sample_images().images]
        else:
            root = existing_path(self.root)
            pictures, found, notes = [], find_pictures(root), PictureNotes()
            found.log_left_out(root)
            for number, path in enumerate(found.paths):
                try:
                    with pillow_settings(), open_picture(path) as opened:
                        scaled = scale_gray(opened, self.white_value)
                        pictures.append(flatten(scaled))
                    if (brightest := brightest_value(scaled)) is not None:
                        notes.deep[number] = brightest
                except Exception as error:  # Pillow raises nearly anything for damaged metadata
                    raise DataError(f"{path}: cannot be decoded ({failure_reason(error)})") from error
            notes.warn_if_dark(found.paths)
            if not pictures:
                raise DataError(f"dataset.root={self.root}: must be a folder with pictures in it or below it")
        return [np.asarray(picture.convert("L"), np.float32) / 255 for picture in pictures]

    def _sample(self, part: str, regions: list[np.ndarray], count: int, random: np.random.Generator) -> np.ndarray:
        """Return patches [count,1,size,size] at places drawn without repetition. DataError if there are too few."""
        import numpy as np
        from numpy.lib.stride_tricks import sliding_window_view

        views = [sliding_window_view(region, (self.size, self.size)) for region in regions]
        places = [view.shape[0] * view.shape[1] for view in views]
        if count > sum(places):
            raise DataError(
                f"dataset.count={self.count}: the {part} part of the photographs has {sum(places)} places for patches "
                f"of {self.size}x{self.size}, but {count} are needed; use more or larger photographs, or a smaller "
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


def scale_patches(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Subtract the mean of each patch [N,1,s,s], clip at three training deviations, and map to [0.1, 0.9]."""
    import numpy as np

    train, test = (part - part.mean((2, 3), keepdims=True) for part in (train, test))
    limit = np.float32(CLIP_DEVIATIONS * float(train.std(dtype=np.float64)))
    middle, half = np.float32((HIGH + LOW) / 2), np.float32((HIGH - LOW) / 2)
    train, test = (middle + half * (part.clip(-limit, limit) / limit) for part in (train, test))
    return train, test
