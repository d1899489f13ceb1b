"""Metrics on fixed images: the same images, order and noise samples in every epoch and run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from aerun.base.seeding import Randomness
from aerun.core.autoencoder import LABELS, LATENT, SECOND_VIEW, Autoencoder, objective
from aerun.dataset.binarize import sample_binary
from aerun.dataset.data import Split, as_float, in_unit_range
from aerun.noise import NoNoise

BATCH = 1000  # images
EVALUATION_SEED = 0


def corrupted_batches(split: Split, noise: Any) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield (clean inputs, corrupted inputs, targets), float, in order; random numbers depend on the position alone.

    Corruptions for training only are not applied; with ``noise`` None nothing is.
    """
    noise = NoNoise() if noise is None else noise.for_evaluation()
    random = Randomness(EVALUATION_SEED, split.inputs.device)
    for index, (inputs, targets) in enumerate(zip(split.inputs.split(BATCH), split.targets.split(BATCH), strict=True)):
        clean = sample_binary(inputs, random.at("evaluation-binarise", index)) if split.binarise else as_float(inputs)
        wanted = clean if split.targets is split.inputs else as_float(targets)
        yield clean, noise(clean, random.at("evaluation-noise", index)), wanted


def given_batches(
    autoencoder: Autoencoder, split: Split, noise: Any
) -> Iterator[tuple[Autoencoder, Tensor, Tensor, Tensor]]:
    """``corrupted_batches``, each with the model for the labels of its images: see ``Autoencoder.given``."""
    for index, (clean, noisy, targets) in enumerate(corrupted_batches(split, noise)):
        yield autoencoder.given(_labels_of(autoencoder, split, index).get(LABELS)), clean, noisy, targets


def _labels_of(autoencoder: Autoencoder, split: Split, index: int) -> dict[str, Tensor]:
    """The labels of batch ``index`` as ``Extras`` of a conditional model."""
    if autoencoder.condition is None or split.labels is None:
        return {}
    return {LABELS: split.labels[index * BATCH : (index + 1) * BATCH]}


def evaluate(autoencoder: Autoencoder, split: Split, noise: Any, loss: Any) -> dict[str, float]:
    """Return the metrics of the autoencoder on one part, in evaluation mode.

    - ``loss``, ``reconstruction`` and penalties as in training (a stochastic code is sampled once, by position).
    - From the deterministic pass: ``mse`` per value, ``sse`` per image, ``psnr`` in dB, ``active_units`` (mean number
      of nonzero code values of an image), ``dead_units`` (share of code units that are constant over all images) and
      ``output_spread`` (variance of the reconstructions divided by that of the targets, both summed over pixels).
    - For a quantized code, over all images: ``perplexity`` (exp of the entropy of the entries' use, mean over
      codebooks), ``code_usage`` (entries that any image uses, as a share of all of them, or of the images' vectors if
      these are fewer) and ``bits`` of an image's indices.
    - ``psnr`` is the mean PSNR of the images, with reconstructions clipped to [0,1] and a peak of 1; ``psnr_pooled`` is
      the PSNR of their mean squared error. Both are left out if targets exceed [0,1].
    - If the input is corrupted, ``input_psnr`` and ``input_psnr_pooled`` are those of the corrupted input.
    """
    return Evaluation(split, noise, loss)(autoencoder)


class Evaluation:
    """``evaluate`` for repeated use on one part: what depends on the part alone is computed once."""

    def __init__(self, split: Split, noise: Any, loss: Any) -> None:
        self._split, self._noise, self._loss = split, noise, loss
        self._random = Randomness(EVALUATION_SEED, split.inputs.device)
        self._target_facts: tuple[bool, float] | None = None  # whether all targets are in [0,1], and their spread

    @property
    def target_spread(self) -> float:
        """Variance of the targets over images, summed over values; 0 before the first evaluation."""
        return 0.0 if self._target_facts is None else self._target_facts[1]

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield inputs, corrupted as the model sees them, and targets, float, in order."""
        return ((noisy, targets) for _, noisy, targets in corrupted_batches(self._split, self._noise))

    def given(self, autoencoder: Autoencoder) -> Iterator[tuple[Autoencoder, Tensor, Tensor]]:
        """``batches``, each after the model for the labels of its images: see ``Autoencoder.given``."""
        for model, _, noisy, targets in given_batches(autoencoder, self._split, self._noise):
            yield model, noisy, targets

    @torch.no_grad()
    def __call__(self, autoencoder: Autoencoder) -> dict[str, float]:
        """Return the metrics. The device is synchronized once, at the end."""
        if self._target_facts is None:
            self._target_facts = self._examine_targets()
        was_training = autoencoder.training
        autoencoder.eval()
        collect = _Collector(*self._target_facts)
        try:
            for index, (clean, noisy, targets) in enumerate(corrupted_batches(self._split, self._noise)):
                extras = autoencoder.draw_extras(len(noisy), partial(self._generator, index))
                if autoencoder.two_views:
                    noise = autoencoder.view_noise(self._noise.for_evaluation())
                    extras[SECOND_VIEW] = noise(clean, self._generator(index, SECOND_VIEW))
                labels = _labels_of(autoencoder, self._split, index)
                extras |= labels
                result = autoencoder(noisy, extras)
                collect.terms(objective(result, targets, autoencoder, self._loss, extras), len(noisy))
                if LATENT in extras:
                    result = autoencoder(noisy, labels)
                collect.images(result.reconstruction, targets)
                collect.codes(result.code)
                collect.indices(autoencoder, result.features)
                if noisy is not clean and noisy.shape == targets.shape:
                    collect.inputs(noisy, targets)
        finally:
            autoencoder.train(was_training)
        return collect.metrics()

    def _generator(self, index: int, name: str) -> torch.Generator:
        """The generator for the random numbers of that name on batch ``index``."""
        return self._random.at(f"evaluation-{name}", index)

    def _examine_targets(self) -> tuple[bool, float]:
        spread, inside = _Spread(), True
        for _, _, batch in corrupted_batches(self._split, NoNoise()):
            inside = inside and (self._split.targets.dtype == torch.uint8 or in_unit_range(batch))
            spread.add(batch)
        return inside, spread.total()


def squared_errors(images: Tensor, targets: Tensor) -> Tensor:
    """Return the squared error of each image, summed over its values: [B,...] -> [B]."""
    return (images - targets).square_().flatten(1).sum(1)  # in place: a second array takes as long as the arithmetic


def psnrs(name: str, errors: list[Tensor], values: int) -> dict[str, float]:
    """Return ``name``, the mean PSNR of the images, and ``name_pooled``, the PSNR of all their values together.

    ``errors``: squared error of each image (clipped to [0,1], summed over its ``values`` values), in chunks of any
    size. In dB with a peak of 1; an exact image counts as 100 dB.
    """
    mse = torch.cat(errors) / values
    return {name: _mean([_decibels(mse)]), f"{name}_pooled": float(_decibels(mse.cpu().double().mean()))}


def _decibels(mse: Tensor) -> Tensor:
    return -10 * mse.clamp_min(1e-10).log10()


class _Collector:
    """Collects the results of batches on their device; copies them to the host once, and sums them in float64."""

    def __init__(self, in_range: bool, target_spread: float) -> None:
        self._in_range, self._target_spread = in_range, target_spread
        self._names: list[str] = []
        self._terms: list[Tensor] = []
        self._counts: list[int] = []
        self._sse: list[Tensor] = []
        self._clipped: list[Tensor] = []
        self._input: list[Tensor] = []
        self._active: list[Tensor] = []
        self._low: Tensor | None = None
        self._high: Tensor | None = None
        self._spread = _Spread()
        self._values = 1
        self._used: Tensor | None = None
        self._bits = 0.0

    def terms(self, terms: dict[str, Tensor], count: int) -> None:
        self._names = list(terms)
        self._terms.append(torch.stack(list(terms.values())))
        self._counts.append(count)

    def images(self, images: Tensor, targets: Tensor) -> None:
        self._values = targets[0].numel()
        self._sse.append(squared_errors(images, targets))
        if self._in_range:
            self._clipped.append(squared_errors(images.clamp(0, 1), targets))
        self._spread.add(images)

    def inputs(self, noisy: Tensor, targets: Tensor) -> None:
        if self._in_range:
            self._input.append(squared_errors(noisy.clamp(0, 1), targets))

    def codes(self, codes: Tensor) -> None:
        self._active.append((codes != 0).flatten(1).sum(1))
        units = codes.transpose(0, 1).flatten(1)
        low, high = units.amin(1), units.amax(1)
        self._low = low if self._low is None else torch.minimum(self._low, low)
        self._high = high if self._high is None else torch.maximum(self._high, high)

    def indices(self, autoencoder: Autoencoder, features: Tensor) -> None:
        """Count how often each entry [S,G,K] of a quantized code is used."""
        codebooks = autoencoder.latent.codebooks
        if codebooks is None:
            return
        found = autoencoder.latent.indices(autoencoder.sparsity(features, False)[0])
        numbers = found.permute(1, 2, 0, 3).flatten(2)
        entries = codebooks.shape[2]
        if self._used is None:
            self._used = numbers.new_zeros(*numbers.shape[:2], entries)
            self._bits = math.log2(entries) * found[0].numel()
        self._used.scatter_add_(2, numbers, torch.ones_like(numbers))

    def _codebook_use(self) -> dict[str, float]:
        if self._used is None:
            return {}
        counts = self._used.cpu().double()
        shares = counts / counts.sum(-1, keepdim=True)
        perplexity = (-torch.special.xlogy(shares, shares).sum(-1)).exp().mean()
        usable = counts.sum(-1).clamp_max(counts.shape[-1])
        usage = ((counts > 0).sum(-1) / usable).mean()
        return {"perplexity": float(perplexity), "code_usage": float(usage), "bits": self._bits}

    def metrics(self) -> dict[str, float]:
        assert self._low is not None and self._high is not None
        terms = torch.stack(self._terms).cpu().double()
        weights = torch.tensor(self._counts, dtype=torch.float64)
        result = dict(zip(self._names, (weights @ terms / weights.sum()).tolist(), strict=True))
        sse = _mean(self._sse)
        result |= {"mse": sse / self._values, "sse": sse}
        if self._clipped:
            result |= psnrs("psnr", self._clipped, self._values)
        if self._input:
            result |= psnrs("input_psnr", self._input, self._values)
        still = self._high - self._low <= 1e-6 * self._high.abs().clamp_min(1e-6)
        result |= {"active_units": _mean(self._active), "dead_units": float(still.cpu().double().mean())}
        result |= self._codebook_use()
        # A single image, or identical images, have no spread to compare with.
        return result | {"output_spread": self._spread.total() / self._target_spread} if self._target_spread else result


class _Spread:
    """The variance over images of each value, summed over values, from shifted sums."""

    def __init__(self) -> None:
        self._shift: Tensor | None = None
        self._count = 0
        self._sums: list[Tensor] = []
        self._squares: list[Tensor] = []

    def add(self, batch: Tensor) -> None:
        rows = batch.flatten(1)
        if self._shift is None:
            self._shift = rows.mean(0)
        rows = rows - self._shift
        self._count += len(rows)
        self._sums.append(rows.sum(0))
        self._squares.append(rows.square_().sum(0))

    def total(self) -> float:
        mean, square = (_total(sums) / self._count for sums in (self._sums, self._squares))
        return float((square - mean.square()).clamp_min(0).sum())


def _total(parts: list[Tensor]) -> Tensor:
    return torch.stack(parts).cpu().double().sum(0)


def _mean(parts: list[Tensor]) -> float:
    return float(torch.cat(parts).cpu().double().mean())
