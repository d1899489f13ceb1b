"""One update of the weights.

A step is a function of tensors, random numbers and its own number. It never waits for the device: no value of a
tensor is looked at here. That is why the same step runs as it stands, compiled, or recorded as a CUDA graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import Optimizer

from aerun.base.precision import Precision, autocast
from aerun.base.seeding import Randomness
from aerun.base.speed import eager_step
from aerun.core.autoencoder import Autoencoder
from aerun.core.objective import objective
from aerun.dataset.binarize import sample_binary
from aerun.dataset.data import Batch, Split, as_float
from aerun.training.cuda_graph import Recorded, record_on_cuda
from aerun.training.parts import Parts, Step, Update

if TYPE_CHECKING:
    pass


def make_step(
    parts: Parts,
    *,
    learning_rate: Callable[[int], float],
    total_steps: int | None = None,
    begun: int = 0,
    precision: Precision = "float32",
    compiled: bool = False,
    graph: Literal["auto"] | bool = False,
    clip_norm: float | None = None,
    clip_value: float | None = None,
) -> Step:
    """The update for ``parts``; ``learning_rate`` gives the multiplier of the base rate for a step's number, of
    ``total_steps`` of the run (None: a run without end), or of a stage whose first step has the number ``begun``.

    With ``graph`` all that comes after the random numbers is recorded once and replayed, on a CUDA device.
    """
    autoencoder, noise, optimizer, ranks = parts.autoencoder, parts.noise, parts.optimizer, parts.ranks
    random = Randomness(parts.seed, parts.device)
    criterion = Criterion(parts.loss, parts.device, total_steps)
    gradients = gradients_of(parts, precision, compiled, clip_norm, clip_value, cached=not graph, loss=criterion.loss)
    update = eager_step(optimizer)
    whole = not graph or all("capturable" in group for group in optimizer.param_groups)
    draws = autoencoder.draw(1, random.at("latent", 0)) is not None
    rates = Rates(optimizer, recorded=bool(graph) and whole)

    def compute(inputs: Tensor, targets: Tensor, draw: Tensor | None) -> Update:
        result = gradients(inputs, targets, draw)
        if whole:
            update()
        return result

    run: Callable[[Tensor, Tensor, Tensor | None], Update] = compute
    if graph:
        run = Recorded(compute, record_on_cuda, list(autoencoder.parameters()), graph is True, rates.release)

    def step(batch: Batch, number: int) -> Update:
        ranks.begin(len(batch))
        batch = anew(batch, parts.data.train, random, number)
        same = batch.targets is batch.inputs
        # What is random is drawn for the whole minibatch, whoever computes which of its rows.
        if noise.is_identity:
            inputs = ranks.own(batch.inputs)
            targets = inputs if same else ranks.own(batch.targets)
        else:
            clean = as_float(batch.inputs)
            inputs = ranks.own(noise(clean, random.at("noise", number)))
            targets = ranks.own(clean if same else batch.targets)
        draw = autoencoder.draw(len(batch), random.at("latent", number)) if draws else None
        rates.set(learning_rate(number))
        criterion.set(number - begun)
        result = run(inputs, targets, None if draw is None else ranks.own(draw))
        if not whole:
            update()
        return result

    return step


def anew(batch: Batch, part: Split, random: Randomness, number: int) -> Batch:
    """The batch as step ``number`` sees it: binary images drawn from grey ones, or images mirrored and cut."""
    if part.binarise:
        images = sample_binary(batch.inputs, random.at("binarise", number))
        batch = Batch(images, images)
    if part.augment:
        batch = Batch(*part.augment(batch.inputs, batch.targets, random.at("augment", number)))
    return batch


def gradients_of(
    parts: Parts,
    precision: Precision,
    compiled: bool,
    clip_norm: float | None,
    clip_value: float | None,
    cached: bool,
    loss: Any = None,
) -> Callable[[Tensor, Tensor, Tensor | None], Update]:
    """From a batch to the gradients in ``.grad``: forward pass, loss terms, backward pass, clipping.

    Inputs and targets are as stored, uint8 or float, the same tensor where nothing tells them apart. ``loss``: what is
    minimised, where that is not the loss of ``parts`` as it stands.
    """
    autoencoder, ranks = parts.autoencoder, parts.ranks
    loss = parts.loss if loss is None else loss
    parameters = list(autoencoder.parameters())
    forward = ranks.parallel(autoencoder, torch.compile(autoencoder) if compiled else autoencoder)
    casting = autocast(precision, parts.device, cached)

    def gradients(inputs: Tensor, targets: Tensor, draw: Tensor | None) -> Update:
        images = as_float(inputs)
        clean = images if targets is inputs else as_float(targets)
        with casting:
            result = forward(images, draw)
        terms = objective(result, clean, autoencoder, loss)
        for parameter in parameters:
            parameter.grad = None
        ranks.weighted(terms["loss"]).backward()
        norm = None
        if clip_norm is not None:
            norm = clip_grad_norm_(parameters, clip_norm)
        if clip_value is not None:
            clip_grad_value_(parameters, clip_value)
        parted = {name: ranks.part(term.detach()) for name, term in terms.items()}
        return Update(parted, ranks.counted(result.code.detach()), norm)

    return gradients


class Rates:
    """An optimizer's learning rates. Where the update is ``recorded`` they are tensors: a number would be recorded as
    it is, a tensor is read at every replay."""

    def __init__(self, optimizer: Optimizer, recorded: bool) -> None:
        self._groups, self._recorded, self._multiplier = optimizer.param_groups, recorded, math.nan
        if not recorded:
            return
        self._before = [group["capturable"] for group in self._groups]
        for group in self._groups:
            group["capturable"] = True
            group["lr"] = torch.tensor(float(group["lr"]), device=group["params"][0].device)
        # Of a run that is continued the count of steps may have stayed on the host.
        for parameter, state in optimizer.state.items():
            if isinstance(state.get("step"), Tensor):
                state["step"] = state["step"].to(parameter.device, torch.float32)

    def release(self) -> None:
        """Numbers again, where nothing is recorded after all."""
        if self._recorded:
            self._recorded = False
            for group, before in zip(self._groups, self._before, strict=True):
                group["capturable"], group["lr"] = before, group["initial_lr"] * self._multiplier

    def set(self, multiplier: float) -> None:
        """Give every group its base rate times ``multiplier``."""
        if self._recorded and multiplier == self._multiplier:
            return
        self._multiplier = multiplier
        for group in self._groups:
            rate = group["initial_lr"] * multiplier
            if self._recorded:
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate


class Criterion:
    """The ``loss`` to minimise. Of one that changes in the course of a run (``while_training``) a tensor changes,
    set from the step's number alone: a recorded step reads it at every replay, a continued run finds it again."""

    def __init__(self, loss: Any, device: torch.device, total_steps: int | None) -> None:
        self._schedule, self._total = loss, total_steps
        self._share = torch.ones((), device=device) if hasattr(loss, "while_training") else None
        self._value = 1.0
        self.loss = loss if self._share is None else loss.while_training(self._share)

    def set(self, number: int) -> None:
        """Be what the step of that number minimises."""
        if self._share is None:
            return
        value = self._schedule.cross_entropy_share(number / self._total if self._total else 0.0)
        if value != self._value:
            self._value = value
            self._share.fill_(value)


def gradient_norm(autoencoder: Autoencoder) -> float:
    """Euclidean norm over all gradients as they are."""
    gradients = [p.grad for p in autoencoder.parameters() if p.grad is not None]
    return float(torch.stack(torch._foreach_norm(gradients)).norm()) if gradients else 0.0
