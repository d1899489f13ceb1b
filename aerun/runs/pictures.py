"""Which pictures a run shows, and when: choices only; ``figures`` draws them, ``tracking`` files them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aerun import figures
from aerun.base.seeding import Randomness
from aerun.core.autoencoder import Autoencoder
from aerun.core.features import features
from aerun.core.interpolation import linear
from aerun.dataset.data import Data, Split, as_float, head
from aerun.figures.projection import MIN_CODES, project
from aerun.metrics.evaluation import EVALUATION_SEED, corrupted_batches
from aerun.noise import NoNoise
from aerun.runs.folder import PROBES as PROBE_FILE
from aerun.runs.tracking import Tracker

PROBES, CODES, PROJECTED, MAPPED = 16, 512, 1000, 2000
LARGE, SHOWN = 8192, 4096  # of codes of more numbers than the first, about so many, evenly spaced, are drawn and filed
LINES, BETWEEN = 8, 12  # interpolations: rows, and the images of each


@dataclass
class Report:
    """Pictures of one run. The probes are the first images of the validation part (of training without one)."""

    autoencoder: Autoencoder
    data: Data
    noise: Any
    tracker: Tracker

    def start(self) -> None:
        """What the run is about to learn from."""
        if self.data.is_image:
            images, _, _ = next(corrupted_batches(head(self.data.train, 64), NoNoise()))
            self.tracker.picture("data/training_images", figures.image_rows(figures.wrap(images, 16)), 0)

    def epoch(self, step: int) -> None:
        """Reconstructions of the probes, and the distribution of their codes."""
        part = self.data.validation or self.data.train
        self._reconstructions("reconstructions/probes", part, step)
        self.tracker.histogram("code", self.codes(part, CODES, thinned=True), step)

    def final(self, step: int, tsne: bool) -> None:
        """Everything that is drawn once, from the run's best weights and the test images."""
        test = self.data.test
        probes = self._reconstructions("reconstructions/test", test, step)
        if probes:
            self.tracker.arrays(PROBE_FILE, **probes)
        codes = self.codes(test, CODES)
        for name, weights, use in features(self.autoencoder, codes.view(-1, *self.autoencoder.code_shape)):
            self.tracker.picture(f"features/{name}", figures.filters(weights, use), step)
        self.tracker.picture("code/heatmap", figures.code_heatmap(thin(codes)), step)
        self._maps(test, step, tsne)
        self._projector(test)
        if self.data.is_image:
            self._generated(test, step)

    @torch.no_grad()
    def _reconstructions(self, tag: str, part: Split, step: int) -> dict[str, np.ndarray]:
        """Draw the first images of a part; what was drawn, by name, uint8 [N,C,H,W]. Empty for vectors."""
        if not self.data.is_image:
            return {}
        clean, noisy, targets = next(corrupted_batches(head(part, PROBES), self.noise))
        outputs = self.autoencoder.reconstruct(noisy)
        self.tracker.picture(tag, figures.reconstruction_grid(clean, noisy, outputs, targets), step)
        images = {"inputs": clean, "noisy": noisy, "targets": targets, "reconstructions": outputs}
        return {name: figures.as_bytes(batch).numpy() for name, batch in images.items()}

    def codes(self, part: Split, count: int, thinned: bool = False) -> Tensor:
        """Flat codes [N,D] of the first images as the network sees them (corrupted where the run corrupts)."""
        batches = corrupted_batches(head(part, count), self.noise)
        codes = (self.autoencoder.encode(noisy).flatten(1) for _, noisy, _ in batches)
        return torch.cat([thin(batch) if thinned else batch for batch in codes])

    def _maps(self, test: Split, step: int, tsne: bool) -> None:
        codes = self.codes(test, MAPPED, thinned=True)
        labels, classes = None if test.labels is None else test.labels[:MAPPED], self.data.classes
        if codes.shape[1] == 2:
            pixels = figures.scatter(codes, labels, classes, "Codes of test images", "code unit", first=0)
        elif codes.shape[1] > 2:
            plane = figures.principal_plane(codes)
            pixels = figures.scatter(plane, labels, classes, "Codes of test images, PCA", "principal axis")
        else:
            return
        self.tracker.picture("code/map", pixels, step)
        if tsne and len(codes) >= MIN_CODES:
            mapped = torch.from_numpy(project(codes, "tsne"))
            pixels = figures.scatter(mapped, labels, classes, "Codes of test images, t-SNE", "t-SNE")
            self.tracker.picture("code/map_tsne", pixels, step)

    def _projector(self, test: Split) -> None:
        part = head(test, PROJECTED)
        names = None
        if part.labels is not None:
            classes = self.data.classes or []
            names = [classes[i] if i < len(classes) else str(i) for i in part.labels.tolist()]
        sprites = (
            figures.as_bytes(as_float(part.inputs[:]))
            if self.data.is_image and max(self.data.input_shape) <= 64
            else None
        )
        self.tracker.embedding(self.codes(test, PROJECTED, thinned=True), names, sprites)

    def _generated(self, test: Split, step: int) -> None:
        """Straight lines between the codes of test images, decoded; of a Gaussian latent draws from the prior, too."""
        shape = self.autoencoder.code_shape
        if self.autoencoder.latent.parameters_per_code > 1:
            generator = Randomness(EVALUATION_SEED, torch.device("cpu")).at("samples", 0)
            samples = self.autoencoder.decode(torch.randn((64, *shape), generator=generator))
            self.tracker.picture("generated/samples", figures.image_rows(figures.wrap(samples, 16)), step)
        ends = self.codes(test, 2 * LINES)
        first, last = ends[0 : len(ends) // 2 * 2 : 2], ends[1::2]
        if len(last):
            lines = linear(first, last, BETWEEN).transpose(0, 1)
            decoded = self.autoencoder.decode(lines.reshape(-1, *shape))
            rows = figures.image_rows(figures.wrap(decoded, BETWEEN))
            self.tracker.picture("generated/interpolations", rows, step)


def thin(codes: Tensor) -> Tensor:
    """codes[N,D] with every n-th of their numbers only, where they are LARGE."""
    return codes[:, :: -(-codes.shape[1] // SHOWN)] if codes.shape[1] > LARGE else codes
