"""A model or a run, with images and logs -> the evidence."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from aerun.config.deferred import couples_weight_decay
from aerun.contracts import Noise
from aerun.core.autoencoder import Autoencoder
from aerun.dataset.data import Split, spread
from aerun.doctor.examination import MIN_IMAGES, Examination, Frozen, Options
from aerun.doctor.file_evidence import codebook_of_lines, pca_explained, penalty_of, samples_of
from aerun.doctor.image_evidence import (
    count_images,
    measure_fit,
    measure_latent,
    measure_outputs,
    measure_pairing,
    offset_of,
    takes_logits,
)
from aerun.doctor.layer_units import measure_layers
from aerun.doctor.loss_curve import measure_curve
from aerun.doctor.part_options import options_of_parts, values_of_config
from aerun.metrics.evaluation import corrupted_batches
from aerun.training.parts import Parts

BUILT_GROUPS = ("sparsity.", "latent.")  # prefixes of the keys of parts that may build modules


def examine(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor | None = None,
    *,
    clean: Tensor | None = None,
    train: tuple[Tensor, Tensor] | None = None,
    labels: tuple[Tensor | None, Tensor | None] = (None, None),
    loss: Any = None,
    lines: Sequence[Mapping[str, Any]] = (),
    options: Options | None = None,
    pca: float | None = None,
) -> Examination:
    """The evidence on a model, an ``aerun.core.autoencoder.Autoencoder`` or any module from images to images, from
    inputs[N,...] as the model sees them and targets[N,...] (by default the inputs).

    ``clean``: the inputs before noise was added. ``train``: inputs and targets that the model was trained on, to detect
    over-fitting. ``labels``: of ``inputs`` and of ``train``, which a conditional model needs. ``loss``: the run's loss.
    ``lines``: of metrics.jsonl. ``pca``: share of the variance that PCA explains. ValueError if outputs and targets
    differ in shape. Fewer than MIN_IMAGES images are not examined.
    """
    options = options or options_of(model)
    targets = inputs if targets is None else targets
    missing = [] if lines else ["the course of the training: there is no metrics.jsonl"]
    curve = measure_curve(lines, penalty_of(options)) if lines else None
    if len(inputs) < MIN_IMAGES:
        missing.append(f"model and images: {len(inputs)} images are too few, at least {MIN_IMAGES} are needed")
        return Examination(curve=curve, options=options, missing=tuple(missing))
    fit, outputs = measure_fit(model, inputs, targets, train, labels)
    autoencoder = model.given(labels[0]) if isinstance(model, Autoencoder) else None
    model = autoencoder or model
    return Examination(
        code_values=None if autoencoder is None else math.prod(autoencoder.code_shape),
        input_values=inputs[0].numel(),
        input_offset=offset_of(inputs),
        fit=fit,
        pca_explained=pca,
        outputs=measure_outputs(model, inputs, outputs, targets, takes_logits(loss)),
        pairing=measure_pairing(inputs if clean is None else clean, targets, loss),
        latent=None if autoencoder is None else measure_latent(autoencoder, inputs, targets, loss),
        codebook=codebook_of_lines(lines),
        layers=tuple(measure_layers(model, inputs)),
        curve=curve,
        options=options,
        frozen=None if autoencoder is None else frozen_layers(autoencoder),
        missing=tuple(missing),
    )


def frozen_layers(model: Autoencoder) -> Frozen | None:
    """The frozen layers, except those that the model itself never trains; None if there are none."""
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
    config: Mapping[str, Any] | None = None,
    typed: Collection[str] = (),
) -> Examination:
    """The evidence on a run from its first validation images, or training images if there are too few of them.

    ``config``, ``typed``: see ``Options``.
    """
    data, noise = parts.data, parts.noise
    validation = data.validation if data.validation is not None and len(data.validation) >= MIN_IMAGES else None
    clean, inputs, targets, labels = first_images(validation or data.train, noise)
    train = train_labels = None
    if validation is not None:
        _, train_inputs, train_targets, train_labels = first_images(data.train, noise)
        train = train_inputs, train_targets
    examination = examine(
        parts.autoencoder,
        inputs,
        targets,
        clean=clean,
        train=train,
        labels=(labels, train_labels),
        loss=parts.loss,
        lines=lines,
        options=options_of(parts.autoencoder, noise, parts.optimizer, config, typed),
        pca=pca_explained((summary or {}).get("baselines", {})),
    )
    return dataclasses.replace(examination, samples=samples_of((summary or {}).get("test", {})))


def first_images(part: Split, noise: Any) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Images of a part, at even distances: clean inputs, inputs as the model sees them, targets, and labels."""
    shape = max(part.inputs.shape[1:], part.targets.shape[1:], key=math.prod)
    first = spread(part, count_images(tuple(shape)))
    clean, noisy, targets = (torch.cat(parts) for parts in zip(*corrupted_batches(first, noise), strict=True))
    return clean, noisy, targets, first.labels


def options_of(
    model: nn.Module,
    noise: Noise | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    config: Mapping[str, Any] | None = None,
    typed: Collection[str] = (),
) -> Options:
    """The options of the parts that the run consists of, and of its configuration, if given; none for a model that is
    not an Autoencoder."""
    if not isinstance(model, Autoencoder):
        return Options()
    if optimizer is None:
        return options_of_parts(model.sparsity, model.latent, noise)
    group = optimizer.param_groups[0]
    coupled_decay = couples_weight_decay(type(optimizer), {**optimizer.defaults, **group})
    options = options_of_parts(model.sparsity, model.latent, noise, coupled_decay)
    rates = {"optimizer.lr": float(group["initial_lr"]), "optimizer.weight_decay": group.get("weight_decay", 0.0)}
    known = {key: rate for key, rate in rates.items() if config is None or key in values_of_config(config)}
    # A part that has built a module is known by its configuration.
    of_code = {key: value for key, value in values_of_config(config or {}).items() if key.startswith(BUILT_GROUPS)}
    return dataclasses.replace(options, values={**of_code, **options.values, **known}, config=config, typed=typed)
