"""How well a model that was trained on normal images separates others from them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aerun.contracts import Count, Evaluation, Metric, NonNegativeInt, OpenProbability
from aerun.errors import ConfigError, DataError
from aerun.protocol.likelihood import Likelihood, has_likelihood
from aerun.protocol.subject import Answer, Subject

if TYPE_CHECKING:
    import numpy as np

    from aerun.core.autoencoder import Autoencoder
    from aerun.dataset.data import Data, Split
    from aerun.metrics.anomaly_detector import Codes, Detector

SCORES = ("error", "error_peak", "ssim", "ssim_peak", "mahalanobis", "knn", "likelihood", "fused", "pca", "pca_peak")
MAPS = ("error", "ssim", "pca")
NUMBERS = ("auroc", "ap", "f1")
PIXEL_NUMBERS = ("pixel_auroc", "pixel_ap", "pro")
SHOWN = 10  # images of a row
DECODED = 500  # codes at once, for the likelihood


@dataclass(frozen=True, kw_only=True)
class Anomaly(Evaluation):
    """Scores of test images, which are normal, and of the images that ``dataset.exclude`` or ``dataset.layout`` keeps
    out of training, which are not (see ``aerun.metrics.anomaly_scores``).

    Reports ``anomaly/SCORE_auroc``, ``_ap`` and ``_f1`` (see ``aerun.metrics.detection``) of each score that the model
    and its images have: ``error``, ``error_peak``, ``ssim``, ``ssim_peak``, ``mahalanobis``, ``knn``, ``likelihood``
    (-log p(x) by ``samples`` codes, for a Gaussian latent whose loss is a likelihood), ``fused``; and of ``pca`` and
    ``pca_peak``, the error of as many principal components. Thresholds are those of ``false_alarms`` on the validation
    images; ``anomaly/fused_detected`` is the share of the anomalies above it, ``anomaly/fused_false_alarms`` of the
    normal images. With masks also ``anomaly/MAP_pixel_auroc``, ``_pixel_ap`` and ``_pro``, of the pixels of all these
    images, of the maps ``error``, ``ssim`` and ``pca``.
    """

    neighbors: Count
    false_alarms: OpenProbability
    samples: NonNegativeInt

    metrics = (
        *(Metric(f"anomaly/{score}_{name}", higher_is_better=True) for score in SCORES for name in NUMBERS),
        Metric("anomaly/fused_detected", higher_is_better=True),
        Metric("anomaly/fused_false_alarms"),
        *(Metric(f"anomaly/{name}_{number}", higher_is_better=True) for name in MAPS for number in PIXEL_NUMBERS),
        Metric("anomaly/images", "images", higher_is_better=True),
    )

    def check_data(self, data: Data, autoencoder: Autoencoder) -> None:
        """Raise ConfigError for data without anomalies or with too few validation images, and for a conditional
        model."""
        from aerun.metrics.anomaly_detector import check_normal_images

        if data.anomalies is None:
            raise ConfigError(
                "there are no anomalies: name classes to keep out of training, dataset.exclude=[3] or [all,but,3], or "
                "use dataset=image_folder dataset.layout=mvtec"
            )
        if autoencoder.condition is not None:
            raise ConfigError("model.condition=label: the label of an image that is not normal is not known")
        check_normal_images(data, self.false_alarms, "false_alarms")

    def __call__(self, subject: Subject) -> Answer:
        """Return the numbers by name and, for images, a picture of the least normal ones of both parts."""
        from aerun.metrics.detection import detection_numbers

        normal, anomalies = subject.data.test, subject.data.anomalies
        if anomalies is None:
            raise DataError("there are no anomalies")
        detector = fit_subject(subject, self.neighbors, self.samples)
        found = {"images": float(len(anomalies))}
        parts = detector.scores(normal), detector.scores(anomalies)
        for score in detector.validation:
            threshold = detector.threshold(score, self.false_alarms)
            numbers = detection_numbers(parts[0][score], parts[1][score], threshold.value)
            names = numbers if score == "fused" else NUMBERS
            found |= {f"{score}_{name}": numbers[name] for name in names}
        if subject.data.masks is not None:
            found |= _of_pixels(detector, normal, anomalies, subject.data.masks.numpy())
        numbers = {f"anomaly/{name}": value for name, value in found.items()}
        if not subject.data.is_image:
            return Answer(numbers)
        from aerun.figures.montage import montage

        rows = [
            row
            for name, part, scores in (("anomalies", anomalies, parts[1]), ("normal", normal, parts[0]))
            for row in _worst_rows(name, detector, part, scores["fused"])
        ]
        return Answer(numbers, {"anomalies/test": montage(rows)})


def fit_subject(subject: Subject, neighbors: int, samples: int, codes: Codes | None = None) -> Detector:
    """The detector of a trained model, with the likelihood by so many ``samples`` if it has one and that is not 0.

    ``codes``: what encodes and reconstructs instead of the model itself.
    """
    from aerun.metrics.anomaly_detector import fit_detector

    def log_likelihood(part: Split) -> np.ndarray:
        asked = dataclasses.replace(subject, data=dataclasses.replace(subject.data, test=part), noise=None)
        whole = Likelihood(samples=samples, images=None, samples_of_rest=None, batch_size=max(DECODED, samples))
        found: np.ndarray = whole.each(asked).numpy()
        return found

    model = subject.autoencoder
    return fit_detector(
        codes or model,
        subject.data,
        scale=model.standardise_target.deviation,
        neighbors=neighbors,
        log_likelihood=log_likelihood if samples and has_likelihood(subject) else None,
    )


def _worst_rows(name: str, detector: Detector, part: Split, scores: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """The least normal images of a part by these scores, their reconstructions, and their errors on a common scale."""
    import torch

    from aerun.dataset.data import as_float
    from aerun.figures import as_bytes

    rows = torch.from_numpy(scores).argsort(descending=True, stable=True)[:SHOWN].sort().values
    inputs = part.inputs
    images = as_float(inputs[rows.to(inputs.device)] if isinstance(inputs, torch.Tensor) else inputs.select(rows)[:])
    outputs = detector.model.reconstruct(images).cpu()
    errors = (images.cpu() - outputs).abs()
    shown = {f"{name}, highest score": images, "reconstruction": outputs, "error": 1 - errors / errors.max()}
    return [(label, as_bytes(values).numpy()) for label, values in shown.items()]


def _of_pixels(detector: Detector, normal: Split, anomalies: Split, masks: np.ndarray) -> dict[str, float]:
    import numpy as np

    from aerun.metrics.detection import pixel_numbers

    maps, others = detector.maps(normal), detector.maps(anomalies)
    truth = [*np.zeros_like(masks[:1]).repeat(len(normal), 0), *masks]
    found = {name: pixel_numbers([*maps[name], *others[name]], truth) for name in maps}
    return {f"{name}_{number}": value for name, numbers in found.items() for number, value in numbers.items()}
