"""New codes: from the prior of a Gaussian latent, from a Gaussian mixture fitted to codes, or from the frequencies of
the indices of a quantized latent."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from aerun.base.seeding import Randomness
from aerun.core.mixture import COMPONENT_COUNTS, fit_mixture, nearest_valid_codes
from aerun.errors import ConfigError
from aerun.use.collection.quantized_codes import QuantizedCodes, is_quantized, quantized_codes
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
    components: int | Sequence[int] = COMPONENT_COUNTS,
    seed: int = 0,
) -> Tensor:
    """New codes [N,*code_shape] from the prior, a mixture fitted to the codes of ``images``, or their frequencies.

    The default is ``default_source``. Codes of the mixture are made valid (``nearest_valid_codes``). ConfigError for a
    source that the model does not have.
    """
    source = source or default_source(run)
    shape = run.autoencoder.code_shape
    if source == "prior":
        if not run.has_prior:
            raise ConfigError(f"{run.folder}: its latent has no prior; use the {default_source(run)}")
        generator = Randomness(seed, torch.device("cpu")).at("samples", 0)  # seed 0: as in the run's own figure
        # A multiple of 16 rows: torch fills small and ragged tensors in another way, and more samples would not begin
        # with the same ones.
        rows = -(-count // RANDN_ROW_MULTIPLE) * RANDN_ROW_MULTIPLE
        samples = run.autoencoder.latent.sample_prior((rows, *shape), generator)
        assert samples is not None  # it has a prior
        return samples[:count]
    if source == "frequencies" and not is_quantized(run):
        raise ConfigError(f"{run.folder}: it is not quantized and has no indices; use the {default_source(run)}")
    if images is None:
        raise ConfigError(f"images: needed for the {source} of their codes")
    if source == "frequencies":
        codes = sample_frequencies(quantized_codes(run, run.indices(images).flatten(1).numpy()), count, seed).codes()
        return torch.from_numpy(codes).view(count, *shape)
    mixture = fit_mixture(run.encode(images), components, seed)
    kind = f"{mixture.fitted.covariance_type} covariances"
    log.info("mixture of %d Gaussians with %s, fitted to %d codes", mixture.components, kind, len(images))
    return nearest_valid_codes(run.autoencoder, mixture.sample(count, seed).view(count, *shape))


def default_source(run: OpenedRun) -> Source:
    """The prior if the latent has one, the frequencies of a quantized latent, otherwise the mixture."""
    return "prior" if run.has_prior else "frequencies" if is_quantized(run) else "mixture"


def sample_frequencies(known: QuantizedCodes, count: int, seed: int = 0) -> QuantizedCodes:
    """``count`` codes whose indices are drawn independently of each other, each as often as it is in ``known`` at that
    place. More codes of the same seed begin with the same ones."""
    total, places = known.indices.shape
    rows = np.random.default_rng(seed).integers(0, total, (count, places))
    return replace(known, indices=known.indices[rows, np.arange(places)])
