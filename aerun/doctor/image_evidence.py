"""Measurements on a few hundred images: fit, output range, pairing of inputs and targets, Gaussian latent."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aerun.base.seeding import Randomness
from aerun.contracts import Penalty
from aerun.core.autoencoder import Autoencoder
from aerun.doctor.examination import MIN_IMAGES, Fit, Latent, Outputs, Pairing

MAX_IMAGES = 256  # more are not examined
MAX_VALUES = 2**22  # of all examined images together
NEIGHBORS = 5
PRIOR_DRAWS = 20_000
EXTREME_LOGIT = 1e4  # at which an activation has reached its limits
ROUNDING = 1e-12  # of the mean square: a smaller variance is none


@runtime_checkable
class _DeclaresLogits(Protocol):
    takes_logits: bool


def count_images(shape: tuple[int, ...]) -> int:
    """How many images of that shape are examined."""
    return max(2 * MIN_IMAGES, min(MAX_IMAGES, MAX_VALUES // max(1, math.prod(shape))))


@torch.no_grad()
def measure_fit(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    train: tuple[Tensor, Tensor] | None = None,
    labels: tuple[Tensor | None, Tensor | None] = (None, None),
) -> tuple[Fit | None, Tensor]:
    """The fit of inputs[N,...] to targets[N,...], compared with that of training images (None if targets do not vary),
    and the reconstructions. ``labels``: of both, for a conditional model."""
    reconstruct = reconstruction_of(model, labels[0])
    outputs = reconstruct(inputs)
    error, variance = mse(outputs, targets), variance_of(targets)
    if variance is None:
        return None, outputs
    gap = None
    if train is not None:
        train_error = mse(reconstruction_of(model, labels[1])(train[0]), train[1])
        gap = error / train_error if train_error > 0 else None
    exchanged = code_variation = relabeled = None
    if isinstance(model, Autoencoder):
        relabeled = _measure_relabeling(model, inputs, outputs, labels[0])
        model = model.given(labels[0])
        codes = model.encode(inputs)
        code_variation = (variance_of(codes) or 0.0) / square if (square := float(codes.square().mean())) else None
        exchanged = mse(model.decode(codes.roll(1, 0)), outputs) / (2 * variance)
    return Fit(
        explained=1 - error / variance,
        spread=(variance_of(outputs) or 0.0) / variance,
        own=share_nearest_to_own_target(outputs, targets),
        exchanged=exchanged,
        relabeled=relabeled,
        code_variation=code_variation,
        gap=gap,
        noise_explained=_noise_explained(reconstruct, inputs, targets),
    ), outputs


def reconstruction_of(model: nn.Module, labels: Tensor | None = None) -> Callable[[Tensor], Tensor]:
    """The model's deterministic output: in blocks for an Autoencoder, the forward pass for any other module. A
    conditional model gets the first ``labels``."""
    if not isinstance(model, Autoencoder):
        return model
    return lambda images: model.given(None if labels is None else labels[: len(images)]).reconstruct(images)


def _measure_relabeling(model: Autoencoder, inputs: Tensor, outputs: Tensor, labels: Tensor | None) -> float | None:
    """How far outputs move when codes are decoded with the next image's label: mean square, divided by that of the
    distance between the mean outputs of both labels. None for a model that is not conditional, and if the
    labels' mean outputs are equal."""
    if model.condition is None or labels is None:
        return None
    other = labels.roll(1, 0)
    members = F.one_hot(labels, model.classes or 0).to(outputs.dtype)
    means = (members.T @ outputs.flatten(1)) / members.sum(0).clamp_min(1)[:, None]
    distance = mse(means[labels], means[other])
    moved = mse(model.decode(model.encode(inputs, labels), other), outputs)
    return moved / distance if distance > ROUNDING * float(outputs.square().mean()) else None


def mse(images: Tensor, targets: Tensor) -> float:
    """Mean squared error of two batches of the same shape. ValueError for shapes that would broadcast."""
    if images.shape != targets.shape:
        raise ValueError(f"outputs are {list(images.shape)}, targets {list(targets.shape)}")
    return float((images - targets).square().mean())


def variance_of(images: Tensor) -> float | None:
    """Variance over images of each value, averaged over values; None if it is not more than rounding errors."""
    rows = images.detach().flatten(1)
    variance = float((rows - rows.mean(0)).square().mean())
    return variance if variance > ROUNDING * float(rows.square().mean()) else None


def offset_of(images: Tensor) -> float | None:
    """The mean square of the mean image divided by the variance; None if the images do not vary."""
    images = images.detach()
    variance = variance_of(images)
    return None if variance is None else float(images.mean(0).square().mean()) / variance


def share_nearest_to_own_target(outputs: Tensor, targets: Tensor) -> float:
    """Share of outputs[N,...] that are nearer to their own target than to that of the next image; a tie counts half."""
    own, other = ((outputs - wanted).square().flatten(1).sum(1) for wanted in (targets, targets.roll(-1, 0)))
    return float((own < other).float().mean() + 0.5 * (own == other).float().mean())


def _noise_explained(reconstruct: Callable[[Tensor], Tensor], inputs: Tensor, targets: Tensor) -> float | None:
    """Share of the variance of white noise in the inputs' range that the model reconstructs."""
    if inputs.shape != targets.shape:
        return None
    generator = Randomness(0, inputs.device).at("doctor-noise", 0)
    low, high = float(inputs.min()), float(inputs.max())
    noise = torch.rand(inputs[:64].shape, generator=generator, device=inputs.device) * (high - low) + low
    variance = variance_of(noise)
    return None if variance is None else 1 - mse(reconstruct(noise), noise) / variance


@torch.no_grad()
def measure_outputs(model: nn.Module, inputs: Tensor, outputs: Tensor, targets: Tensor, takes_logits: bool) -> Outputs:
    """The range of the output activation, and how many targets lie outside it."""
    low, high = output_limits(model)
    logits = None
    if takes_logits and isinstance(model, Autoencoder):
        was_training = model.training
        model.eval()
        result = model(inputs)
        model.train(was_training)
        logits = float(result.logits.min()), float(result.logits.max())
    return Outputs(
        low=low,
        high=high,
        target_low=float(targets.min()),
        target_high=float(targets.max()),
        outside=float(((targets < low - 1e-3) | (targets > high + 1e-3)).float().mean()),
        saturated=float((_at_bounds(outputs, low, high) - _at_bounds(targets, low, high)).clamp_min(0).sum()),
        logit_range=logits,
    )


def _at_bounds(images: Tensor, low: float, high: float) -> Tensor:
    """The shares [2] of values at most 0.001 above ``low``, and at most 0.001 below ``high``."""
    return torch.stack([(images <= low + 1e-3).float().mean(), (images >= high - 1e-3).float().mean()])


def output_limits(model: nn.Module) -> tuple[float, float]:
    """The smallest and largest value of the output activation, in the data's units; infinite if it has no bound."""
    if not isinstance(model, Autoencoder):
        return -math.inf, math.inf
    ends = model.output_activation(torch.tensor([-EXTREME_LOGIT, EXTREME_LOGIT])).tolist()
    low, high = (end if abs(end) < EXTREME_LOGIT / 2 else math.copysign(math.inf, end) for end in ends)
    if model.standardise_target.mean is not None:
        return -math.inf, math.inf  # standardized targets require the identity
    return low, high


@torch.no_grad()
def measure_pairing(inputs: Tensor, targets: Tensor, loss: Any = None) -> Pairing:
    """Whether targets[N,...] depend on inputs[N,...], and the loss on their order."""
    input_variance, variance = variance_of(inputs), variance_of(targets)
    variation = None if input_variance is None else (variance or 0.0) / input_variance
    is_same = inputs.shape == targets.shape and torch.equal(inputs, targets)
    predicted = None if is_same or not variation else explained_by_neighbors(inputs, targets)
    return Pairing(variation, predicted, None if loss is None else measure_loss_rise(loss, targets[:64]))


def explained_by_neighbors(inputs: Tensor, targets: Tensor) -> float | None:
    """Share of the targets' variance that the mean target of each image's nearest neighbors explains. Targets that do
    not depend on their inputs give a negative share (-1/5 with 5 neighbors). None if the targets do not vary."""
    rows, wanted = inputs.flatten(1), targets.flatten(1)
    distances = torch.cdist(rows, rows)
    distances.fill_diagonal_(math.inf)
    nearest = distances.topk(min(NEIGHBORS, len(rows) - 1), largest=False).indices
    error = (wanted[nearest].mean(1) - wanted).square().mean()
    variance = variance_of(wanted)
    return None if variance is None else 1 - float(error) / variance


def takes_logits(loss: Any) -> bool:
    """Whether a loss declares that it takes logits; any other function does not."""
    return isinstance(loss, _DeclaresLogits) and bool(loss.takes_logits)


def measure_loss_rise(loss: Any, targets: Tensor) -> float | None:
    """Share of the loss that depends on the order of the images. 0 for a loss that compares every output with every
    target, as broadcasting [B,1,...] against [B,...] does; None if the targets do not vary."""
    if variance_of(targets) is None:
        return None
    prediction = (targets.clamp(0.02, 0.98)).logit() if takes_logits(loss) else targets
    right, wrong = (float(loss(prediction, wanted)) for wanted in (targets, targets.roll(1, 0)))
    scale = max(abs(wrong), abs(right))
    return (wrong - right) / scale if scale else None


@torch.no_grad()
def measure_latent(model: Autoencoder, inputs: Tensor, targets: Tensor, loss: Any = None) -> Latent | None:
    """KL divergence and variance of the mean of each dimension of a Gaussian latent; None for any other latent.

    The divergence is from the Gaussian with the prior's mean and variance in that dimension, those of ``PRIOR_DRAWS``
    draws if the prior is not the standard normal.
    """
    was_training = model.training
    model.eval()
    features, _ = model.sparsity(model.encoder(model.standardise_input(inputs)), False)
    posterior = model.latent.posterior(features)
    _, terms = model.latent(features, None)
    model.train(was_training)
    if posterior is None:
        return None
    center, variance = torch.zeros(()), torch.ones(())
    if model.latent.log_prior(posterior[0][:1]) is not None:
        shape, generator = (PRIOR_DRAWS, *posterior[0].shape[1:]), torch.Generator(inputs.device).manual_seed(0)
        draws = model.latent.sample_prior(shape, generator)
        assert draws is not None  # what has a density has samples
        variance, center = torch.var_mean(draws.flatten(1), 0)
    mean, log_variance = (part.flatten(1) for part in posterior)
    ratio = ((mean - center).square() + log_variance.exp()) / variance
    kl = 0.5 * (ratio - log_variance + variance.log() - 1).mean(0)
    beta = None
    for term in terms:
        if isinstance(term, Penalty) and loss is not None:  # with a Gaussian posterior, that of the KL divergence
            scale = loss.scale(targets[0].numel())
            beta = term.weight * (1.0 if term.per_image else 1.0 / scale)
    return Latent(tuple(kl.tolist()), tuple(mean.var(0).tolist()), beta)
