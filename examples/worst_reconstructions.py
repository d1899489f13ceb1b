"""A figure: the images that the model reconstructs worst."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from aerun.contracts import Count, EpochEnd, Observer, RunView
from aerun.figures import as_bytes
from aerun.figures.montage import montage
from aerun.metrics.evaluation import corrupted_batches, squared_errors


@dataclass
class WorstReconstructions(Observer):
    """Draws the ``count`` evaluated images of the largest squared error, over their reconstructions, after each epoch
    that evaluates: TensorBoard keeps all, figures/worst_reconstructions.png the latest."""

    count: Count

    def begin(self, run: RunView) -> None:
        if not run.data.is_image:
            raise ValueError("draws images, and the data are vectors")
        self.run = run

    def epoch(self, end: EpochEnd) -> None:
        if not end.evaluated:
            return
        model = self.run.autoencoder
        found = []
        for _, inputs, targets in corrupted_batches(self.run.part, self.run.noise):
            outputs = model.reconstruct(inputs)
            worst = squared_errors(outputs, targets).topk(min(self.count, len(targets))).indices
            found.append((targets[worst], outputs[worst]))
        targets, outputs = (torch.cat(images) for images in zip(*found, strict=True))
        worst = squared_errors(outputs, targets).topk(min(self.count, len(targets))).indices
        rows = [("target", targets[worst]), ("output", outputs[worst])]
        pixels = montage([(label, as_bytes(images).numpy()) for label, images in rows])
        self.run.log.picture("worst_reconstructions", pixels, end.step)
