"""New images from a trained run: samples, ways between images, single code values turned, sums of images.

All take an opened run or its folder, and images [N,C,H,W], uint8 or float in [0,1]; what they return is float, in the
data's units and not clamped. They are the same for the same seed. Codes that are made up are brought to such as the
model has (``sampling.like_codes``); of traversals only the range is kept, or a k-sparse model would show nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aerun.core.interpolation import linear, spherical
from aerun.errors import ConfigError, DataError
from aerun.use.generation.sampling import COMPONENT_COUNTS, Source, clamp_to_range, nearest_valid_codes, sample_codes
from aerun.use.inputs import images_or_test_sample, sample_training_images
from aerun.use.maps.code_units import Units, measure_units
from aerun.use.opened_run import OpenedRun, Run, as_opened

DEFAULT_TRAINING_IMAGES = 5000  # training images to whose codes a mixture is fitted


def samples(
    run: Run,
    count: int = 64,
    *,
    source: Source | None = None,
    images: Tensor | None = None,
    components: int | Sequence[int] = COMPONENT_COUNTS,
    seed: int = 0,
) -> Tensor:
    """``count`` new images [N,*output_shape].

    ``source``: ``prior``, the standard normal of a Gaussian latent and what is taken there, or ``mixture``, Gaussians
    fitted to the codes of ``images`` (of 5,000 training images, if they are not given), which any model can be sampled
    by. ConfigError for the prior of a model without one, DataError if the training images are needed and not there.
    """
    run = as_opened(run)
    if images is None and (source or ("prior" if run.is_gaussian else "mixture")) == "mixture":
        images = sample_training_images(run, DEFAULT_TRAINING_IMAGES).images
    return run.decode(sample_codes(run, count, source=source, images=images, components=components, seed=seed))


def interpolate(run: Run, first: Tensor, last: Tensor, steps: int = 12, *, is_spherical: bool = False) -> Tensor:
    """Images first[N,*shape] and last[N,*shape] -> [S,N,*output_shape]: their codes' reconstructions at the ends, and
    between them ``steps - 2`` decoded codes on the straight line, or on the great circle (``interpolation.spherical``).
    """
    run = as_opened(run)
    ends = [run.encode(images) for images in (first, last)]
    way = (spherical if is_spherical else linear)(ends[0].flatten(1), ends[1].flatten(1), steps)
    codes = way.reshape(-1, *run.autoencoder.code_shape)
    count = len(first)
    codes = torch.cat([ends[0], nearest_valid_codes(run, codes[count:-count]), ends[1]])
    return run.decode(codes).unflatten(0, (steps, count))


@dataclass(frozen=True)
class Traversal:
    """Rows of images [R,S,*output_shape]: of row r code value ``numbers[r]`` takes the values[R,S], all others stay."""

    numbers: list[int]
    values: Tensor
    images: Tensor
    units: Units


def traverse(
    run: Run,
    images: Tensor | None = None,
    start: Tensor | None = None,
    *,
    rows: int = 10,
    steps: int = 11,
    deviations: float = 3.0,
) -> Traversal:
    """One code value at a time, from ``deviations`` below its mean to as many above, both over images[N,*shape]
    (2,000 of the run's test images, if they are not given).

    The others stay as in the code of the image ``start`` [1,*shape], or at their means. The ``rows`` that are used most
    come first: by KL divergence for a Gaussian latent, whose deviations include the draws, else by variance.
    """
    run = as_opened(run)
    found = measure_units(run, images_or_test_sample(run, images))
    numbers = found.order[:rows]
    centre = found.mean.float() if start is None else run.encode(start).flatten()
    ways = torch.linspace(-deviations, deviations, steps, dtype=torch.float64)
    values = clamp_to_range(run, (found.mean[numbers, None] + ways * found.deviation[numbers, None]).float())
    codes = centre.expand(len(numbers), steps, -1).clone()
    for row, number in enumerate(numbers):
        codes[row, :, number] = values[row]
    decoded = run.decode(codes.reshape(-1, *run.autoencoder.code_shape))
    return Traversal(numbers, values, decoded.unflatten(0, (len(numbers), steps)), found)


def arithmetic(run: Run, terms: Sequence[tuple[int, Tensor]], steps: int = 1) -> Tensor:
    """The decoded sum of codes: terms (1 or -1, image [1,*shape]) -> [S,*output_shape].

    With ``steps`` the straight way from the first term's code to the sum, of which the sum is the last.
    """
    run = as_opened(run)
    if not terms:
        raise ConfigError("a sum needs an image at least")
    codes = run.encode(torch.cat([image for _, image in terms]))
    signs = torch.tensor([float(sign) for sign, _ in terms]).view(-1, *[1] * (codes.dim() - 1))
    total = (signs * codes).sum(0, keepdim=True)
    way = linear(codes[:1].flatten(1), total.flatten(1), steps) if steps > 1 else total.flatten(1).unsqueeze(0)
    return run.decode(nearest_valid_codes(run, way.reshape(-1, *run.autoencoder.code_shape)))


def require_images(run: OpenedRun) -> None:
    """DataError for a run whose outputs cannot be shown."""
    if not run.is_image:
        shape = "x".join(map(str, run.autoencoder.output_shape))
        raise DataError(f"{run.folder}: makes outputs of shape {shape}, which are no grey or colour images")
