"""How likely the test images are under a model with a Gaussian latent."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from aerun.config.schema import Count
from aerun.contracts import Evaluation
from aerun.errors import ConfigError
from aerun.latent import Gaussian, ImportanceWeighted, divergences

if TYPE_CHECKING:
    from torch import Tensor

    from aerun.base.seeding import Randomness
    from aerun.config.settings import Settings
    from aerun.protocol.subject import Subject

ACTIVE = 0.01  # variance of the posterior means from which a dimension counts as active (Burda et al. 2016)
LISTED = 128  # dimensions of which each one's KL divergence is told
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Likelihood(Evaluation):
    """log p(x) ~ log 1/k sum_i p(x|z_i) p(z_i) / q(z_i|x), z_i from q(z|x), k = ``samples``, in nats per image.

    Burda, Grosse & Salakhutdinov 2016 (arXiv:1509.00519), section 3; a lower bound in expectation, tighter with every
    sample. p(x|z) is the distribution that goes with the loss (``aerun.loss``), p(z) the standard normal. Sums over
    pixels are float32, everything after them float64. An image's draws depend on its position and
    their number alone.

    Told are ``nll`` and ``log_likelihood`` of all test images or of ``images`` of them, drawn at random (the first of
    a data set are often easier), with ``nll_error``, the standard error of the mean over images, and how many samples
    and images it was. ``elbo`` is E_q log p(x|z) - KL, the expectation over the same samples; ``kl_dimension_00`` and
    so on are the KL of each latent dimension; ``active_latents`` counts the dimensions with Var_x(E_q[z|x]) > 0.01.

    With ``samples_of_rest`` the other test images are given so many samples, so that these three are over all test
    images, and there are ``nll_500`` (for 500) of all test images, and ``nll_all``: that, corrected by the mean
    difference that ``samples`` make for those of the ``images``, with its standard error ``nll_all_error``.
    """

    samples: Count
    images: Count | None
    samples_of_rest: Count | None
    batch_size: Count

    def __post_init__(self) -> None:
        rest = self.samples_of_rest
        if rest is not None and (self.images is None or rest > self.samples):
            raise ValueError(f"samples_of_rest={rest}: needs images=…, and at most samples={self.samples}")

    def check_settings(self, settings: Settings) -> None:
        """ConfigError where the model, its loss and its data make no likelihood."""
        name, loss = settings.name, settings.loss
        if not isinstance(settings.latent, Gaussian | ImportanceWeighted):
            raise ConfigError(
                f"protocol=likelihood and {name('latent')}: there is a likelihood of a Gaussian latent only"
            )
        if not loss.is_likelihood:
            raise ConfigError(
                f"protocol=likelihood and {name('loss')}: this loss is no likelihood; use bce, mse or mae"
            )
        if settings.dataset.normalize != "none":
            raise ConfigError(
                "protocol=likelihood and dataset.normalize=standardise: the images are not what is modelled"
            )
        if loss.takes_logits and settings.dataset.binarise == "none":
            raise ConfigError(
                f"protocol=likelihood and {name('loss')}: of grey images this is no likelihood; "
                "use dataset.binarise=dynamic or static"
            )

    def __call__(self, subject: Subject) -> dict[str, float]:
        """The numbers by name."""
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
        result["elbo"] = float((estimates[every, 2] - divergences[every].sum(1)).mean())
        result["active_latents"] = float((means.var(0, correction=0) > ACTIVE).sum())
        each = divergences[every].mean(0).tolist()
        return result | ({f"kl_dimension_{i:02}": kl for i, kl in enumerate(each)} if len(each) <= LISTED else {})

    def _estimates(self, subject: Subject, batch: _Posterior, counts: Tensor) -> Tensor:
        """[B,3], on the host: log p(x) from all samples of an image, from the first ``samples_of_rest`` of them, and
        the mean of log p(x|z). Zeros for images without samples."""
        import torch

        found = torch.zeros(len(counts), 3, dtype=torch.float64)
        few = self.samples_of_rest or self.samples
        for count in {count for count in counts.tolist() if count}:
            for rows in (counts == count).nonzero()[:, 0].split(max(1, self.batch_size // count)):
                log_likelihoods, log_weights = self._weights(subject, batch, rows, count)
                found[rows, 0] = log_weights.logsumexp(1) - math.log(count)
                found[rows, 1] = log_weights[:, :few].logsumexp(1) - math.log(min(few, count))
                found[rows, 2] = log_likelihoods.mean(1)
        return found

    def _weights(self, subject: Subject, batch: _Posterior, rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """log p(x|z_i) and log p(x|z_i) p(z_i) / q(z_i|x), each [R,count], float64, for those rows of a batch."""
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
            output = autoencoder.decoder(part.flatten(0, 1)).float()
            prediction = output if loss.takes_logits else autoencoder.output_activation(output)
            errors.append(loss.nats(prediction.unflatten(0, part.shape[:2]), targets))
        log_likelihoods = -_double(torch.cat(errors, 1)) - loss.constant * targets[0].numel()
        squares = (draws.square() - codes.square()).flatten(2).sum(2)
        log_ratios = 0.5 * (_double(squares) + _double(batch.log_variances[here].sum(1, keepdim=True)))
        return log_likelihoods.cpu(), (log_likelihoods + log_ratios).cpu()


class _Posterior(NamedTuple):
    """q(z|x) of a batch: means and log-variances [B,D], its KL divergence from the prior by dimension, the targets,
    where the images stand in the test part [B], and where random numbers come from."""

    means: Tensor
    log_variances: Tensor
    divergences: Tensor
    targets: Tensor
    rows: Tensor
    random: Randomness


def _posteriors(subject: Subject) -> Iterator[_Posterior]:
    """Of all test images, as the model is given them."""
    import torch

    from aerun.base.seeding import Randomness
    from aerun.metrics.evaluation import EVALUATION_SEED, corrupted_batches

    autoencoder, start = subject.autoencoder, 0
    random = Randomness(EVALUATION_SEED, subject.device)
    for _, inputs, targets in corrupted_batches(subject.data.test, subject.noise):
        features, _ = autoencoder.sparsity(autoencoder.encoder(autoencoder.standardise_input(inputs)), False)
        means, log_variances = (part.flatten(1) for part in features.float().chunk(2, dim=1))
        rows = torch.arange(start, start + len(inputs))
        start += len(inputs)
        yield _Posterior(means, log_variances, divergences(means, log_variances), targets, rows, random)


def _mean(values: Tensor) -> tuple[float, float]:
    """The mean of values[N], and its standard error (0 for a single value)."""
    deviation = float(values.std()) if len(values) > 1 else 0.0
    return float(values.mean()), deviation / math.sqrt(len(values))


def _double(values: Tensor) -> Tensor:
    """float64, on the host where the device has none."""
    return values.cpu().double() if values.device.type == "mps" else values.double()
