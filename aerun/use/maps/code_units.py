"""Single values of the code: how much each is used, what it does, and which images excite it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from aerun.core.features import features
from aerun.latent import divergences
from aerun.protocol.likelihood import ACTIVE_VARIANCE
from aerun.use.opened_run import OpenedRun


@dataclass(frozen=True)
class Units:
    """Of each value of the flat code [D]: ``mean`` and ``deviation``, by which ``order`` the largest come first.

    Of a Gaussian latent ``kl`` is the mean KL divergence of each dimension from the prior, in nats, by which they are
    ordered, and ``spread`` the variance of the posterior mean; ``mean`` and ``deviation`` are of codes as they are
    drawn. Others are ordered by deviation.
    """

    mean: Tensor
    deviation: Tensor
    spread: Tensor
    kl: Tensor | None = None

    @property
    def order(self) -> list[int]:
        """Numbers of all units, those that are used most first."""
        return (self.deviation if self.kl is None else self.kl).argsort(descending=True, stable=True).tolist()

    @property
    def active(self) -> Tensor:
        """Which [D] dimensions count as active: a variance of the posterior mean over images above 0.01 (Burda, Grosse
        & Salakhutdinov 2016, arXiv:1509.00519, section 5.2)."""
        return self.spread > ACTIVE_VARIANCE


def measure_units(run: OpenedRun, images: Tensor) -> Units:
    """The statistics of each value of the code over images[N,*shape]."""
    if not run.is_gaussian:
        codes = run.encode(images).flatten(1).double()
        mean_variance = codes.var(0, correction=0)
        return Units(codes.mean(0), mean_variance.sqrt(), mean_variance)
    means, log_variances = (values.flatten(1).double() for values in run.posterior(images))
    mean_variance = means.var(0, correction=0)
    deviation = (mean_variance + log_variances.exp().mean(0)).sqrt()
    return Units(means.mean(0), deviation, mean_variance, divergences(means, log_variances).mean(0))


@dataclass(frozen=True)
class Dictionary:
    """Code units by use, the most used first: their numbers, what each adds to an image [U,C,H,W], how much it is used
    [U], and the numbers of the images that excite each most [U,K], with the values [U,K] that they give it."""

    numbers: list[int]
    features: Tensor
    use: Tensor
    images: Tensor
    values: Tensor


def find_dictionary(run: OpenedRun, images: Tensor, most: int = 24, top: int = 8) -> Dictionary:
    """The ``most`` used code units over images[N,*shape], and the ``top`` images that excite each most. Units that are
    not used at all are left out (if any is used).

    A unit of a feature map is a channel, excited by its largest position. Where the decoder is one linear layer, what a
    unit adds is that layer's column, and its use the mean absolute value times the column's length; else it is what the
    decoder makes of the unit alone, at its mean value where it is not 0 (in a map: at the middle), less what it makes
    of an empty code.
    """
    codes = run.encode(images)
    by_unit = codes.flatten(2) if codes.dim() > 2 else codes.unsqueeze(2)
    sizes = by_unit.abs().mean((0, 2))
    found = {name: (weights, use) for name, weights, use in features(run.autoencoder, codes)}
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
    alone = torch.zeros(len(heights), *shape)
    middle = tuple(size // 2 for size in shape[1:])
    for number, height in enumerate(heights):
        alone[(number, number, *middle)] = height
    return run.decode(alone) - run.decode(torch.zeros(1, *shape))
