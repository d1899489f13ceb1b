"""Learned entropy models: the code is rounded, and the loss has the bits that an entropy coder needs for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from aerun.contracts import Count, Latent, Metric, Positive, Shape, Size


@dataclass(frozen=True)
class _Entropy(Latent):
    """The keys of both: ``weights`` of the bits, one for each quality, and the ``quality``, from 1, of evaluation."""

    weights: list[Positive]
    quality: Count

    rowwise: ClassVar[bool] = True
    constrains_code: ClassVar[bool] = True
    metrics = (Metric("rate"), Metric("bits", "bits per image"))

    def __post_init__(self) -> None:
        if not self.weights:
            raise ValueError("weights=[]: must list at least one weight")
        if self.quality > len(self.weights):
            raise ValueError(f"quality={self.quality}: must be from 1 to {len(self.weights)}, the number of weights")


@dataclass(frozen=True)
class Factorized(_Entropy):
    """Rounded values y of the code, each coded by a learned distribution of its channel.

    Balle, Laparra & Simoncelli 2017, "End-to-end Optimized Image Compression" (arXiv:1611.01704): the bits are -log2 of
    P(y) = c(y + 1/2) - c(y - 1/2), where the cumulative distribution c of a channel is that of Balle et al. 2018
    (arXiv:1802.01436, appendix 6.1). In training noise of [-1/2,1/2) takes the place of rounding in the bits (equation
    10), and the decoder gets rounded values, whose gradient passes straight through (Minnen & Singh 2020,
    arXiv:2007.08739, section 3.3). ``rate`` is the mean over images of weight x bits x ln 2, in nats per image.

    One model has as many qualities as ``weights``: a quality has a factor for each channel before rounding and another
    after it, as in Cui et al. 2021, "Asymmetric Gained Deep Image Compression" (arXiv:2003.02012, section 3), and a
    distribution of its own. In training each image draws one, with a probability proportional to weight^(-1/2), so that
    none outweighs the others. Evaluation uses the one that ``quality`` names.
    """

    def build(self, code_shape: Shape) -> Any:
        from aerun.latent.entropy_models import FactorizedModel

        return FactorizedModel(code_shape, self.weights, self.quality)


@dataclass(frozen=True)
class Hyperprior(_Entropy):
    """Rounded values y of the code, each coded by a distribution that a coarser code and other values describe.

    Balle et al. 2018, "Variational Image Compression with a Scale Hyperprior" (arXiv:1802.01436), with means as in
    Minnen, Balle & Toderici 2018 (arXiv:1809.02736): a network maps asinh y to ``channels`` maps z of a quarter of the
    height and width, which are rounded and coded as by ``Factorized``, by the same distributions for all qualities;
    others map z to mean m and scale s of each value. y is coded as round(y - m) by P(k) = F((k + 1/2) / s) -
    F((k - 1/2) / s), and decoded as m + round(y - m). F is that of the Laplace distribution, not the papers' normal
    one: most coefficients of a picture are nearly zero and a few are large.

    m and s are relative to the mean and the mean deviation of each channel, which begin as those of the first
    minibatch, and describe values before they are scaled for a quality, so that all qualities learn together.

    Values are coded in three passes, whose networks see z and what passes before them decoded: the first ``context``
    channels on the white fields of a chessboard, then on the black ones (He et al. 2021, "Checkerboard Context Model",
    arXiv:2103.15306), then all other channels (Minnen & Singh 2020, section 3.2). In training z gets noise, but the
    bits of y, too, are those of rounded values: with noise, a value of 0.3, which is rounded to 0 and costs nothing,
    would cost nats. Qualities and ``rate`` are those of ``Factorized``. A vector counts as maps of one pixel.
    """

    channels: Size
    context: Size

    rowwise: ClassVar[bool] = False  # it begins with numbers of the whole minibatch

    def build(self, code_shape: Shape) -> Any:
        from aerun.latent.entropy_models import HyperpriorModel

        return HyperpriorModel(code_shape, self.weights, self.quality, self.channels, self.context)
