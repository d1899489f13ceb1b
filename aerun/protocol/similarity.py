"""Structural similarity of reconstructions and images, and how much of their colors is kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aerun.contracts import Evaluation, Metric
from aerun.errors import ConfigError
from aerun.protocol.subject import Subject

if TYPE_CHECKING:
    from torch import Tensor

    from aerun.core.autoencoder import Autoencoder
    from aerun.dataset.data import Data

BATCH = 250  # images


LEAST_COLOR = 1e-7  # variance of a pixel, below which it is rounding, or none that can be seen
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601


@dataclass(frozen=True, kw_only=True)
class StructuralSimilarity(Evaluation):
    """How similar the test images' reconstructions, clipped to [0,1], are to the images: structure and colors.

    The same numbers of PCA with as many components as the code has values are the baseline.
    """

    metrics = (
        *(Metric(f"pca_{name}", higher_is_better=True) for name in ("ssim", "ms_ssim", "color")),
        Metric("color", higher_is_better=True),
    )

    def check_data(self, data: Data, autoencoder: Autoencoder) -> None:
        """Raise ConfigError unless the targets are images in [0,1], at least as large as the window."""
        import torch

        from aerun.base.ssim import check_size
        from aerun.dataset.data import in_unit_range

        try:
            check_size(data.output_shape)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        if data.test.targets.dtype != torch.uint8 and not in_unit_range(data.test.targets):
            raise ConfigError("structural similarity needs images in [0,1]; the test images exceed that range")

    def __call__(self, subject: Subject) -> dict[str, float]:
        """Return ``ssim`` and ``ms_ssim``, means over the test images, ``color`` of RGB images, the three of PCA, and
        ``input_ssim`` if the input is corrupted.

        ``color``: 1 - sum |c - c'|^2 / sum |c - m|^2 over all pixels, with c the blue and red differences from the
        luma (BT.601), c' those of the reconstruction, and m the mean of c: 1 keeps all colors, 0 is the mean color.
        """
        import torch

        from aerun.metrics.evaluation import corrupted_batches

        test, start = subject.data.test, 0
        project = _components(subject)
        found = _Collected()
        with torch.no_grad():
            for clean, noisy, targets in corrupted_batches(test, subject.noise):
                for inputs, wanted in zip(noisy.split(BATCH), targets.split(BATCH), strict=True):
                    labels = None if test.labels is None else test.labels[start : start + len(inputs)]
                    start += len(inputs)
                    found.add("", subject.autoencoder.given(labels)(inputs).reconstruction, wanted)
                    if project is not None:
                        found.add("pca_", project(wanted), wanted)
                    if noisy is not clean and inputs.shape == wanted.shape:
                        found.add("input_", inputs, wanted)
        return found.numbers()


def _components(subject: Subject) -> Callable[[Tensor], Tensor] | None:
    """The projection of targets [B,...] on as many principal components as the code has values; None for inputs of
    another kind than the targets, and where components take too long."""
    import torch

    from aerun.metrics.baselines import as_rows, mean_of, principal_components

    images = subject.data.train.targets.cpu()
    if not subject.data.same:
        return None
    mean = mean_of(images)
    components = principal_components(images, mean, math.prod(subject.autoencoder.code_shape))
    if components is None:
        return None

    def project(wanted: Tensor) -> Tensor:
        rows = (as_rows(wanted.cpu()) - mean) @ components
        return (rows @ components.T + mean).view(wanted.shape).to(wanted.device, torch.float32)

    return project


class _Collected:
    """Similarities of images and targets [B,C,H,W], by prefix and name, added up batch by batch."""

    def __init__(self) -> None:
        self._means: dict[str, list[Tensor]] = {}
        self._sums: dict[str, Tensor] = {}

    def add(self, prefix: str, images: Tensor, targets: Tensor) -> None:
        """``prefix``: of the names, such as ``pca_``. Images are clipped to [0,1]."""
        from aerun.base.ssim import ms_ssim, ssim

        images = images.clamp(0, 1)
        self._means.setdefault(f"{prefix}ssim", []).append(ssim(images, targets).cpu().double())
        if prefix == "input_":
            return
        self._means.setdefault(f"{prefix}ms_ssim", []).append(ms_ssim(images, targets).cpu().double())
        if targets.shape[1] == len(LUMA):
            sums = _chroma_sums(images.cpu().double(), targets.cpu().double())
            self._sums[f"{prefix}color"] = self._sums.get(f"{prefix}color", 0) + sums

    def numbers(self) -> dict[str, float]:
        """The means over the images, and the shares of the colors that are kept."""
        import torch

        found = {name: float(torch.cat(values).mean()) for name, values in self._means.items()}
        for name, (count, error, square, *total) in ((name, sums.tolist()) for name, sums in self._sums.items()):
            spread = square - sum(part**2 for part in total) / count
            if spread > LEAST_COLOR * count:  # gray images have no colors to keep
                found[name] = 1 - error / spread
        return found


def _chroma_sums(images: Tensor, targets: Tensor) -> Tensor:
    """RGB [B,3,H,W] -> [5]: the number of pixels, and, of the blue and red differences from the luma, the sum of
    squared errors, the sum of squares, and the two sums."""
    import torch

    def chroma(rgb: Tensor) -> Tensor:
        luma = (rgb * rgb.new_tensor(LUMA).view(3, 1, 1)).sum(1)
        return torch.stack([rgb[:, 2] - luma, rgb[:, 0] - luma])

    found, wanted = chroma(images), chroma(targets)
    count = wanted.new_tensor([wanted[0].numel()])
    squares = torch.stack([(found - wanted).square().sum(), wanted.square().sum()])
    return torch.cat([count, squares, wanted.flatten(1).sum(1)])
