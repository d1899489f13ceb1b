"""Structural similarity of reconstructions and images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aerun.contracts import Evaluation
from aerun.errors import ConfigError
from aerun.protocol.subject import Subject

if TYPE_CHECKING:
    from torch import Tensor

    from aerun.core.autoencoder import Autoencoder
    from aerun.dataset.data import Data

BATCH = 250  # images


@dataclass(frozen=True, kw_only=True)
class StructuralSimilarity(Evaluation):
    """Structural similarity of the test images' reconstructions, clipped to [0,1], to the images themselves."""

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
        """Return ``ssim`` and ``ms_ssim``, means over the test images, and ``input_ssim`` if the input is corrupted."""
        import torch

        from aerun.base.ssim import ms_ssim, ssim
        from aerun.metrics.evaluation import corrupted_batches

        found: dict[str, list[Tensor]] = {}
        test, start = subject.data.test, 0

        def add(name: str, values: Tensor) -> None:
            found.setdefault(name, []).append(values.cpu().double())

        with torch.no_grad():
            for clean, noisy, targets in corrupted_batches(test, subject.noise):
                for inputs, wanted in zip(noisy.split(BATCH), targets.split(BATCH), strict=True):
                    labels = None if test.labels is None else test.labels[start : start + len(inputs)]
                    start += len(inputs)
                    images = subject.autoencoder.given(labels)(inputs).reconstruction.clamp(0, 1)
                    add("ssim", ssim(images, wanted))
                    add("ms_ssim", ms_ssim(images, wanted))
                    if noisy is not clean and inputs.shape == wanted.shape:
                        add("input_ssim", ssim(inputs.clamp(0, 1), wanted))
        return {name: float(torch.cat(values).mean()) for name, values in found.items()}
