"""What a model does with images: fit, range and pairing, from a few hundred of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from aerun.base.seeding import Randomness
from aerun.contracts import Penalty
from aerun.core.autoencoder import Autoencoder
from aerun.doctor.examination import Fit, Latent, Outputs, Pairing

MOST, VALUES = 256, 2**22  # images that are looked at, and values of all of them together
NEIGHBOURS = 5
EXTREME = 1e4  # logits at which an activation gives its limits


def count_of(shape: tuple[int, ...]) -> int:
    """How many images of that shape are looked at."""
    return max(16, min(MOST, VALUES // max(1, math.prod(shape))))


@torch.no_grad()
def fit_of(
    model: nn.Module, inputs: Tensor, targets: Tensor, train: tuple[Tensor, Tensor] | None = None
) -> tuple[Fit, Tensor]:
    """Of images inputs[N,...] and what they should become, and beside them of training images; and the
    reconstructions."""
    reconstruct = reconstruction_by(model)
    outputs = reconstruct(inputs)
    error, variance = mse(outputs, targets), float(variance_of(targets))
    gap = None
    if train is not None:
        seen = mse(reconstruct(train[0]), train[1])
        gap = error / seen if seen > 0 else None
    exchanged = code_variation = None
    if isinstance(model, Autoencoder):
        codes = model.encode(inputs)
        flat = codes.flatten(1)
        code_variation = float(variance_of(flat)) / max(float(flat.square().mean()), 1e-30)
        others = model.decode(codes.roll(1, 0))
        exchanged = mse(others, outputs) / (2 * variance) if variance else None
    scale = variance or 1.0
    return Fit(
        explained=1 - error / scale,
        spread=float(variance_of(outputs)) / scale,
        own=nearer(outputs, targets),
        exchanged=exchanged,
        code_variation=code_variation,
        gap=gap,
        noise_explained=_noise_explained(model, reconstruct, inputs, targets),
    ), outputs


def reconstruction_by(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """A model's deterministic answer: of an Autoencoder in blocks, of any other module what it gives."""
    return model.reconstruct if isinstance(model, Autoencoder) else model


def mse(images: Tensor, targets: Tensor) -> float:
    """Mean squared error of two batches of the same shape: ValueError where they would broadcast."""
    if images.shape != targets.shape:
        raise ValueError(f"outputs are {list(images.shape)}, targets {list(targets.shape)}")
    return float((images - targets).square().mean())


def variance_of(images: Tensor) -> Tensor:
    """Variance over images of each value, averaged over values."""
    rows = images.flatten(1)
    return (rows - rows.mean(0)).square().mean()


def nearer(outputs: Tensor, targets: Tensor) -> float:
    """Share of outputs[N,...] that are nearer to their own target than to that of the next image; ties are halves."""
    own, other = ((outputs - wanted).square().flatten(1).sum(1) for wanted in (targets, targets.roll(-1, 0)))
    return float((own < other).float().mean() + 0.5 * (own == other).float().mean())


def _noise_explained(
    model: nn.Module, reconstruct: Callable[[Tensor], Tensor], inputs: Tensor, targets: Tensor
) -> float | None:
    """How much of images of independent values between 0 and 1, moved to the range of the inputs, comes back."""
    if inputs.shape != targets.shape:
        return None
    generator = Randomness(0, inputs.device).at("doctor-noise", 0)
    low, high = float(inputs.min()), float(inputs.max())
    noise = torch.rand(inputs[:64].shape, generator=generator, device=inputs.device) * (high - low) + low
    return 1 - mse(reconstruct(noise), noise) / max(float(variance_of(noise)), 1e-30)


@torch.no_grad()
def outputs_of(model: nn.Module, inputs: Tensor, outputs: Tensor, targets: Tensor, takes_logits: bool) -> Outputs:
    """The range that the output activation leaves, and what of the targets lies beyond it."""
    low, high = limits(model)
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
        saturated=float((at_bounds(outputs, low, high) - at_bounds(targets, low, high)).clamp_min(0).sum()),
        logit_range=logits,
    )


def at_bounds(images: Tensor, low: float, high: float) -> Tensor:
    """The shares [2] of values within 0.001 of ``low`` and of ``high``, or beyond."""
    return torch.stack([(images <= low + 1e-3).float().mean(), (images >= high - 1e-3).float().mean()])


def limits(model: nn.Module) -> tuple[float, float]:
    """The lowest and highest value that the output activation can give, in the data's units; infinite without one."""
    if not isinstance(model, Autoencoder):
        return -math.inf, math.inf
    ends = model.output_activation(torch.tensor([-EXTREME, EXTREME])).tolist()
    low, high = (end if abs(end) < EXTREME / 2 else math.copysign(math.inf, end) for end in ends)
    if model.standardise_target.mean is not None:
        return -math.inf, math.inf  # standardised targets go with the identity alone
    return low, high


@torch.no_grad()
def pairing_of(inputs: Tensor, targets: Tensor, loss: Any = None) -> Pairing:
    """Whether targets[N,...] have to do with inputs[N,...], and the loss with their order."""
    between = float(variance_of(targets)) / max(float(variance_of(inputs)), 1e-30)
    same = inputs.shape == targets.shape and torch.equal(inputs, targets)
    predicted = None if same or not between else by_neighbours(inputs, targets)
    return Pairing(between, predicted, None if loss is None else loss_rise(loss, targets[:64]))


def by_neighbours(inputs: Tensor, targets: Tensor) -> float:
    """How much of the targets' variance the mean target of each image's nearest others explains: negative for targets
    that have nothing to do with their inputs (-1/5, with 5 neighbours)."""
    rows, wanted = inputs.flatten(1), targets.flatten(1)
    distances = torch.cdist(rows, rows)
    distances.fill_diagonal_(math.inf)
    nearest = distances.topk(min(NEIGHBOURS, len(rows) - 1), largest=False).indices
    error = (wanted[nearest].mean(1) - wanted).square().mean()
    return 1 - float(error) / max(float(variance_of(wanted)), 1e-30)


def takes_logits(loss: Any) -> bool:
    """Whether a loss, of a run or any function, is one of aerun's kind that is given logits."""
    return bool(getattr(loss, "takes_logits", False))


def loss_rise(loss: Any, targets: Tensor) -> float | None:
    """How much of a loss is the order of the images: 0 for one that compares every output with every target, as
    [B,1,...] against [B,...] broadcast does."""
    prediction = (targets.clamp(0.02, 0.98)).logit() if takes_logits(loss) else targets
    right, wrong = (float(loss(prediction, wanted)) for wanted in (targets, targets.roll(1, 0)))
    return (wrong - right) / max(abs(wrong), abs(right), 1e-30)


@torch.no_grad()
def latent_of(model: Autoencoder, inputs: Tensor, targets: Tensor, loss: Any = None) -> Latent | None:
    """KL divergence and spread of the means of each dimension of a Gaussian latent; None for any other."""
    was_training = model.training
    model.eval()
    features, _ = model.sparsity(model.encoder(model.standardise_input(inputs)), False)
    posterior = model.latent.posterior(features)
    _, terms = model.latent(features, None)
    model.train(was_training)
    if posterior is None:
        return None
    mean, log_variance = (part.flatten(1) for part in posterior)
    kl = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).mean(0)
    beta = None
    for term in terms:
        if isinstance(term, Penalty) and term.name == "kl" and loss is not None:
            scale = loss.scale(targets[0].numel())
            beta = term.weight * (1.0 if term.per_image else 1.0 / scale)
    return Latent(tuple(kl.tolist()), tuple(mean.var(0).tolist()), beta)
