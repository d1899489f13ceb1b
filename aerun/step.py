"""One update of the weights.

A step is a function of tensors, random numbers and its own number. It never waits for the device: no value of a
tensor is looked at here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import Optimizer

from aerun.autoencoder import Autoencoder
from aerun.batches import Batch
from aerun.dataset.base import Data, as_float
from aerun.lean import eager_step
from aerun.objective import objective
from aerun.scheduler import Scheduler
from aerun.seeding import Randomness


class Update(NamedTuple):
    """What a step tells, detached, on the device: loss terms by name, codes [B,...], and the gradient norm before
    clipping where there is clipping (otherwise the gradients are there to be measured)."""

    terms: dict[str, Tensor]
    code: Tensor
    norm: Tensor | None


# (batch, number of the step) -> what it did
Step = Callable[[Batch, int], Update]


@dataclass
class Parts:
    """What a run trains, and with what."""

    autoencoder: Autoencoder
    data: Data
    noise: Any
    loss: Any
    optimizer: Optimizer
    scheduler: Scheduler
    seed: int

    @property
    def device(self) -> torch.device:
        """Where the run computes."""
        return self.autoencoder.device


def make_step(
    parts: Parts,
    *,
    learning_rate: Callable[[int], float],
    precision: str = "float32",
    compiled: bool = False,
    clip_norm: float | None = None,
    clip_value: float | None = None,
) -> Step:
    """The update for ``parts``; ``learning_rate`` gives the multiplier of the base rate for a step's number."""
    autoencoder, noise, optimizer, device = parts.autoencoder, parts.noise, parts.optimizer, parts.device
    forward: Callable[..., Any] = torch.compile(autoencoder) if compiled else autoencoder
    random = Randomness(parts.seed, device)
    parameters = list(autoencoder.parameters())
    update = eager_step(optimizer)
    autocast: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
    if precision == "bfloat16":
        autocast = torch.autocast(device.type, torch.bfloat16)

    def step(batch: Batch, number: int) -> Update:
        images = as_float(batch.inputs)
        targets = images if batch.targets is batch.inputs else as_float(batch.targets)
        noisy = images if noise.is_identity else noise(images, random.at("noise", number))
        with autocast:
            result = forward(noisy, autoencoder.draw(len(batch), random.at("latent", number)))
        terms = objective(result, targets, autoencoder, parts.loss)

        for parameter in parameters:
            parameter.grad = None
        terms["loss"].backward()
        norm = None
        if clip_norm is not None:
            norm = clip_grad_norm_(parameters, clip_norm)
        if clip_value is not None:
            clip_grad_value_(parameters, clip_value)
        multiplier = learning_rate(number)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * multiplier
        update()
        return Update({name: term.detach() for name, term in terms.items()}, result.code.detach(), norm)

    return step


def gradient_norm(autoencoder: Autoencoder) -> float:
    """Euclidean norm over all gradients as they are."""
    gradients = [p.grad for p in autoencoder.parameters() if p.grad is not None]
    return float(torch.stack(torch._foreach_norm(gradients)).norm()) if gradients else 0.0
