"""Model, images and logs -> the evidence."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from aerun.config.deferred import couples_weight_decay
from aerun.contracts import Noise
from aerun.core.autoencoder import Autoencoder
from aerun.dataset.data import Split, head
from aerun.doctor.curve import curve_of
from aerun.doctor.examination import Examination, Frozen, Options, Outputs
from aerun.doctor.images import count_of, fit_of, latent_of, outputs_of, pairing_of, takes_logits
from aerun.doctor.layers import layers_of
from aerun.doctor.options import options_of_parts
from aerun.doctor.recorded import pca_explained, penalty_of
from aerun.metrics.evaluation import corrupted_batches
from aerun.training.parts import Parts


def examine(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor | None = None,
    *,
    clean: Tensor | None = None,
    train: tuple[Tensor, Tensor] | None = None,
    loss: Any = None,
    lines: Sequence[Mapping[str, Any]] = (),
    options: Options | None = None,
    pca: float | None = None,
) -> Examination:
    """The evidence of a model, an ``aerun.core.autoencoder.Autoencoder`` or any module from images to images, of
    inputs[N,...] as the model sees them and targets[N,...] (the inputs, if none are given).

    ``clean``: the inputs before any noise. ``train``: inputs and targets that were trained on, to look for
    over-fitting. ``loss``: the run's. ``lines``: of metrics.jsonl. ValueError for outputs of another shape than the
    targets'.
    """
    options = options or options_of(model)
    targets = inputs if targets is None else targets
    fit, outputs = fit_of(model, inputs, targets, train)
    missing = [] if lines else ["the course of the training: there is no metrics.jsonl"]
    logits = takes_logits(loss)
    ranges: Outputs | None = outputs_of(model, inputs, outputs, targets, logits)
    ours = model if isinstance(model, Autoencoder) else None
    return Examination(
        code_values=None if ours is None else math.prod(ours.code_shape),
        input_values=inputs[0].numel(),
        fit=fit,
        pca_explained=pca,
        outputs=ranges,
        pairing=pairing_of(inputs if clean is None else clean, targets, loss),
        latent=None if ours is None else latent_of(ours, inputs, targets, loss),
        layers=tuple(layers_of(model, inputs)),
        curve=curve_of(lines, penalty_of(options)) if lines else None,
        options=options,
        frozen=None if ours is None else frozen_layers(ours),
        missing=tuple(missing),
    )


def frozen_layers(model: Autoencoder) -> Frozen | None:
    """What is not trained though the model itself would train it."""
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    frozen = [
        name for name, parameter in model.named_parameters() if not parameter.requires_grad and name not in model.fixed
    ]
    if not frozen:
        return None
    layers = tuple(dict.fromkeys(name.rpartition(".")[0] for name in frozen))
    return Frozen(layers, sum(sizes[name] for name in frozen) / sum(sizes.values()))


def examine_run(
    parts: Parts,
    lines: Sequence[Mapping[str, Any]],
    summary: Mapping[str, Any] | None = None,
) -> Examination:
    """The evidence of a run from its first validation images (training images, where there are none)."""
    data, noise = parts.data, parts.noise
    clean, inputs, targets = images_of(data.validation or data.train, noise)
    seen = None
    if data.validation is not None:
        _, *both = images_of(data.train, noise)
        seen = both[0], both[1]
    return examine(
        parts.autoencoder,
        inputs,
        targets,
        clean=clean,
        train=seen,
        loss=parts.loss,
        lines=lines,
        options=options_of(parts.autoencoder, noise, parts.optimizer),
        pca=pca_explained((summary or {}).get("baselines", {})),
    )


def images_of(part: Split, noise: Any) -> tuple[Tensor, Tensor, Tensor]:
    """The first images of a part: clean, as the model sees them, and targets."""
    shape = max(part.inputs.shape[1:], part.targets.shape[1:], key=math.prod)
    batches = list(corrupted_batches(head(part, count_of(tuple(shape))), noise))
    clean, noisy, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return clean, noisy, targets


def options_of(model: nn.Module, noise: Noise | None = None, optimizer: torch.optim.Optimizer | None = None) -> Options:
    """What the parts of a run have and declare, by the keys of a configuration; nothing for a model of another kind."""
    if not isinstance(model, Autoencoder):
        return Options()
    if optimizer is None:
        return options_of_parts(model.sparsity, model.latent, noise)
    first = optimizer.param_groups[0]
    coupled = couples_weight_decay(type(optimizer), {**optimizer.defaults, **first})
    options = options_of_parts(model.sparsity, model.latent, noise, coupled)
    rates = {"optimizer.lr": float(first["initial_lr"]), "optimizer.weight_decay": first.get("weight_decay", 0.0)}
    return dataclasses.replace(options, values={**options.values, **rates})
