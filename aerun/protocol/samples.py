"""Samples of the trained model compared with test images."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from aerun.contracts import Count, Evaluation, Seed
from aerun.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from aerun.core.autoencoder import Autoencoder
    from aerun.dataset.data import Data, Split
    from aerun.protocol.feature_extractor import Extract
    from aerun.protocol.subject import Subject

MIXTURE_IMAGES = 5000  # training images whose codes a mixture is fitted to
Source = Literal["prior", "mixture"]
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Samples(Evaluation):
    """Distances between test images and as many samples, by the features of a classifier or of Inception.

    ``sources``: where codes come from, ``prior`` or ``mixture`` (Gaussians fitted to the codes of training images, see
    ``aerun.core.mixture``); null for the prior of a model that has one, and otherwise the mixture. Numbers of the first
    have no suffix, those of another end in ``@mixture`` or ``@prior``.

    Reports ``frechet_distance``, ``kernel_distance``, ``sample_precision``, ``sample_recall``, ``sample_density`` and
    ``sample_coverage`` (see ``aerun.protocol.sample_measures``), means over ``draws`` sets of samples, and the sample
    standard deviation ``frechet_deviation``. With ``@training`` they are those of training images, the ceiling; with
    ``@pca`` those of a Gaussian in the space of as many principal components as the code has values, the floor. All
    sets have the same size, so that the bias of the Frechet distance is the same.
    """

    features: Literal["classifier", "inception"]
    images: Count
    sources: list[Source] | None
    neighbors: Count
    draws: Count
    draw_seed: Seed

    def check_data(self, data: Data, autoencoder: Autoencoder) -> None:
        """ConfigError for data without labels or images that the features need, and for a prior that is missing."""
        if self.features == "classifier" and (data.train.labels is None or data.test.labels is None):
            raise ConfigError("features=classifier: needs labels, which these data lack; use features=inception")
        if self.features == "inception" and (len(data.output_shape) != 3 or data.output_shape[0] not in (1, 3)):
            raise ConfigError("features=inception: needs gray or color images; use features=classifier")
        if "prior" in (self.sources or []) and not _has_prior(autoencoder):
            raise ConfigError("sources=[prior]: this model has no prior to sample from; use [mixture]")
        if autoencoder.condition is not None and "mixture" in self._sources(autoencoder):
            raise ConfigError(
                "sources=[mixture]: codes of a conditional model depend on the label; use [prior], with a latent that "
                "has a prior"
            )
        if self.neighbors >= min(self.images, len(data.test), len(data.train)):
            raise ConfigError(f"neighbors={self.neighbors}: needs more test images")

    def __call__(self, subject: Subject) -> dict[str, float]:
        """Return the numbers by name."""
        from aerun.protocol.feature_extractor import classifier_features, inception_features

        data, autoencoder = subject.data, subject.autoencoder
        result: dict[str, float] = {}
        if self.features == "classifier":
            extract, result["classifier_error"] = classifier_features(data)
        else:
            extract = inception_features()
        count = min(self.images, len(data.test), len(data.train))
        real = extract(_drawn(data.test, count, "test", self.draw_seed))
        sources = self._sources(autoencoder)
        for source in sources:
            suffix = "" if source == sources[0] else f"@{source}"
            decode = _sampler(subject, source)
            found = [self._measure(real, extract, decode(count, self.draw_seed + draw)) for draw in range(self.draws)]
            result |= {f"{name}{suffix}": sum(each[name] for each in found) / len(found) for name in found[0]}
            if len(found) > 1:
                result[f"frechet_deviation{suffix}"] = _deviation([each["frechet_distance"] for each in found])
        training = _drawn(data.train, max(count, MIXTURE_IMAGES), "training", self.draw_seed)
        components = _pca_samples(training, count, _code_values(autoencoder), self.draw_seed)
        for name, images in {"training": training[:count], "pca": components}.items():
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


def _sampler(subject: Subject, source: Source) -> Callable[[int, int], Tensor]:
    """A function of number and seed that decodes samples of the model, clamped to [0,1] if its targets are.

    A conditional model decodes them with the labels of training images, drawn at random.
    """
    import torch

    from aerun.base.seeding import Randomness
    from aerun.core.mixture import fit_mixture, nearest_valid_codes

    autoencoder, data = subject.autoencoder, subject.data
    shape = autoencoder.code_shape
    if source == "mixture":
        mixture = fit_mixture(autoencoder.encode(_inputs(data.train, MIXTURE_IMAGES)).cpu())
    known = data.train.labels if autoencoder.condition is not None else None

    def decode(count: int, seed: int) -> Tensor:
        if source == "mixture":
            codes = nearest_valid_codes(autoencoder, mixture.sample(count, seed).view(count, *shape))
        else:
            generator = Randomness(seed, autoencoder.device).at("samples", 0)
            drawn = autoencoder.latent.sample_prior((count, *shape), generator)
            if drawn is None:
                raise DataError("sources=[prior]: this model has no prior to sample from")
            codes = drawn
        labels = None
        if known is not None:
            generator = Randomness(seed, torch.device("cpu")).at("samples-labels", 0)
            labels = known.cpu()[torch.randint(len(known), (count,), generator=generator)]
        images = autoencoder.decode(codes, labels).cpu()
        return images.clamp(0, 1) if data.in_unit_range else images

    return decode


def _inputs(part: Split, count: int) -> Tensor:
    """``count`` inputs of a part, spread evenly over it."""
    import torch

    rows = torch.linspace(0, len(part) - 1, min(count, len(part))).round().long()
    inputs = part.inputs
    return inputs[rows.to(inputs.device)] if isinstance(inputs, torch.Tensor) else inputs.select(rows)[:]


def _pca_samples(images: Tensor, count: int, components: int, seed: int) -> Tensor:
    """Samples of a Gaussian in the space of the leading principal components of images[N,...]."""
    import torch

    from aerun.base.seeding import Randomness
    from aerun.metrics.baselines import principal_components

    images = images.cpu()
    rows = images.flatten(1).double()
    mean = rows.mean(0)
    directions = principal_components(images, mean, components)
    if directions is None:
        raise DataError(f"the {components} principal components of these images are too expensive")
    deviations = ((rows - mean) @ directions).std(0)
    generator = Randomness(seed, torch.device("cpu")).at("samples-pca", 0)
    normals = torch.randn(count, directions.shape[1], generator=generator).double()
    samples = (normals * deviations) @ directions.T + mean
    inside = bool(images.min() >= 0) and bool(images.max() <= 1)
    return (samples.clamp(0, 1) if inside else samples).float().view(count, *images.shape[1:])


def _deviation(values: list[float]) -> float:
    import statistics

    return statistics.stdev(values)
