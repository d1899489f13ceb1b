"""Samples of the trained model compared with test images."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from aerun.contracts import Count, Evaluation, Seed
from aerun.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from aerun.core.autoencoder import Autoencoder
    from aerun.dataset.data import Data, Split
    from aerun.protocol.feature_extractor import Extract
    from aerun.protocol.subject import Subject

MIXTURE_IMAGES = 5000  # training images whose codes a mixture is fitted to
PRIOR_IMAGES = 20_000  # training images whose indices a prior is fitted to
Source = Literal["prior", "mixture", "frequencies"]
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Samples(Evaluation):
    """Distances between test images and as many samples, by the features of a classifier of the data's labels, of a
    pretrained network (EfficientNet-Lite0, ``aerun.core.pretrained_features``), or of Inception.

    ``sources``: where codes come from: ``prior``, that of the latent or, for a quantized one, a network fitted to the
    indices of training images (``aerun.core.index_prior``); ``mixture``, Gaussians fitted to their codes
    (``aerun.core.mixture``); or ``frequencies``, indices independent of each other. Null for the prior of a latent that
    has one, and otherwise the mixture. Numbers of the first have no suffix, those of another end in ``@mixture``, ....
    A fitted prior also reports ``prior_nats``, -log p of the indices of a test image, and for comparison
    ``independent_nats``, that of independent positions.

    Reports ``frechet_distance``, ``kernel_distance``, ``sample_precision``, ``sample_recall``, ``sample_density`` and
    ``sample_coverage`` (see ``aerun.protocol.sample_measures``), means over ``draws`` sets of samples, and the sample
    standard deviation ``frechet_deviation``. With ``@training`` they are those of training images, and with
    ``@validation`` of validation images, if there are enough: the ceiling; with ``@pca`` those of a Gaussian in the
    space of as many principal components as the code has values, the floor. All sets have the same size, so that the
    bias of the Frechet distance is the same.
    """

    features: Literal["classifier", "pretrained", "inception"]
    images: Count
    sources: list[Source] | None
    neighbors: Count
    draws: Count
    draw_seed: Seed

    def check_data(self, data: Data, autoencoder: Autoencoder) -> None:
        """ConfigError for data without labels or images that the features need, and for a prior that is missing."""
        from aerun.core.index_prior import order_of

        if self.features == "classifier" and (data.train.labels is None or data.test.labels is None):
            raise ConfigError("features=classifier: needs labels, which these data lack; use features=pretrained")
        is_image = len(data.output_shape) == 3 and data.output_shape[0] in (1, 3)
        if self.features != "classifier" and not is_image:
            raise ConfigError(f"features={self.features}: needs gray or color images; use features=classifier")
        for source in self.sources or []:
            if source == "frequencies" and autoencoder.latent.codebooks is None:
                raise ConfigError("sources=[frequencies]: this model's latent is not quantized; use [mixture]")
            if source == "prior" and not _has_prior(autoencoder):
                if autoencoder.latent.codebooks is None:
                    raise ConfigError("sources=[prior]: this model has no prior to sample from; use [mixture]")
                order_of(autoencoder.latent, autoencoder.code_shape)
        fitted = [source for source in self._sources(autoencoder) if source != "prior" or not _has_prior(autoencoder)]
        if autoencoder.condition is not None and fitted:
            raise ConfigError(
                f"sources=[{fitted[0]}]: codes of a conditional model depend on the label; use [prior], with a latent "
                "that has a prior"
            )
        if self.neighbors >= min(self.images, len(data.test), len(data.train)):
            raise ConfigError(f"neighbors={self.neighbors}: needs more test images")

    def __call__(self, subject: Subject) -> dict[str, float]:
        """Return the numbers by name."""
        from aerun.core.pretrained_features import pretrained_features
        from aerun.metrics.component_samples import component_samples
        from aerun.protocol.feature_extractor import classifier_features, inception_features

        data, autoencoder = subject.data, subject.autoencoder
        result: dict[str, float] = {}
        if self.features == "classifier":
            extract, result["classifier_error"] = classifier_features(data)
        else:
            extract = pretrained_features() if self.features == "pretrained" else inception_features()
        count = min(self.images, len(data.test), len(data.train))
        real = extract(_drawn(data.test, count, "test", self.draw_seed))
        sources = self._sources(autoencoder)
        for source in sources:
            suffix = "" if source == sources[0] else f"@{source}"
            sample, fitted = _sampler(subject, source)
            result |= fitted
            seeds = range(self.draw_seed, self.draw_seed + self.draws)
            found = [self._measure(real, extract, _decode(subject, sample(count, seed), seed)) for seed in seeds]
            result |= {f"{name}{suffix}": sum(each[name] for each in found) / len(found) for name in found[0]}
            if len(found) > 1:
                result[f"frechet_deviation{suffix}"] = _deviation([each["frechet_distance"] for each in found])
        training = _drawn(data.train, max(count, MIXTURE_IMAGES), "training", self.draw_seed)
        known = {
            "training": training[:count],
            "pca": component_samples(training, count, _code_values(autoencoder), self.draw_seed),
        }
        if data.validation is not None and len(data.validation) >= count:
            known["validation"] = _drawn(data.validation, count, "validation", self.draw_seed)
        for name, images in known.items():
            result |= {f"{key}@{name}": value for key, value in self._measure(real, extract, images).items()}
        return result

    def _sources(self, autoencoder: Autoencoder) -> Sequence[Source]:
        return self.sources or (["prior"] if _has_prior(autoencoder) else ["mixture"])

    def _measure(self, real: np.ndarray, extract: Extract, images: Tensor) -> dict[str, float]:
        from aerun.protocol.sample_measures import frechet_distance, kernel_distance, manifold_measures

        fake = extract(images)
        result = {"frechet_distance": frechet_distance(real, fake), "kernel_distance": kernel_distance(real, fake)}
        measures: Mapping[str, float] = manifold_measures(real, fake, self.neighbors)
        return result | {f"sample_{name}": value for name, value in measures.items()}


def _has_prior(autoencoder: Autoencoder) -> bool:
    import torch

    generator = torch.Generator(autoencoder.device).manual_seed(0)
    return autoencoder.latent.sample_prior((1, *autoencoder.code_shape), generator) is not None


def _code_values(autoencoder: Autoencoder) -> int:
    import math

    return math.prod(autoencoder.code_shape)


def _drawn(part: Split, count: int, what: str, seed: int) -> Tensor:
    """``count`` targets of a part, drawn at random, as floats in random order; all if there are fewer."""
    import torch

    from aerun.base.seeding import Randomness
    from aerun.dataset.data import as_float

    generator = Randomness(seed, torch.device("cpu")).at(f"samples-{what}", 0)
    rows = torch.randperm(len(part), generator=generator)[:count].sort().values
    targets = part.targets
    chosen = targets[rows.to(targets.device)] if isinstance(targets, torch.Tensor) else targets.select(rows)[:]
    return as_float(chosen)[torch.randperm(len(chosen), generator=generator).to(chosen.device)]


def _sampler(subject: Subject, source: Source) -> tuple[Callable[[int, int], Tensor], dict[str, float]]:
    """A function of number and seed that returns codes, and the numbers of the prior that was fitted for it, if any."""
    import torch

    from aerun.base.seeding import Randomness
    from aerun.core.codebooks import sample_frequencies
    from aerun.core.index_prior import fit_index_prior
    from aerun.core.mixture import fit_mixture, nearest_valid_codes

    autoencoder, train = subject.autoencoder, subject.data.train
    latent, shape = autoencoder.latent, autoencoder.code_shape
    if source == "mixture":
        mixture = fit_mixture(autoencoder.encode(_inputs(train, MIXTURE_IMAGES)).cpu())
        return lambda count, seed: nearest_valid_codes(autoencoder, mixture.sample(count, seed).view(-1, *shape)), {}
    if source == "prior" and _has_prior(autoencoder):

        def draw(count: int, seed: int) -> Tensor:
            codes = latent.sample_prior((count, *shape), Randomness(seed, autoencoder.device).at("samples", 0))
            assert codes is not None  # it has a prior
            return codes

        return draw, {}
    indices = autoencoder.indices(_inputs(train, PRIOR_IMAGES)).cpu()

    def from_indices(indices: Tensor) -> Tensor:
        with torch.no_grad():
            return latent.from_indices(indices.to(autoencoder.device)).to(autoencoder.dtype)

    if source == "frequencies":
        return lambda count, seed: from_indices(sample_frequencies(indices, count, seed)), {}
    prior = fit_index_prior(indices, latent, shape)
    unseen = autoencoder.indices(_inputs(subject.data.test, PRIOR_IMAGES))
    nats, independent = prior.nats_of(unseen).mean(), prior.independent_nats_of(unseen).mean()
    measured = {"prior_nats": float(nats), "independent_nats": float(independent)}
    return lambda count, seed: from_indices(prior.sample(count, seed)), measured


def _decode(subject: Subject, codes: Tensor, seed: int) -> Tensor:
    """The images of codes, clamped to [0,1] if the model's targets are.

    A conditional model decodes them with the labels of training images, drawn at random.
    """
    import torch

    from aerun.base.seeding import Randomness

    autoencoder, data = subject.autoencoder, subject.data
    labels = None
    if autoencoder.condition is not None and (known := data.train.labels) is not None:
        generator = Randomness(seed, torch.device("cpu")).at("samples-labels", 0)
        labels = known.cpu()[torch.randint(len(known), (len(codes),), generator=generator)]
    images = autoencoder.decode(codes, labels).cpu()
    return images.clamp(0, 1) if data.in_unit_range else images


def _inputs(part: Split, count: int) -> Tensor:
    """``count`` inputs of a part, spread evenly over it."""
    import torch

    rows = torch.linspace(0, len(part) - 1, min(count, len(part))).round().long()
    inputs = part.inputs
    return inputs[rows.to(inputs.device)] if isinstance(inputs, torch.Tensor) else inputs.select(rows)[:]


def _deviation(values: list[float]) -> float:
    import statistics

    return statistics.stdev(values)
