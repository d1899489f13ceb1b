"""The likelihood of the test images under a model with a Gaussian latent."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from aerun.contracts import Count, Evaluation, Latent
from aerun.errors import ConfigError
from aerun.latent import kl_divergences

if TYPE_CHECKING:
    from torch import Tensor

    from aerun.base.seeding import Randomness
    from aerun.config.settings import Settings
    from aerun.protocol.subject import Subject

ACTIVE_VARIANCE = 0.01  # variance of the posterior means from which a dimension counts as active (Burda et al. 2016)
MAX_LISTED_DIMENSIONS = 128  # up to which the KL divergence of each dimension is reported
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Likelihood(Evaluation):
    """log p(x) ~ log 1/k sum_i p(x|z_i) p(z_i) / q(z_i|x), z_i from q(z|x), k = ``samples``, in nats per image.

    Burda, Grosse & Salakhutdinov 2016 (arXiv:1509.00519), section 3; a lower bound in expectation, tighter with every
    sample. p(x|z) is the distribution that corresponds to the loss (``aerun.loss``), p(z) is standard normal. Sums over
    pixels are float32, everything after them is float64. The random numbers of an image depend only on its position and
    the number of samples.

    Reports ``nll`` and ``log_likelihood`` of all test images, or of ``images`` of them drawn at random (the first ones
    of a data set are often easier), ``nll_error``, the standard error of the mean over images, and the numbers of
    samples and images. ``elbo`` is E_q log p(x|z) - KL, with the expectation over the same samples; ``kl_dimension_00``
    and so on are the KL of each latent dimension; ``active_latents`` counts dimensions with Var_x(E_q[z|x]) > 0.01.

    With ``samples_of_rest`` the other test images get that many samples. Then ``elbo`` and the two that follow it are
    over all test images, ``nll_500`` (for 500 samples) is over all test images, and ``nll_all`` corrects it by the mean
    difference that ``samples`` make on the ``images``; its standard error is ``nll_all_error``.
    """

    samples: Count
    images: Count | None
    samples_of_rest: Count | None
    batch_size: Count

    def __post_init__(self) -> None:
        rest = self.samples_of_rest
        if rest is not None and (self.images is None or rest > self.samples):
            raise ValueError(f"samples_of_rest={rest}: needs images=N, and must be at most samples={self.samples}")

    def check_settings(self, settings: Settings) -> None:
        """Raise ConfigError if latent, loss and data do not define a likelihood."""
        name, loss = settings.name, settings.loss
        if type(settings.latent).posterior is Latent.posterior:
            raise ConfigError(f"protocol=likelihood and {name('latent')}: a likelihood needs a Gaussian latent")
        if not loss.is_likelihood:
            raise ConfigError(
                f"protocol=likelihood and {name('loss')}: this loss is not a likelihood; use bce, mse or mae"
            )
        if settings.dataset.normalize != "none":
            raise ConfigError(
                "protocol=likelihood and dataset.normalize=standardise: the model does not describe the images "
                "themselves; use dataset.normalize=none"
            )
        if loss.takes_logits and settings.dataset.binarise == "none":
            raise ConfigError(
                f"protocol=likelihood and {name('loss')}: this loss is not a likelihood of gray images; "
                "use dataset.binarise=dynamic or static"
            )

    def __call__(self, subject: Subject) -> dict[str, float]:
        """Return the numbers by name."""
        import torch

        with torch.inference_mode():
            return self._numbers(subject)

    def _numbers(self, subject: Subject) -> dict[str, float]:
        import torch

        from aerun.base.seeding import Randomness
        from aerun.metrics.evaluation import EVALUATION_SEED

        total = len(subject.data.test)
        counts = torch.full((total,), self.samples)
        if self.images is not None and self.images < total:
            random = Randomness(EVALUATION_SEED, torch.device("cpu"))
            order = torch.randperm(total, generator=random.at("likelihood-images", 0))
            counts[order[self.images :]] = self.samples_of_rest or 0
        begun = time.perf_counter()
        found = [
            (self._estimates(subject, batch, counts[batch.rows]), batch.divergences.cpu(), batch.means.cpu())
            for batch in _posteriors(subject)
        ]
        estimates, divergences, means = (torch.cat(parts).double() for parts in zip(*found, strict=True))
        decoded = int(counts.sum())
        log.info("%.3g codes decoded, %.3g a second", decoded, decoded / (time.perf_counter() - begun))
        whole, every = counts == self.samples, counts > 0
        nll, error = _mean(-estimates[whole, 0])
        result = {"nll": nll, "log_likelihood": -nll, "nll_error": error}
        result |= {"likelihood_samples": float(self.samples), "likelihood_images": float(whole.sum())}
        if self.samples_of_rest is not None:
            fewer = float(-estimates[:, 1].mean())
            gain, error = _mean(estimates[whole, 1] - estimates[whole, 0])
            result |= {f"nll_{self.samples_of_rest}": fewer, "nll_all": fewer + gain, "nll_all_error": error}
        own_prior = type(subject.autoencoder.latent).log_prior is not Latent.log_prior
        # Without a closed form, the KL divergence is part of the estimate.
        closed = 0.0 if own_prior else divergences[every].sum(1)
        result["elbo"] = float((estimates[every, 2] - closed).mean())
        result["active_latents"] = float((means.var(0, correction=0) > ACTIVE_VARIANCE).sum())
        each = divergences[every].mean(0).tolist()
        if own_prior:
            return result  # a divergence from another prior is not a sum over dimensions
        return result | (
            {f"kl_dimension_{i:02}": kl for i, kl in enumerate(each)} if len(each) <= MAX_LISTED_DIMENSIONS else {}
        )

    def each(self, subject: Subject) -> Tensor:
        """log p(x) of each test image [N], by the same random numbers for all: it does not depend on other images."""
        import torch

        with torch.inference_mode():
            found = []
            for batch in _posteriors(subject):
                counts = torch.full((len(batch.rows),), self.samples)
                found.append(self._estimates(subject, batch._replace(rows=torch.zeros_like(batch.rows)), counts)[:, 0])
        return torch.cat(found)

    def _estimates(self, subject: Subject, batch: _Posterior, counts: Tensor) -> Tensor:
        """Return [B,3] on the host: log p(x) from all samples of an image, log p(x) from the first ``samples_of_rest``
        of them, and the mean of log p(x|z), with log p(z) / q(z|x) if the latent has a prior of its own. Zeros for
        images without samples."""
        import torch

        found = torch.zeros(len(counts), 3, dtype=torch.float64)
        few = self.samples_of_rest or self.samples
        own_prior = type(subject.autoencoder.latent).log_prior is not Latent.log_prior
        for count in {count for count in counts.tolist() if count}:
            for rows in (counts == count).nonzero()[:, 0].split(max(1, self.batch_size // count)):
                log_likelihoods, log_weights = self._weights(subject, batch, rows, count)
                found[rows, 0] = log_weights.logsumexp(1) - math.log(count)
                found[rows, 1] = log_weights[:, :few].logsumexp(1) - math.log(min(few, count))
                found[rows, 2] = (log_weights if own_prior else log_likelihoods).mean(1)
        return found

    def _weights(self, subject: Subject, batch: _Posterior, rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Return log p(x|z_i) and log p(x|z_i) p(z_i) / q(z_i|x) for rows of a batch, each [R,count], float64."""
        import torch

        autoencoder, loss, device = subject.autoencoder, subject.loss, subject.device
        shape, here = autoencoder.code_shape, rows.to(device)
        draws = torch.stack(
            [
                torch.randn(count, *shape, generator=batch.random.at("likelihood", position), device=device)
                for position in batch.rows[rows].tolist()
            ]
        )
        deviations = (0.5 * batch.log_variances[here]).exp()
        codes = batch.means[here].unflatten(1, shape).unsqueeze(1) + deviations.unflatten(1, shape).unsqueeze(1) * draws
        targets = batch.targets[here].unsqueeze(1)
        errors = []
        for part in codes.split(max(1, self.batch_size // len(rows)), dim=1):
            labels = None if batch.labels is None else batch.labels[here].repeat_interleave(part.shape[1])
            output = autoencoder.given(labels).decoder(part.flatten(0, 1)).float()
            prediction = output if loss.takes_logits else autoencoder.output_activation(output)
            errors.append(loss.nats(prediction.unflatten(0, part.shape[:2]), targets))
        log_likelihoods = -_double(torch.cat(errors, 1)) - loss.constant * targets[0].numel()
        squares = (draws.square() - codes.square()).flatten(2).sum(2)
        log_ratios = 0.5 * (_double(squares) + _double(batch.log_variances[here].sum(1, keepdim=True)))
        own_prior = autoencoder.latent.log_prior(codes.flatten(0, 1))
        if own_prior is not None:
            normal = -0.5 * (codes.square() + math.log(2 * math.pi)).flatten(2).sum(2)
            log_ratios += _double(own_prior.unflatten(0, codes.shape[:2])) - _double(normal)
        return log_likelihoods.cpu(), (log_likelihoods + log_ratios).cpu()


def has_likelihood(subject: Subject) -> bool:
    """Whether latent, loss and data define a likelihood of the images, see ``Likelihood.check_settings``."""
    loss, dataset = subject.loss, subject.dataset
    return (
        type(subject.autoencoder.latent).posterior is not Latent.posterior
        and loss.is_likelihood
        and dataset.normalize == "none"
        and (not loss.takes_logits or dataset.binarise != "none")
    )


class _Posterior(NamedTuple):
    """q(z|x) of a batch: means and log-variances [B,D], KL divergence from the prior per dimension, targets, labels,
    positions of the images in the test part [B], and the source of random numbers."""

    means: Tensor
    log_variances: Tensor
    divergences: Tensor
    targets: Tensor
    labels: Tensor | None
    rows: Tensor
    random: Randomness


def _posteriors(subject: Subject) -> Iterator[_Posterior]:
    """Yield the posteriors of all test images, encoded from the inputs that the model is evaluated on."""
    import torch

    from aerun.base.seeding import Randomness
    from aerun.metrics.evaluation import EVALUATION_SEED, given_batches

    autoencoder, start = subject.autoencoder, 0
    random = Randomness(EVALUATION_SEED, subject.device)
    test = subject.data.test
    for given, _, inputs, targets in given_batches(autoencoder, test, subject.noise):
        features, _ = given.sparsity(given.encoder(given.standardise_input(inputs)), False)
        posterior = autoencoder.latent.posterior(features)
        assert posterior is not None  # see check_settings
        means, log_variances = (part.flatten(1).float() for part in posterior)
        rows = torch.arange(start, start + len(inputs))
        labels = None if test.labels is None else test.labels[start : start + len(inputs)]
        start += len(inputs)
        yield _Posterior(means, log_variances, kl_divergences(means, log_variances), targets, labels, rows, random)


def _mean(values: Tensor) -> tuple[float, float]:
    """Return the mean of values[N] and its standard error (0 for a single value)."""
    deviation = float(values.std()) if len(values) > 1 else 0.0
    return float(values.mean()), deviation / math.sqrt(len(values))


def _double(values: Tensor) -> Tensor:
    """Convert to float64, on the host if the device does not support it."""
    return values.cpu().double() if values.device.type == "mps" else values.double()
