"""Which pictures a run shows, and when: choices only; ``figures`` draws them, ``tracking`` files them."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from aerun import figures
from aerun.base.seeding import Randomness
from aerun.contracts import EpochEnd, Noise, Observer, RunLog, RunView
from aerun.core.autoencoder import Autoencoder
from aerun.core.features import features
from aerun.core.interpolation import linear
from aerun.dataset.data import Split, as_float, head
from aerun.figures.projection import MIN_CODES, project
from aerun.metrics.evaluation import EVALUATION_SEED, corrupted_batches
from aerun.runs.folder import PROBES as PROBE_FILE
from aerun.runs.tracking import Tracker
from aerun.training.parts import Parts

PROBES, CODES, PROJECTED, MAPPED = 16, 512, 1000, 2000
LARGE, SHOWN = 8192, 4096  # of codes of more numbers than the first, about so many, evenly spaced, are drawn and filed
LINES, BETWEEN = 8, 12  # interpolations: rows, and the images of each


class Pictures(Observer):
    """Pictures while a run trains, ``count`` times, spread evenly. The probes are the first validation images (training
    images without a validation part)."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._run: RunView | None = None

    def begin(self, run: RunView) -> None:
        """Show, at the very beginning, what the run is about to learn from."""
        self._run = run
        self._epochs = {math.ceil(i * run.epochs / self._count) for i in range(1, self._count + 1)}
        if run.progress.step == 0 and run.data.is_image:
            images, _, _ = next(corrupted_batches(head(run.data.train, 64), None))
            run.log.picture("data/training_images", figures.image_rows(figures.wrap(images, 16)), 0)

    def epoch(self, end: EpochEnd) -> None:
        """Reconstructions of the probes, and the distribution of their codes."""
        run = self._run
        assert run is not None
        if not self._count or not (end.ended or end.epoch - run.progress.stage_epoch in self._epochs):
            return
        part = run.data.validation or run.data.train
        if run.data.is_image:
            _reconstructions("reconstructions/probes", run.autoencoder, part, run.noise, run.log, end.step)
        codes = codes_of(run.autoencoder, part, run.noise, CODES, thinned=True)
        run.log.histogram("code", codes, end.step)


def draw_final(parts: Parts, tracker: Tracker, step: int, tsne: bool) -> None:
    """Everything that is drawn once, from the run's best weights and the test images."""
    autoencoder, data, noise = parts.autoencoder, parts.data, parts.noise
    if data.is_image:
        probes = _reconstructions("reconstructions/test", autoencoder, data.test, noise, tracker, step)
        tracker.arrays(PROBE_FILE, **probes)
    codes = codes_of(autoencoder, data.test, noise, CODES)
    for name, weights, use in features(autoencoder, codes.view(-1, *autoencoder.code_shape)):
        tracker.picture(f"features/{name}", figures.filters(weights, use), step)
    tracker.picture("code/heatmap", figures.code_heatmap(thin(codes)), step)
    _draw_maps(parts, tracker, step, tsne)
    _draw_projector(parts, tracker)
    if data.is_image:
        _draw_generated(parts, tracker, step)


@torch.no_grad()
def _reconstructions(
    tag: str, autoencoder: Autoencoder, part: Split, noise: Noise, log: RunLog, step: int
) -> dict[str, np.ndarray]:
    """Draw the first images of a part; what was drawn, by name, uint8 [N,C,H,W]."""
    clean, noisy, targets = next(corrupted_batches(head(part, PROBES), noise))
    outputs = autoencoder.reconstruct(noisy)
    log.picture(tag, figures.reconstruction_grid(clean, noisy, outputs, targets), step)
    images = {"inputs": clean, "noisy": noisy, "targets": targets, "reconstructions": outputs}
    return {name: figures.as_bytes(batch).numpy() for name, batch in images.items()}


def codes_of(autoencoder: Autoencoder, part: Split, noise: Noise, count: int, thinned: bool = False) -> Tensor:
    """Flat codes [N,D] of the first images as the network sees them (corrupted if the run corrupts)."""
    batches = corrupted_batches(head(part, count), noise)
    codes = (autoencoder.encode(noisy).flatten(1) for _, noisy, _ in batches)
    return torch.cat([thin(batch) if thinned else batch for batch in codes])


def _draw_maps(parts: Parts, tracker: Tracker, step: int, tsne: bool) -> None:
    test, classes = parts.data.test, parts.data.classes
    codes = codes_of(parts.autoencoder, test, parts.noise, MAPPED, thinned=True)
    labels = None if test.labels is None else test.labels[:MAPPED]
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


def _draw_projector(parts: Parts, tracker: Tracker) -> None:
    data, part = parts.data, head(parts.data.test, PROJECTED)
    names = None
    if part.labels is not None:
        classes = data.classes or []
        names = [classes[i] if i < len(classes) else str(i) for i in part.labels.tolist()]
    small = data.is_image and max(data.input_shape) <= 64
    sprites = figures.as_bytes(as_float(part.inputs[:])) if small else None
    codes = codes_of(parts.autoencoder, data.test, parts.noise, PROJECTED, thinned=True)
    tracker.embedding(codes, names, sprites)


def _draw_generated(parts: Parts, tracker: Tracker, step: int) -> None:
    """Straight lines between the codes of test images, decoded; for a latent with a prior, samples of it, too."""
    autoencoder, shape = parts.autoencoder, parts.autoencoder.code_shape
    generator = Randomness(EVALUATION_SEED, torch.device("cpu")).at("samples", 0)
    drawn = autoencoder.latent.sample_prior((64, *shape), generator)
    if drawn is not None:
        tracker.picture("generated/samples", figures.image_rows(figures.wrap(autoencoder.decode(drawn), 16)), step)
    ends = codes_of(autoencoder, parts.data.test, parts.noise, 2 * LINES)
    first, last = ends[0 : len(ends) // 2 * 2 : 2], ends[1::2]
    if len(last):
        lines = linear(first, last, BETWEEN).transpose(0, 1)
        decoded = autoencoder.decode(lines.reshape(-1, *shape))
        rows = figures.image_rows(figures.wrap(decoded, BETWEEN))
        tracker.picture("generated/interpolations", rows, step)


def thin(codes: Tensor) -> Tensor:
    """codes[N,D] with every n-th of their numbers only, where they are LARGE."""
    return codes[:, :: -(-codes.shape[1] // SHOWN)] if codes.shape[1] > LARGE else codes
