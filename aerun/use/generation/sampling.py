"""New codes: from the prior of a latent, from one fitted to the indices of a quantized latent, from their frequencies,
or from a Gaussian mixture fitted to codes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from aerun.base.seeding import Randomness
from aerun.core.codebooks import sample_frequencies
from aerun.core.index_prior import can_have_index_prior, fit_index_prior
from aerun.core.mixture import COMPONENT_COUNTS, fit_mixture, nearest_valid_codes
from aerun.errors import ConfigError
from aerun.use.collection.quantized_codes import is_quantized
from aerun.use.opened_run import OpenedRun

Source = Literal["prior", "mixture", "frequencies"]
RANDN_ROW_MULTIPLE = 16
log = logging.getLogger(__name__)


def sample_codes(
    run: OpenedRun,
    count: int,
    *,
    source: Source | None = None,
    images: Tensor | None = None,
    indices: Tensor | None = None,
    components: int | Sequence[int] = COMPONENT_COUNTS,
    seed: int = 0,
) -> Tensor:
    """New codes [N,*code_shape] from a ``source``, default ``default_source``, fitted to ``images`` if it has to be.

    ``prior``: that of the latent, or of a quantized latent one that is fitted to the indices (``core.index_prior``;
    the fit does not depend on the seed, and is kept); ``frequencies``: indices independent of each other. Both take the
    ``indices`` [M,S,G,L] of the images, if given, in place of the images. ``mixture``: Gaussians, whose codes are made
    valid (``nearest_valid_codes``). ConfigError for a source that the model does not have.
    """
    source = source or default_source(run)
    autoencoder, shape = run.autoencoder, run.autoencoder.code_shape
    if source == "prior" and run.has_prior:
        generator = Randomness(seed, torch.device("cpu")).at("samples", 0)  # seed 0: as in the run's own figure
        # A multiple of 16 rows: torch fills small and ragged tensors in another way, and more samples would not begin
        # with the same ones.
        rows = -(-count // RANDN_ROW_MULTIPLE) * RANDN_ROW_MULTIPLE
        samples = autoencoder.latent.sample_prior((rows, *shape), generator)
        assert samples is not None  # it has a prior
        return samples[:count]
    if source != "mixture" and not is_quantized(run):
        lacks = "its latent has no prior" if source == "prior" else "it is not quantized and has no indices"
        raise ConfigError(f"{run.folder}: {lacks}; use the {default_source(run)}")
    if images is None and (indices is None or source == "mixture"):
        raise ConfigError(f"images: needed for the {source} of their codes")
    if source == "mixture":
        assert images is not None
        mixture = fit_mixture(run.encode(images), components, seed)
        kind = f"{mixture.fitted.covariance_type} covariances"
        log.info("mixture of %d Gaussians with %s, fitted to %d codes", mixture.components, kind, len(images))
        return nearest_valid_codes(autoencoder, mixture.sample(count, seed).view(count, *shape))
    if indices is None:
        assert images is not None
        indices = run.indices(images)
    if source == "prior":
        drawn = fit_index_prior(indices, autoencoder.latent, shape).sample(count, seed)
    else:
        drawn = sample_frequencies(indices.cpu(), count, seed)
    with torch.no_grad():
        return autoencoder.latent.from_indices(drawn.to(autoencoder.device)).to(autoencoder.dtype).cpu()


def needs_images(run: OpenedRun, source: Source | None) -> bool:
    """Whether the source is fitted to images."""
    return (source or default_source(run)) != "prior" or not run.has_prior


def default_source(run: OpenedRun) -> Source:
    """The prior if the latent has one or its indices can have one, the frequencies of longer indices, otherwise the
    mixture."""
    if run.has_prior or can_have_index_prior(run.autoencoder.latent, run.autoencoder.code_shape):
        return "prior"
    return "frequencies" if is_quantized(run) else "mixture"
