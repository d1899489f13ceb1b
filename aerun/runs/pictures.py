"""Which pictures a run shows, and when. ``figures`` draws them, ``tracking`` writes them."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from aerun import figures
from aerun.base.seeding import Randomness
from aerun.contracts import EpochEnd, Noise, Observer, RunLog, RunView
from aerun.core.autoencoder import Autoencoder
from aerun.core.features import find_features
from aerun.core.interpolation import linear
from aerun.dataset.data import Split, as_float, spread
from aerun.figures.projection import MIN_CODES, project
from aerun.metrics.evaluation import EVALUATION_SEED, corrupted_batches, given_batches
from aerun.runs.folder import PROBES as PROBE_FILE
from aerun.runs.tracking import FolderLog
from aerun.training.parts import Parts

PROBE_IMAGES, HISTOGRAM_CODES, PROJECTOR_CODES, MAP_CODES = 16, 512, 1000, 2000
# Of longer codes about THINNED_VALUES values, evenly spaced, are drawn and written.
MAX_CODE_VALUES, THINNED_VALUES = 8192, 4096
INTERPOLATIONS, INTERPOLATION_IMAGES, CLASS_ROWS = 8, 12, 16


class Pictures(Observer):
    """Draws pictures during training, ``count`` times at even intervals. The probes are the first validation images, or
    training images if there are no validation images."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._run: RunView | None = None

    def begin(self, run: RunView) -> None:
        """Draw training images at the start of the run."""
        self._run = run
        self._epochs = {math.ceil(i * run.epochs / self._count) for i in range(1, self._count + 1)}
        if run.progress.step == 0 and run.data.is_image:
            images, _, _ = next(corrupted_batches(spread(run.data.train, 64), None))
            run.log.picture("data/training_images", figures.image_rows(figures.wrap(images, 16)), 0)

    def epoch(self, end: EpochEnd) -> None:
        """Draw reconstructions of the probes; log the distribution of their codes if a tracker shows it."""
        run = self._run
        assert run is not None
        if not self._count or not (end.ended or end.epoch - run.progress.stage_epoch in self._epochs):
            return
        part = run.data.validation or run.data.train
        if run.data.is_image:
            _draw_reconstructions("reconstructions/probes", run.autoencoder, part, run.noise, run.log, end.step)
        if run.log.histograms:
            codes = codes_of(run.autoencoder, part, run.noise, HISTOGRAM_CODES, thinned=True)
            run.log.histogram("code", codes, end.step)


def draw_final(parts: Parts, tracker: FolderLog, step: int, tsne: bool) -> None:
    """Draw the final pictures from the run's best weights and the test images."""
    autoencoder, data, noise = parts.autoencoder, parts.data, parts.noise
    if data.is_image:
        probes = _draw_reconstructions("reconstructions/test", autoencoder, data.test, noise, tracker, step)
        tracker.arrays(PROBE_FILE, **probes)
    codes = codes_of(autoencoder, data.test, noise, HISTOGRAM_CODES)
    given = autoencoder.given(spread(data.test, HISTOGRAM_CODES).labels)
    for name, weights, use in find_features(given, codes.view(-1, *autoencoder.code_shape)):
        tracker.picture(f"features/{name}", figures.filters(weights, use), step)
    tracker.picture("code/heatmap", figures.code_heatmap(thin(codes)), step)
    _draw_maps(parts, tracker, step, tsne)
    if tracker.projector:
        _draw_projector(parts, tracker)
    if data.is_image:
        _draw_generated(parts, tracker, step)


@torch.no_grad()
def _draw_reconstructions(
    tag: str, autoencoder: Autoencoder, part: Split, noise: Noise, log: RunLog, step: int
) -> dict[str, np.ndarray]:
    """Draw images of a part and their reconstructions; return the images by name, uint8 [N,C,H,W]."""
    given, clean, noisy, targets = next(given_batches(autoencoder, spread(part, PROBE_IMAGES), noise))
    outputs = given.reconstruct(noisy)
    log.picture(tag, figures.reconstruction_grid(clean, noisy, outputs, targets), step)
    images = {"inputs": clean, "noisy": noisy, "targets": targets, "reconstructions": outputs}
    return {name: figures.as_bytes(batch).numpy() for name, batch in images.items()}


def codes_of(autoencoder: Autoencoder, part: Split, noise: Noise, count: int, thinned: bool = False) -> Tensor:
    """Flattened codes [N,D] of images at even distances as the network sees them: with the run's noise."""
    batches = given_batches(autoencoder, spread(part, count), noise)
    codes = (given.encode(noisy).flatten(1) for given, _, noisy, _ in batches)
    return torch.cat([thin(batch) if thinned else batch for batch in codes])


def _draw_maps(parts: Parts, tracker: FolderLog, step: int, tsne: bool) -> None:
    test, classes = parts.data.test, parts.data.classes
    codes = codes_of(parts.autoencoder, test, parts.noise, MAP_CODES, thinned=True)
    labels = spread(test, MAP_CODES).labels
    if codes.shape[1] == 2:
        pixels = figures.scatter(codes, labels, classes, "Codes of test images", "code unit", first=0)
    elif codes.shape[1] > 2:
        plane = figures.principal_plane(codes)
        pixels = figures.scatter(plane, labels, classes, "Codes of test images, PCA", "principal axis")
    else:
        return
    tracker.picture("code/map", pixels, step)
    if tsne and len(codes) >= MIN_CODES:
        mapped = torch.from_numpy(project(codes, "tsne"))
        pixels = figures.scatter(mapped, labels, classes, "Codes of test images, t-SNE", "t-SNE")
        tracker.picture("code/map_tsne", pixels, step)


def _draw_projector(parts: Parts, tracker: FolderLog) -> None:
    data, part = parts.data, spread(parts.data.test, PROJECTOR_CODES)
    names = None
    if part.labels is not None:
        classes = data.classes or []
        names = [classes[i] if i < len(classes) else str(i) for i in part.labels.tolist()]
    small = data.is_image and max(data.input_shape) <= 64
    sprites = figures.as_bytes(as_float(part.inputs[:])) if small else None
    codes = codes_of(parts.autoencoder, data.test, parts.noise, PROJECTOR_CODES, thinned=True)
    tracker.embedding(codes, names, sprites)


def _draw_generated(parts: Parts, tracker: FolderLog, step: int) -> None:
    """Draw decoded straight lines between the codes of test images and, if the latent has a prior, samples from it.

    A conditional model decodes the same samples with each label, one row for each of the first CLASS_ROWS classes, and
    a line with the label of its first image.
    """
    autoencoder, shape, test = parts.autoencoder, parts.autoencoder.code_shape, parts.data.test
    generator = Randomness(EVALUATION_SEED, torch.device("cpu")).at("samples", 0)
    drawn = autoencoder.latent.sample_prior((64, *shape), generator)
    if drawn is not None:
        samples = decode_classes(autoencoder, drawn, 16)
        tracker.picture("generated/samples", figures.image_rows(figures.wrap(samples, 16)), step)
    ends = codes_of(autoencoder, test, parts.noise, 2 * INTERPOLATIONS)
    first, last = ends[0 : len(ends) // 2 * 2 : 2], ends[1::2]
    if len(last):
        lines = linear(first, last, INTERPOLATION_IMAGES).transpose(0, 1)
        labels = None if autoencoder.condition is None else spread(test, 2 * INTERPOLATIONS).labels
        if labels is not None:
            labels = labels[: 2 * len(last) : 2].repeat_interleave(INTERPOLATION_IMAGES)
        decoded = autoencoder.decode(lines.reshape(-1, *shape), labels)
        rows = figures.image_rows(figures.wrap(decoded, INTERPOLATION_IMAGES))
        tracker.picture("generated/interpolations", rows, step)


def decode_classes(autoencoder: Autoencoder, codes: Tensor, columns: int) -> Tensor:
    """codes[N,...] -> their images; of a conditional model the first ``columns`` codes with each label, row by row."""
    if autoencoder.classes is None:
        return autoencoder.decode(codes)
    rows = min(autoencoder.classes, CLASS_ROWS)
    labels = torch.arange(rows).repeat_interleave(columns)
    return autoencoder.decode(codes[:columns].repeat(rows, *[1] * (codes.dim() - 1)), labels)


def thin(codes: Tensor) -> Tensor:
    """codes[N,D] with only every n-th value if they have more than MAX_CODE_VALUES."""
    return codes[:, :: -(-codes.shape[1] // THINNED_VALUES)] if codes.shape[1] > MAX_CODE_VALUES else codes
