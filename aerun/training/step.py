"""One update of the weights: prepare the batch, compute gradients, update.

A step is a function of tensors, random numbers and its own number. It reads no value of a tensor, so it never waits for
the device, and can be compiled or recorded as a CUDA graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import Optimizer

from aerun.base.precision import Precision, autocast
from aerun.base.seeding import Randomness
from aerun.base.speed import eager_step
from aerun.core.autoencoder import LABELS, LATENT, SECOND_VIEW, Extras, objective
from aerun.dataset.binarize import sample_binary
from aerun.dataset.data import Batch, Split, as_float
from aerun.model.modules import Constrained
from aerun.training.cuda_graph import Recorded, record_on_cuda
from aerun.training.parts import Parts, Update
from aerun.training.scheduled import Scheduled

Gradients = Callable[[Tensor, Tensor, Extras], Update]


def make_step(
    parts: Parts,
    *,
    learning_rate: Callable[[int], float],
    total_steps: int | None = None,
    steps_per_epoch: int = 1,
    begun: int = 0,
    precision: Precision = "float32",
    compiled: bool = False,
    graph: Literal["auto"] | bool = False,
    clip_norm: float | None = None,
    clip_value: float | None = None,
) -> TrainingStep:
    """The training step for ``parts``.

    ``learning_rate``: step number -> factor on the base rate. ``total_steps``: planned steps, None for no planned end;
    the first has the number ``begun``. With ``graph``, everything after ``prepare`` is recorded once and replayed, on a
    CUDA device.
    """
    scheduled = Scheduled(parts, total_steps, steps_per_epoch, begun)
    gradients = make_gradients(parts, precision, compiled, clip_norm, clip_value, cached=not graph, scheduled=scheduled)
    return TrainingStep(parts, gradients, learning_rate, scheduled, graph)


class TrainingStep:
    """``step(batch, number)``: prepare, gradients, update, in that order."""

    def __init__(
        self,
        parts: Parts,
        gradients: Gradients,
        learning_rate: Callable[[int], float],
        scheduled: Scheduled,
        graph: Literal["auto"] | bool,
    ) -> None:
        self.gradients, self.update = gradients, constrained(parts)
        self._parts, self._learning_rate, self._scheduled = parts, learning_rate, scheduled
        self._random = Randomness(parts.seed, parts.device)
        # A recorded update reads its learning rate from a tensor, which not every optimizer supports.
        is_recordable = all("capturable" in group for group in parts.optimizer.param_groups)
        self._rates = LearningRates(parts.optimizer, recorded=bool(graph) and is_recordable)
        if graph:
            self._record(parts, is_recordable, must_succeed=graph is True)

    def __call__(self, batch: Batch, number: int) -> Update:
        """Make update ``number``, from 0, on ``batch``."""
        inputs, targets, extras = self.prepare(batch, number)
        self._rates.set(self._learning_rate(number))
        if self._scheduled.changes:
            self._scheduled.set(number)
        result = self.gradients(inputs, targets, extras)
        self.update()
        return result

    def prepare(self, batch: Batch, number: int) -> tuple[Tensor, Tensor, Extras]:
        """Inputs, targets and extras, such as random numbers; with several processes, those of the local rows.

        All random numbers are drawn here, by the step's number, and in every process for the whole minibatch.
        """
        parts, random = self._parts, self._random
        labels, batch = batch.labels, augment_batch(batch, parts.data.train, random, number)
        noisy, targets = batch.inputs, batch.targets
        noise = self._scheduled.noise_at(number) if self._scheduled.changes else parts.noise
        if not noise.is_identity:
            clean = as_float(batch.inputs)
            targets = clean if targets is batch.inputs else targets
            noisy = noise(clean, random.at("noise", number))
        extras = parts.autoencoder.draw_extras(len(batch), lambda name: random.at(name, number))
        if parts.autoencoder.two_views:
            view = parts.autoencoder.view_noise(noise)
            extras[SECOND_VIEW] = view(as_float(batch.inputs), random.at(SECOND_VIEW, number))
        if parts.autoencoder.condition is not None and labels is not None:
            extras[LABELS] = labels
        return (noisy, targets, extras) if parts.shares is None else parts.shares.local_rows(noisy, targets, extras)

    def _record(self, parts: Parts, with_update: bool, must_succeed: bool) -> None:
        """Record the gradients on their first call, and the update with them if possible."""
        gradients, update = self.gradients, self.update

        def both(inputs: Tensor, targets: Tensor, extras: Extras) -> Update:
            result = gradients(inputs, targets, extras)
            update()
            return result

        recorded, parameters = both if with_update else gradients, list(parts.autoencoder.parameters())
        self.gradients = Recorded(recorded, record_on_cuda, parameters, must_succeed, self._rates.release)
        if with_update:
            self.update = lambda: None


def constrained(parts: Parts) -> Callable[[], object]:
    """The optimizer's step, without torch's wrappers; then layers with a constraint restore it."""
    update = eager_step(parts.optimizer)
    layers = [layer for layer in parts.autoencoder.modules() if isinstance(layer, Constrained)]

    def both() -> None:
        update()
        for layer in layers:
            layer.constrain()

    return both if layers else update


def augment_batch(batch: Batch, part: Split, random: Randomness, number: int) -> Batch:
    """The batch as step ``number`` sees it: binary images sampled from gray ones, or augmented images."""
    if part.binarise:
        images = sample_binary(batch.inputs, random.at("binarise", number))
        batch = Batch(images, images)
    if part.augment:
        batch = Batch(*part.augment(batch.inputs, batch.targets, random.at("augment", number)))
    return batch


def make_gradients(
    parts: Parts,
    precision: Precision,
    compiled: bool,
    clip_norm: float | None,
    clip_value: float | None,
    cached: bool,
    scheduled: Scheduled | None = None,
) -> Gradients:
    """Return the function that computes gradients into ``.grad``: forward pass, loss terms, backward pass, clipping.

    Its inputs and targets are uint8 or float, as stored, and the same tensor if they are equal. Terms include the
    scheduled values of keys.
    """
    autoencoder, shares = parts.autoencoder, parts.shares
    loss, logged = (parts.loss, {}) if scheduled is None else (scheduled.loss, scheduled.logged)
    parameters = list(autoencoder.parameters())
    forward = parts.ranks.parallel(autoencoder, torch.compile(autoencoder) if compiled else autoencoder, loss)
    casting = autocast(precision, parts.device, cached)

    def gradients(inputs: Tensor, targets: Tensor, extras: Extras) -> Update:
        images = as_float(inputs)
        clean = images if targets is inputs else as_float(targets)
        with casting:
            result = forward(images, {name: extras[name] for name in (LATENT, LABELS) if name in extras})
        terms = objective(result, clean, autoencoder, loss, extras)
        for parameter in parameters:
            parameter.grad = None
        (terms["loss"] if shares is None else shares.scale_loss(terms["loss"])).backward()
        norm = None
        if clip_norm is not None:
            norm = clip_grad_norm_(parameters, clip_norm)
        if clip_value is not None:
            clip_grad_value_(parameters, clip_value)
        # Copies: a value changes in place before the next step.
        values = {key: value.to(terms["loss"].dtype, copy=True) for key, value in logged.items()}
        terms = {name: term.detach() for name, term in terms.items()}
        update = Update(terms | values, result.code.detach(), norm)
        return update if shares is None else shares.local_update(update)

    return gradients


class LearningRates:
    """Sets an optimizer's learning rates. If the update is ``recorded`` they are tensors: a replay reads the value of a
    tensor, but repeats a recorded number."""

    def __init__(self, optimizer: Optimizer, recorded: bool) -> None:
        self._groups, self._recorded, self._multiplier = optimizer.param_groups, recorded, math.nan
        if not recorded:
            return
        self._before = [group["capturable"] for group in self._groups]
        for group in self._groups:
            group["capturable"] = True
            group["lr"] = torch.tensor(float(group["lr"]), device=group["params"][0].device)
        # In a resumed run the optimizer may have its step count on the host.
        for parameter, state in optimizer.state.items():
            if isinstance(state.get("step"), Tensor):
                state["step"] = state["step"].to(parameter.device, torch.float32)

    def release(self) -> None:
        """Use numbers again, because recording failed."""
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


def gradient_norm(parts: Parts) -> float:
    """Euclidean norm of all present gradients."""
    gradients = [p.grad for p in parts.autoencoder.parameters() if p.grad is not None]
    return float(torch.stack(torch._foreach_norm(gradients)).norm()) if gradients else 0.0
