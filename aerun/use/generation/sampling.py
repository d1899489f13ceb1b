"""New codes: from the prior of a Gaussian latent, or from a Gaussian mixture fitted to codes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from aerun.base.seeding import Randomness
from aerun.core.mixture import COMPONENT_COUNTS, fit_mixture, nearest_valid_codes
from aerun.errors import ConfigError
from aerun.use.opened_run import OpenedRun

Source = Literal["prior", "mixture"]
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
    """New codes [N,*code_shape] from the prior or from a mixture fitted to the codes of ``images``.

    The default is the prior if the latent has one, otherwise the mixture. Codes of the mixture are made valid
    (``nearest_valid_codes``). ConfigError for the prior of a model that has none.
    """
    source = source or ("prior" if run.has_prior else "mixture")
    shape = run.autoencoder.code_shape
    if source == "prior":
        if not run.has_prior:
            raise ConfigError(f"{run.folder}: its latent has no prior; use the mixture")
        generator = Randomness(seed, torch.device("cpu")).at("samples", 0)  # seed 0: as in the run's own figure
        # A multiple of 16 rows: torch fills small and ragged tensors in another way, and more samples would not begin
        # with the same ones.
        rows = -(-count // RANDN_ROW_MULTIPLE) * RANDN_ROW_MULTIPLE
        samples = run.autoencoder.latent.sample_prior((rows, *shape), generator)
        assert samples is not None  # it has a prior
        return samples[:count]
    if images is None:
        raise ConfigError("images: needed to fit a mixture to their codes")
    mixture = fit_mixture(run.encode(images), components, seed)
    kind = f"{mixture.fitted.covariance_type} covariances"
    log.info("mixture of %d Gaussians with %s, fitted to %d codes", mixture.components, kind, len(images))
    return nearest_valid_codes(run.autoencoder, mixture.sample(count, seed).view(count, *shape))
