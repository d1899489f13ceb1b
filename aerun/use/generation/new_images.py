"""New images from a trained run: samples, interpolations, traversals, sums of codes.

All functions take a run (``opened_run.Run``) and images [N,C,H,W], uint8 or float in [0,1], as tensors, arrays or PIL
images (``OpenedRun.as_inputs``). They return floats in the data's units, not clamped; the same seed gives the same
images. New codes are made valid (``nearest_valid_codes``), except in traversals, where only their range is kept: a
k-sparse model would set most changed values to 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from aerun.core.interpolation import linear, spherical
from aerun.core.mixture import COMPONENT_COUNTS, clamp_to_range, nearest_valid_codes
from aerun.errors import ConfigError, DataError
from aerun.use.collection.quantized_codes import is_quantized
from aerun.use.generation.sampling import Source, default_source, needs_images, sample_codes
from aerun.use.inputs import images_or_test_sample, sample_training_images, training_indices
from aerun.use.maps.code_units import Units, measure_units
from aerun.use.opened_run import OpenedRun, Run, as_opened

if TYPE_CHECKING:
    from aerun.core.image_inputs import Images

DEFAULT_TRAINING_IMAGES = 5000  # whose codes a mixture is fitted to
MAX_INDEXED_IMAGES = 20_000  # to whose indices a prior is fitted


def samples(
    run: Run,
    count: int = 64,
    *,
    source: Source | None = None,
    images: Images | None = None,
    components: int | Sequence[int] = COMPONENT_COUNTS,
    seed: int = 0,
    label: int | None = None,
) -> Tensor:
    """``count`` new images [N,*output_shape].

    A conditional model makes images of the class ``label``, from the same codes of the prior for every label.
    ``images`` then have that label.

    ``source``: ``prior``, that of the latent, or for a quantized one a network that is fitted to the indices of
    ``images`` (default: 20,000 training images; minutes, once); ``frequencies``, indices independent of each other; or
    ``mixture``, for any model, Gaussians fitted to the codes of ``images`` (default: 5,000 training images). Default:
    the prior of a latent that has or can have one, otherwise the mixture. ConfigError for a source that the model does
    not have, DataError if training images are needed and missing.
    """
    run = as_opened(run, conditional=True)
    run = _given(run, label)
    inputs, indices = None if images is None else run.as_inputs(images), None
    source = source or default_source(run)
    if inputs is None and needs_images(run, source):
        if source == "mixture" or not is_quantized(run):
            inputs = sample_training_images(run, DEFAULT_TRAINING_IMAGES, label).images
        else:
            count_of_images = MAX_INDEXED_IMAGES if source == "prior" else DEFAULT_TRAINING_IMAGES
            indices = training_indices(run, count_of_images, label)
    codes = sample_codes(run, count, source=source, images=inputs, indices=indices, components=components, seed=seed)
    return run.decode(codes)


def interpolate(run: Run, first: Images, last: Images, steps: int = 12, *, is_spherical: bool = False) -> Tensor:
    """Images first[N,*shape] and last[N,*shape] -> [S,N,*output_shape].

    The ends are reconstructions; between them are ``steps - 2`` decoded codes, on the straight line or on the great
    circle (``interpolation.spherical``). DataError if there are more images at one end than at the other.
    """
    run = as_opened(run)
    ends = [run.encode(images) for images in (first, last)]
    if len(ends[0]) != len(ends[1]):
        raise DataError(f"first and last: {len(ends[0])} and {len(ends[1])} images; there must be as many at each end")
    path = (spherical if is_spherical else linear)(ends[0].flatten(1), ends[1].flatten(1), steps)
    codes = path.reshape(-1, *run.autoencoder.code_shape)
    count = len(ends[0])
    codes = torch.cat([ends[0], nearest_valid_codes(run.autoencoder, codes[count:-count]), ends[1]])
    return run.decode(codes).unflatten(0, (steps, count))


@dataclass(frozen=True)
class Traversal:
    """``images`` [R,S,*output_shape]: in row r, code value ``numbers[r]`` takes the ``values[r]`` [R,S]."""

    numbers: list[int]
    values: Tensor
    images: Tensor
    units: Units


def traverse(
    run: Run,
    images: Images | None = None,
    start: Images | None = None,
    *,
    rows: int = 10,
    steps: int = 11,
    deviations: float = 3.0,
) -> Traversal:
    """Change one code value at a time, from ``deviations`` below to ``deviations`` above its mean over the images.

    ``images`` [N,*shape], default 2,000 test images. The other values stay as in the code of the image ``start``
    [1,*shape], or at their means. The ``rows`` most used values come first: by KL divergence for a Gaussian latent,
    whose deviations include the sampling, otherwise by variance.
    """
    run = as_opened(run)
    units = measure_units(run, images_or_test_sample(run, images))
    numbers = units.order[:rows]
    center = units.mean.float() if start is None else run.encode(_single(run, start, "start")).flatten()
    offsets = torch.linspace(-deviations, deviations, steps, dtype=torch.float64)
    values = clamp_to_range(
        run.autoencoder, (units.mean[numbers, None] + offsets * units.deviation[numbers, None]).float()
    )
    codes = center.expand(len(numbers), steps, -1).clone()
    for row, number in enumerate(numbers):
        codes[row, :, number] = values[row]
    decoded = run.decode(codes.reshape(-1, *run.autoencoder.code_shape))
    return Traversal(numbers, values, decoded.unflatten(0, (len(numbers), steps)), units)


def arithmetic(run: Run, terms: Sequence[tuple[int, Images]], steps: int = 1) -> Tensor:
    """The decoded sum of codes: terms (1 or -1, image [1,*shape]) -> [S,*output_shape].

    With ``steps`` > 1, the straight line from the first term's code to the sum, which comes last.
    """
    run = as_opened(run)
    if not terms:
        raise ConfigError("terms: a sum needs at least one image")
    codes = torch.cat([run.encode(_single(run, image, "terms")) for _, image in terms])
    signs = torch.tensor([float(sign) for sign, _ in terms]).view(-1, *[1] * (codes.dim() - 1))
    total = (signs * codes).sum(0, keepdim=True)
    path = linear(codes[:1].flatten(1), total.flatten(1), steps) if steps > 1 else total.flatten(1).unsqueeze(0)
    return run.decode(nearest_valid_codes(run.autoencoder, path.reshape(-1, *run.autoencoder.code_shape)))


def _given(run: OpenedRun, label: int | None) -> OpenedRun:
    """The run with that label. ConfigError for a conditional model without a label, and for another model with one."""
    if label is None and run.classes is not None:
        raise ConfigError(f"label: {run.folder} is conditional; name a label, 0 to {run.classes - 1}")
    if label is not None and run.classes is None:
        raise ConfigError(f"label={label}: {run.folder} is not conditional (model.condition=none)")
    return run if label is None else run.given(label)


def _single(run: OpenedRun, image: Images, name: str) -> Tensor:
    """One image as the run's input [1,*shape]. DataError for more or fewer."""
    inputs = run.as_inputs(image)
    if len(inputs) != 1:
        raise DataError(f"{name}: {len(inputs)} images where one is expected, images[:1]")
    return inputs
