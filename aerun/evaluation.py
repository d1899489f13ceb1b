"""Numbers on fixed images: the same images, in the same order, with the same noise draw, in every epoch and run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from aerun.autoencoder import Autoencoder
from aerun.dataset.base import Split, as_float
from aerun.objective import objective
from aerun.seeding import Randomness

BATCH = 1000
EVALUATION_SEED = 0


def corrupted_batches(split: Split, noise: Any) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(clean inputs, corrupted inputs, targets), float, in order; the noise is drawn by position only."""
    random = Randomness(EVALUATION_SEED, split.inputs.device)
    for index, (inputs, targets) in enumerate(zip(split.inputs.split(BATCH), split.targets.split(BATCH), strict=True)):
        clean = as_float(inputs)
        yield clean, noise(clean, random.at("evaluation-noise", index)), as_float(targets)


@torch.no_grad()
def evaluate(autoencoder: Autoencoder, split: Split, noise: Any, loss: Any) -> dict[str, float]:
    """Metrics of the autoencoder on one part, in evaluation mode.

    ``loss``, ``reconstruction`` and penalties as in training (a stochastic code is drawn once, by position).
    From the deterministic pass: ``mse`` per value, ``sse`` per image, ``psnr`` in dB, ``active_units`` (mean number
    of nonzero code values of an image), ``dead_units`` (share of code units with one value for all images) and
    ``output_spread`` (variance of the reconstructions over that of the targets, both summed over pixels).
    PSNR is the mean of the images' own PSNRs, with reconstructions clipped to [0,1] and a peak of 1; it is left
    out where targets leave [0,1]. Where the input is corrupted, ``input_psnr`` is that of the corrupted input.
    """
    was_training = autoencoder.training
    autoencoder.eval()
    random = Randomness(EVALUATION_SEED, split.inputs.device)
    collect = _Collector()
    try:
        for index, (clean, noisy, targets) in enumerate(corrupted_batches(split, noise)):
            draw = autoencoder.draw(len(noisy), random.at("evaluation-latent", index))
            result = autoencoder(noisy, draw)
            collect.terms(objective(result, targets, autoencoder, loss), len(noisy))
            if draw is not None:
                result = autoencoder(noisy)
            collect.images(result.reconstruction, targets)
            collect.codes(result.code)
            if noisy is not clean and noisy.shape == targets.shape:
                collect.inputs(noisy, targets)
    finally:
        autoencoder.train(was_training)
    return collect.metrics()


def squared_errors(images: Tensor, targets: Tensor) -> Tensor:
    """Squared error of each image, summed over its values: [B,...] -> [B]."""
    return (images - targets).square().flatten(1).sum(1)


def mean_psnr(images: Tensor, targets: Tensor) -> Tensor:
    """PSNR of each image in dB, against a peak of 1, with ``images`` clipped to [0,1]: [B,...] -> [B].

    An exact image counts as 100 dB.
    """
    mse = squared_errors(images.clamp(0, 1), targets) / targets[0].numel()
    return -10 * mse.clamp_min(1e-10).log10()


def in_unit_range(values: Tensor) -> bool:
    """Whether all values lie in [0,1]."""
    return bool(values.min() >= 0) and bool(values.max() <= 1)


class _Collector:
    """Sums over batches; per-image numbers are added in float64 on the host."""

    def __init__(self) -> None:
        self._terms: dict[str, float] = {}
        self._count = 0
        self._sse: list[Tensor] = []
        self._psnr: list[Tensor] | None = []
        self._input_psnr: list[Tensor] = []
        self._active: list[Tensor] = []
        self._low: Tensor | None = None
        self._high: Tensor | None = None
        self._spreads = [_Spread(), _Spread()]
        self._values = 1

    def terms(self, terms: dict[str, Tensor], count: int) -> None:
        for name, value in terms.items():
            self._terms[name] = self._terms.get(name, 0.0) + float(value) * count
        self._count += count

    def images(self, images: Tensor, targets: Tensor) -> None:
        self._values = targets[0].numel()
        self._sse.append(squared_errors(images, targets).cpu())
        if self._psnr is not None and in_unit_range(targets):
            self._psnr.append(mean_psnr(images, targets).cpu())
        else:
            self._psnr = None
        for spread, batch in zip(self._spreads, (images, targets), strict=True):
            spread.add(batch)

    def inputs(self, noisy: Tensor, targets: Tensor) -> None:
        if self._psnr is not None:
            self._input_psnr.append(mean_psnr(noisy, targets).cpu())

    def codes(self, codes: Tensor) -> None:
        self._active.append((codes != 0).flatten(1).sum(1).cpu())
        units = codes.transpose(0, 1).flatten(1)
        low, high = units.amin(1), units.amax(1)
        self._low = low if self._low is None else torch.minimum(self._low, low)
        self._high = high if self._high is None else torch.maximum(self._high, high)

    def metrics(self) -> dict[str, float]:
        assert self._low is not None and self._high is not None
        result = {name: total / self._count for name, total in self._terms.items()}
        sse = _mean(self._sse)
        result |= {"mse": sse / self._values, "sse": sse}
        if self._psnr:
            result["psnr"] = _mean(self._psnr)
        if self._psnr and self._input_psnr:
            result["input_psnr"] = _mean(self._input_psnr)
        still = self._high - self._low <= 1e-6 * self._high.abs().clamp_min(1e-6)
        output, target = (spread.total() for spread in self._spreads)
        result |= {"active_units": _mean(self._active), "dead_units": float(still.cpu().double().mean())}
        # One image, or many that are the same, have no spread to compare with.
        return result | {"output_spread": output / target} if target else result


class _Spread:
    """The variance over images of each value, summed over values, from shifted sums."""

    def __init__(self) -> None:
        self._shift: Tensor | None = None
        self._count = 0
        self._sum: Tensor
        self._square: Tensor

    def add(self, batch: Tensor) -> None:
        rows = batch.flatten(1)
        if self._shift is None:
            self._shift = rows.mean(0)
            self._sum = torch.zeros(rows.shape[1], dtype=torch.float64)
            self._square = torch.zeros(rows.shape[1], dtype=torch.float64)
        rows = rows - self._shift
        self._count += len(rows)
        self._sum += rows.sum(0).cpu()
        self._square += rows.square().sum(0).cpu()

    def total(self) -> float:
        return float((self._square / self._count - (self._sum / self._count).square()).clamp_min(0).sum())


def _mean(parts: list[Tensor]) -> float:
    return float(torch.cat(parts).double().mean())
