"""Baselines to compare an autoencoder's error with: the exact linear solutions on the same data.

The mean image is the best constant, principal components are the best linear autoencoder of a code size, and the linear
minimum-mean-square-error filter is the best linear (affine) denoiser for a corruption. All are fitted on the training
part in float64 and measured on the test part. The solutions are in closed form, except for the filter of a corruption
without known moments (``linear_regression``). For images binarized in every minibatch they are fitted to one sample.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aerun.base.files import write_text
from aerun.base.seeding import Randomness
from aerun.contracts import Noise
from aerun.dataset.binarize import binarize_all
from aerun.dataset.data import CHUNK, Data, Split, as_float, in_unit_range
from aerun.dataset.paths import data_root
from aerun.dataset.rows import Rows
from aerun.errors import StorageError
from aerun.metrics.evaluation import EVALUATION_SEED, corrupted_batches, psnrs, squared_errors
from aerun.noise import Moments

MAX_EXACT_VALUES = 4096  # values per image up to which covariance matrices are decomposed
MAX_FULL_VALUES = 1024  # values per image up to which computing all components is no slower than importing scipy
REGRESSION_ROWS = 100_000  # approximate number of corrupted images in the regression for a corruption without moments
MAX_ITERATED_COMPONENTS = 256  # computed by subspace iteration for larger images
TOLERANCE, MAX_PASSES = 1e-13, 60  # relative change of the components' variance at convergence; passes over the images
PASS_CHUNK = 512  # images


def baselines(data: Data, noise: Any, code_size: int, cache: Path | None = None) -> dict[str, float]:
    """Return test errors by name.

    - ``mean_image``; ``pca``: ``code_size`` components of clean images; ``linear``: the best linear map from the input
      to the target, unless they are equal.
    - Each has ``.../mse`` per value, ``.../sse`` per image and, for targets in [0,1], ``.../psnr`` and
      ``.../psnr_pooled`` (see ``evaluation.evaluate``). Only PSNR clips. Baselines that would take too long are left
      out.
    - The linear filter is exact if the corruption has ``moments``. Otherwise it is a regression on corrupted training
      images, for images of at most MAX_FULL_VALUES values; ``linear/draws`` is the number of corrupted copies of each.

    Results are cached in the folder ``cache``, keyed by the data's checksum and everything else that they depend on.
    """
    noise = noise.for_evaluation()
    key = f"{data.checksum}/{len(data.train)}/{_rows_digest(data.train)}/{noise!r}/{code_size}/3"
    key += "/binarise" if data.train.binarise else ""
    key += "" if _is_exact(noise) else f"/{REGRESSION_ROWS}"
    # The repr of a user's class may contain a memory address: then there is no stable key.
    known = cache is not None and " at 0x" not in key
    stored = cache / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json" if cache and known else None
    if stored is not None and stored.is_file():
        try:
            return {str(name): float(value) for name, value in json.loads(stored.read_text()).items()}
        except (ValueError, AttributeError, TypeError):
            stored.unlink()
    train, test = _to_host(data.train), _to_host(data.test)
    result = _compute(train, test, data.same, noise, code_size)
    if stored is not None:
        with contextlib.suppress(OSError, StorageError):  # only time is lost
            stored.parent.mkdir(parents=True, exist_ok=True)
            write_text(stored, json.dumps(result))
    return result


def cache_folder() -> Path:
    """Return the folder of cached baselines, below $AERUN_DATA or ~/.cache/aerun."""
    return data_root() / "baselines"


def _compute(train: Split, test: Split, same: bool, noise: Any, code_size: int) -> dict[str, float]:
    mean = mean_of(train.targets)
    result = _scores("mean_image", test, [mean.expand(len(chunk), -1) for chunk in test.targets.split(CHUNK)])
    if same:
        components = principal_components(train.targets, mean, code_size)
        if components is not None:
            projections = (
                (rows - mean) @ components @ components.T + mean for rows in map(as_rows, test.targets.split(CHUNK))
            )
            result |= _scores("pca", test, projections)
    values = math.prod(train.inputs.shape[1:])
    exact = _is_exact(noise)
    if (values <= MAX_EXACT_VALUES if exact else values <= MAX_FULL_VALUES) and not (noise.is_identity and same):
        if not exact:
            result["linear/draws"] = draws = max(1, round(REGRESSION_ROWS / len(train)))
        weight, offset = linear_filter(train, noise) if exact else linear_regression(train, noise, draws)
        corrupted = (as_rows(noisy) @ weight + offset for _, noisy, _ in corrupted_batches(test, noise))
        result |= _scores("linear", test, corrupted)
    return result


def _is_exact(noise: Noise) -> bool:
    """Whether the expectation over the corruption, and so the best linear filter, is known exactly."""
    return noise.is_identity or noise.moments(1) is not None


def principal_components(images: Tensor | Rows, mean: Tensor, count: int) -> Tensor | None:
    """images[N,...], their mean[P] -> orthonormal columns [P, count], the leading ones first.

    The covariance matrix of up to MAX_EXACT_VALUES values, or the Gram matrix of as many images, is decomposed. For
    larger data up to MAX_ITERATED_COMPONENTS components are iterated to convergence. None if that is too expensive.
    """
    values = math.prod(images.shape[1:])
    count = min(count, values)
    if values <= MAX_EXACT_VALUES and (values <= MAX_FULL_VALUES or len(images) >= values):
        covariance = torch.zeros(values, values, dtype=torch.float64)
        for chunk in images.split(CHUNK):
            rows = as_rows(chunk) - mean
            covariance += rows.T @ rows
        if values <= MAX_FULL_VALUES:
            return torch.linalg.eigh(covariance).eigenvectors.flip(1)[:, :count]
        from scipy.linalg import eigh

        # Only the leading vectors: all of them would take much longer.
        leading = eigh(covariance.numpy(), subset_by_index=[values - count, values - 1], overwrite_a=True)[1]
        return torch.from_numpy(leading[:, ::-1].copy())
    if len(images) <= MAX_EXACT_VALUES:
        centered = torch.cat([as_rows(chunk) - mean for chunk in images.split(CHUNK)])
        squares, vectors = torch.linalg.eigh(centered @ centered.T)
        kept = squares.flip(0)[:count] > 1e-10 * squares[-1]
        return (centered.T @ vectors.flip(1)[:, :count][:, kept]) / squares.flip(0)[:count][kept].sqrt()
    if count > MAX_ITERATED_COMPONENTS or count >= min(len(images), values):
        return None
    return _iterate(images, mean, count)


def _iterate(images: Tensor | Rows, mean: Tensor, count: int) -> Tensor:
    """Subspace iteration with the covariance, on a block of more than 2 * count columns, until the variance converges.

    With every pass over the images the error falls by the ratio of the variances at the end of the block and at
    ``count``.
    """
    width = min(2 * count + 10, len(images), len(mean))
    block = torch.randn(len(mean), width, generator=torch.Generator().manual_seed(0)).double()
    found = torch.zeros(())
    for _ in range(MAX_PASSES):
        block = torch.linalg.qr(block)[0]
        product = torch.zeros_like(block)
        for chunk in images.split(PASS_CHUNK):
            rows = as_rows(chunk) - mean
            product += rows.T @ (rows @ block)
        turn, variances, _ = torch.linalg.svd(block.T @ product)
        before, found = found, variances[:count].sum()
        turned = block @ turn[:, :count]
        if (found - before).abs() <= TOLERANCE * found:
            break
        block = product
    return turned


def linear_filter(train: Split, noise: Any) -> tuple[Tensor, Tensor]:
    """Return the matrix W[P,Q] and offset[Q] that minimize E |target - (x~ W + offset)|^2 over images and corruption.

    W = Cov(x~)^-1 Cov(x~, target); the expectation over the corruption is exact, computed from its moments.
    """
    shape = tuple(train.inputs.shape[1:])
    channels = shape[0] if len(shape) == 3 else 1
    values, positions = math.prod(shape), math.prod(shape) // channels
    moments = _identity_moments() if noise.is_identity else noise.moments(positions)
    target_mean = mean_of(train.targets)
    second = torch.zeros(values, values, dtype=torch.float64)
    within = torch.zeros(channels, channels, positions, dtype=torch.float64)
    first = torch.zeros(values, dtype=torch.float64)
    cross = torch.zeros(values, len(target_mean), dtype=torch.float64)
    shift = moments.shift
    for inputs, targets in zip(train.inputs.split(CHUNK), train.targets.split(CHUNK), strict=True):
        clean = as_rows(inputs)
        expected = moments.mean(clean) - shift
        first += expected.sum(0)
        second += expected.T @ expected
        cross += expected.T @ (as_rows(targets) - target_mean)
        planes = clean.view(-1, channels, positions)
        shifted = expected.view(-1, channels, positions)
        for a in range(channels):
            for b in range(channels):
                product = moments.pixel(planes[:, a], planes[:, b], a == b)
                within[a, b] += (product - shift * (shifted[:, a] + shifted[:, b]) - shift**2).sum(0)
    count = len(train)
    first, cross = first / count, cross / count
    second *= moments.pair / count
    blocks = second.view(channels, positions, channels, positions)
    diagonal = torch.arange(positions)
    for a in range(channels):
        for b in range(channels):
            blocks[a, diagonal, b, diagonal] = within[a, b] / count
    covariance = second - first.outer(first)
    weight = torch.linalg.pinv(covariance, rtol=1e-10, hermitian=True) @ cross
    return weight, target_mean - (first + shift) @ weight


def linear_regression(train: Split, noise: Any, draws: int) -> tuple[Tensor, Tensor]:
    """Like ``linear_filter``, by least squares on ``draws`` corrupted copies of every image instead of the expectation.

    The relative excess error on new images is about the number of values divided by that of corrupted images.
    """
    random = Randomness(EVALUATION_SEED, train.inputs.device)
    pairs = (
        (i, *pair) for i, pair in enumerate(zip(train.inputs.split(CHUNK), train.targets.split(CHUNK), strict=True))
    )
    values = math.prod(train.inputs.shape[1:])
    first, target_mean = torch.zeros(values, dtype=torch.float64), mean_of(train.targets)
    second = torch.zeros(values, values, dtype=torch.float64)
    cross = torch.zeros(values, len(target_mean), dtype=torch.float64)
    for index, inputs, targets in pairs:
        wanted = as_rows(targets) - target_mean
        for draw in range(draws):
            rows = as_rows(noise(as_float(inputs), random.at(f"linear-filter-{draw}", index)))
            first += rows.sum(0)
            second += rows.T @ rows
            cross += rows.T @ wanted
    count = len(train) * draws
    first, second, cross = first / count, second / count, cross / count
    weight = torch.linalg.pinv(second - first.outer(first), rtol=1e-10, hermitian=True) @ cross
    return weight, target_mean - first @ weight


def _identity_moments() -> Moments:
    return Moments(mean=lambda x: x, pixel=lambda x, y, same: x * y)


def _scores(name: str, test: Split, rows: Any) -> dict[str, float]:
    """Return the mean errors of predictions, given as rows[B,Q] chunk by chunk in the order of the test part."""
    errors, clipped, start = [], [], 0
    for predicted in rows:
        targets = as_rows(test.targets[start : start + len(predicted)])
        start += len(predicted)
        errors.append(squared_errors(predicted, targets))
        clipped.append(squared_errors(predicted.clamp(0, 1), targets))
    sse, values = float(torch.cat(errors).mean()), math.prod(test.targets.shape[1:])
    result = {f"{name}/mse": sse / values, f"{name}/sse": sse}
    if test.targets.dtype == torch.uint8 or in_unit_range(test.targets):
        result |= {f"{name}/{key}": value for key, value in psnrs("psnr", clipped, values).items()}
    return result


def as_rows(images: Tensor) -> Tensor:
    """images[B,...] as stored -> float64 rows [B,P]."""
    return as_float(images).flatten(1).double()


def mean_of(images: Tensor | Rows) -> Tensor:
    """images[N,...] as stored -> their mean [P], float64."""
    # Accumulate in place: small results between large temporaries would fragment memory.
    total = torch.zeros(math.prod(images.shape[1:]), dtype=torch.float64)
    for chunk in images.split(CHUNK):
        total += as_rows(chunk).sum(0)
    return total / len(images)


def _to_host(split: Split) -> Split:
    inputs = binarize_all(split.inputs.cpu(), EVALUATION_SEED) if split.binarise else split.inputs.cpu()
    return Split(inputs, inputs if split.targets is split.inputs else split.targets.cpu(), None)


def _rows_digest(split: Split) -> str:
    """Return a digest that differs between different selections of training images from the same data set."""
    digest = hashlib.sha256()
    for chunk in split.inputs.split(CHUNK):
        digest.update(chunk.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
