"""Score pictures or vectors by how unusual they are for a run, with a threshold from its validation images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from aerun.config.parse import parse
from aerun.dataset.array import as_images, load_arrays
from aerun.dataset.data import Data, Split
from aerun.errors import ConfigError, DataError
from aerun.metrics.anomaly_detector import Detector, check_normal_images, fit_detector
from aerun.metrics.anomaly_scores import FUSED
from aerun.metrics.detection import Threshold
from aerun.protocol.anomaly import fit_subject
from aerun.protocol.subject import Subject
from aerun.use.image_files import find_images, read_folder_inputs, read_inputs
from aerun.use.opened_run import Run, as_opened

if TYPE_CHECKING:
    from torch import Tensor

    from aerun.core.autoencoder import Autoencoder
    from aerun.core.image_inputs import Images
    from aerun.use.opened_run import OpenedRun

FALSE_ALARMS, NEIGHBORS, SAMPLES = 0.01, 5, 100
ARRAYS = (".npy", ".npz")


@dataclass(frozen=True)
class Anomalies:
    """Scores [N] of pictures by name of the score, higher is less normal, and the threshold of the score ``by``.

    ``maps``: scores of single pixels [N,H,W] by name, if they were asked for.
    """

    names: list[str]
    scores: dict[str, np.ndarray]
    by: str
    threshold: Threshold
    maps: dict[str, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def values(self) -> np.ndarray:
        """The score ``by`` of each picture [N]."""
        return self.scores[self.by]

    @property
    def alarms(self) -> np.ndarray:
        """Whether each picture is above the threshold [N]."""
        above: np.ndarray = self.values > self.threshold.value
        return above

    @property
    def order(self) -> np.ndarray:
        """Rows, the least normal picture first [N]."""
        return np.argsort(-self.values, kind="stable")


def find_anomalies(
    run: Run,
    pictures: str | os.PathLike[str] | Images,
    *,
    by: str = FUSED,
    false_alarms: float = FALSE_ALARMS,
    neighbors: int = NEIGHBORS,
    maps: bool = False,
) -> Anomalies:
    """Score ``pictures``: an image file, a folder with its subfolders, a .npy or .npz file, or an array [N,...].

    Scores are fitted to the run's training images, and the threshold of the score ``by`` to its validation images: new
    normal images exceed it with a probability of at most ``false_alarms`` (``aerun.metrics.detection.calibrate``).
    ``neighbors``: of the score ``knn``. ``maps``: also return the scores of pixels. Undecodable files are skipped with
    a warning.

    ConfigError for a score that this run does not have, and for too few validation images; DataError if the run's data
    are missing, if there are no pictures, or if they have another shape or are not finite.
    """
    if neighbors < 1:
        raise ConfigError(f"neighbors={neighbors}: must be at least 1")
    opened = as_opened(run)
    return score_pictures(opened, fit_run(opened, false_alarms, neighbors), pictures, by, false_alarms, maps=maps)


def fit_run(run: OpenedRun, false_alarms: float, neighbors: int = NEIGHBORS, *, key: str = "false_alarms") -> Detector:
    """The detector of a run. ConfigError, which names ``key``, for too few validation images; DataError if the run's
    data are missing."""
    data = run.data
    check_normal_images(data, false_alarms, key)
    settings = parse(run.config | {"trusted_packages": list(run.trusted_packages)})
    if settings.dataset.binarise != "none":
        raise ConfigError(
            f"{run.folder}: dataset.binarise={settings.dataset.binarise}: this run has seen sampled binary images, "
            "so its threshold would not hold for the gray ones of files; train with dataset.binarise=none"
        )
    subject = Subject(run.autoencoder, data, None, settings.loss, settings.dataset, settings.seed)
    return fit_subject(subject, neighbors, SAMPLES, run)


def fit_arrays(model: Autoencoder, train: Tensor, validation: Tensor, neighbors: int = NEIGHBORS) -> Detector:
    """The detector of a model for images or vectors [N,...] that it was trained on, and others that are normal, too."""
    parts = [Split(images, images, None) for images in (train, validation)]
    data = Data(parts[0], parts[1], parts[1], None, "")
    return fit_detector(as_opened(model), data, scale=model.standardise_target.deviation, neighbors=neighbors)


def score_pictures(
    run: OpenedRun,
    detector: Detector,
    pictures: str | os.PathLike[str] | Images,
    by: str,
    false_alarms: float,
    *,
    key: str = "by",
    maps: bool = False,
) -> Anomalies:
    """As ``find_anomalies``. ConfigError, which names ``key``, for a score that the detector does not have."""
    if by not in detector.validation:
        allowed = ", ".join(sorted(detector.validation))
        raise ConfigError(f"{key}={by}: this model and its data do not have this score. Allowed: {allowed}")
    if maps:
        run.require_images()
    names, scores, pixels = list[str](), list[dict[str, np.ndarray]](), list[dict[str, np.ndarray]]()
    for chunk, images in read_pictures(run, pictures):
        part = Split(images, images, None)
        names += chunk
        scores.append(detector.scores(part))
        if maps:
            pixels.append(detector.maps(part))
    return Anomalies(names, _joined(scores), by, detector.threshold(by, false_alarms), _joined(pixels) or None)


def read_pictures(run: OpenedRun, pictures: Any) -> Iterator[tuple[list[str], Tensor]]:
    """Names and images, in chunks: names relative to a folder, or row numbers of arrays. DataError as
    ``find_anomalies``."""
    if isinstance(pictures, str | os.PathLike):
        path = Path(pictures).expanduser()
        if path.suffix in ARRAYS:
            pictures = read_array(run, path)
        else:
            run.require_images()
            found = find_images(path)
            yield from read_folder_inputs(run, path) if path.is_dir() else read_inputs(run, found)
            return
    images = run.as_inputs(pictures)
    if not len(images):
        raise DataError("images: there are none")
    yield [f"{row:06d}" for row in range(len(images))], images


def read_array(run: OpenedRun, path: Path) -> Tensor:
    """The images or vectors of a .npy file, or those of the run's ``dataset.images_key`` (``images``) of a .npz file.

    As ``dataset=array`` reads them. DataError for other files.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    arrays, key = load_arrays(path), str(run.config["dataset"].get("images_key", "images"))
    key = "" if "" in arrays else key
    if key not in arrays:
        raise DataError(f"{path}: does not contain an array '{key}'; it contains {', '.join(arrays) or 'nothing'}")
    return torch.from_numpy(as_images(path, arrays[key]))


def _joined(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}
