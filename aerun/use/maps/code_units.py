"""Single values of the code: how much each is used, what it adds to an image, and which images excite it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from aerun.core.features import find_features
from aerun.latent import kl_divergences
from aerun.protocol.likelihood import ACTIVE_VARIANCE
from aerun.use.opened_run import OpenedRun


@dataclass(frozen=True)
class Units:
    """Statistics [D] of each value of the flat code over images.

    ``mean`` and ``deviation``: of the codes, including sampling for a Gaussian latent; ``mean_variance``: variance of
    the codes without sampling; ``kl``: for a Gaussian latent, the mean KL divergence from the prior in nats.
    """

    mean: Tensor
    deviation: Tensor
    mean_variance: Tensor
    kl: Tensor | None = None

    @property
    def order(self) -> list[int]:
        """All units, most used first: by KL divergence for a Gaussian latent, otherwise by deviation."""
        return (self.deviation if self.kl is None else self.kl).argsort(descending=True, stable=True).tolist()

    @property
    def active(self) -> Tensor:
        """Which units [D] are active: the posterior mean's variance over images is above 0.01.

        Burda, Grosse & Salakhutdinov 2016, "Importance weighted autoencoders" (arXiv:1509.00519), section 5.2.
        """
        return self.mean_variance > ACTIVE_VARIANCE


def measure_units(run: OpenedRun, images: Tensor) -> Units:
    """The statistics of each code value over images[N,*shape]."""
    if not run.is_gaussian:
        codes = run.encode(images).flatten(1).double()
        variance = codes.var(0, correction=0)
        return Units(codes.mean(0), variance.sqrt(), variance)
    means, log_variances = (values.flatten(1).double() for values in run.posterior(images))
    variance = means.var(0, correction=0)
    deviation = (variance + log_variances.exp().mean(0)).sqrt()
    return Units(means.mean(0), deviation, variance, kl_divergences(means, log_variances).mean(0))


@dataclass(frozen=True)
class Dictionary:
    """U code units, most used first.

    ``numbers``: which units; ``features`` [U,C,H,W]: what each adds to an image; ``use`` [U]; ``images`` [U,K]:
    numbers of the images that excite each most; ``values`` [U,K]: their code values.
    """

    numbers: list[int]
    features: Tensor
    use: Tensor
    images: Tensor
    values: Tensor


def find_dictionary(run: OpenedRun, images: Tensor, most: int = 24, top: int = 8) -> Dictionary:
    """The ``most`` used units over images[N,*shape], each with the ``top`` images that excite it most.

    Unused units are left out, unless all are unused. A unit of a feature map is a channel, excited by its largest
    position. If the decoder is one linear layer, a unit's feature is the layer's column, and its use the mean absolute
    value times the column's length. Otherwise the feature is the decoded unit alone, at its mean nonzero value (in a
    map: in the middle), minus the decoded empty code.
    """
    codes = run.encode(images)
    by_unit = codes.flatten(2) if codes.dim() > 2 else codes.unsqueeze(2)
    sizes = by_unit.abs().mean((0, 2))
    found = {name: (weights, use) for name, weights, use in find_features(run.autoencoder, codes)}
    weights, use = found.get("dictionary", (None, None))
    if weights is None or use is None or codes.dim() > 2 or len(weights) != codes.shape[1]:
        heights = sizes / (by_unit != 0).float().mean((0, 2)).clamp_min(1e-12)
        weights = unit_effects(run, heights)
        use = sizes * weights.flatten(1).norm(dim=1) / heights.clamp_min(1e-12)
    use = use.cpu()
    numbers = use.argsort(descending=True, stable=True)[: min(most, int((use > 0).sum()) or most)]
    values, rows = by_unit.amax(2).topk(min(top, len(images)), dim=0)
    return Dictionary(
        numbers.tolist(), weights.detach().cpu()[numbers], use[numbers], rows.T[numbers], values.T[numbers]
    )


def unit_effects(run: OpenedRun, heights: Tensor) -> Tensor:
    """What each unit alone, at heights[U], adds to the decoded empty code: [U,*output_shape]."""
    shape = run.autoencoder.code_shape
    single = torch.zeros(len(heights), *shape)
    middle = tuple(size // 2 for size in shape[1:])
    for number, height in enumerate(heights):
        single[(number, number, *middle)] = height
    return run.decode(single) - run.decode(torch.zeros(1, *shape))
