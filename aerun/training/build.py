"""From settings to objects that can train, on a device."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import os
from typing import Any

import torch

from aerun.base.device import choose_device, default_threads, nodes
from aerun.base.precision import choose_precision
from aerun.base.seeding import seed_everything
from aerun.base.speed import keep_freed_memory, spare_compiler
from aerun.config.settings import Settings
from aerun.core.autoencoder import Autoencoder, Standardise
from aerun.core.nested import freeze
from aerun.core.output_bias import begin_at_mean
from aerun.dataset.data import CHUNK, Data
from aerun.errors import ConfigError
from aerun.metrics.evaluation import in_unit_range
from aerun.protocol.ask import refuse
from aerun.trainer import Greedy
from aerun.training.cuda_graph import wants_recording
from aerun.training.parts import Parts
from aerun.training.stages import Stages, epochs_of


def build_parts(settings: Settings, data: Data, device: torch.device) -> Parts:
    """Everything that a run trains, and with what. ConfigError for what the data do not allow."""
    check_data(settings, data)
    autoencoder = build_autoencoder(settings, data)
    if getattr(settings.model, "output_bias", "init") == "mean":
        begin_at_mean(autoencoder, data.train.targets, _output_activation(settings))
    autoencoder = autoencoder.to(device)
    if settings.trainer.channels_last:
        autoencoder = autoencoder.to(memory_format=torch.channels_last)
    refuse(settings.protocol, data, autoencoder)
    optimizer = build_optimizer(settings, autoencoder)
    scheduler = copy.deepcopy(settings.scheduler)  # it keeps count; settings stay what they are
    parts = Parts(autoencoder, data, settings.noise, settings.loss, optimizer, scheduler, settings.seed)
    if isinstance(settings.trainer, Greedy):
        parts.stages = build_stages(settings, settings.trainer, parts)
    return parts


def build_stages(settings: Settings, trainer: Greedy, parts: Parts) -> Stages:
    """What each stage of a greedy run trains. ConfigError for what one of them cannot."""
    own = settings.stage_optimizers
    epochs = epochs_of(trainer, own, parts.autoencoder, settings.name("model"))
    factories = own if len(own) > 1 else (own or [settings.optimizer]) * len(epochs)

    def optimizer(number: int, autoencoder: Autoencoder) -> torch.optim.Optimizer:
        return build_optimizer(settings, autoencoder, [*factories, settings.optimizer][number - 1])

    scheduler = functools.partial(copy.deepcopy, settings.scheduler)
    stages = Stages(trainer, settings.freeze, optimizer, scheduler, parts, epochs)
    stages.check()
    return stages


def prepare(settings: Settings, rank: int | None = None) -> torch.device:
    """Choose the device, and put torch's process-wide state where this run wants it, whatever ran before.

    ``rank``: the number, on this machine, of this one of several processes that train the run.
    """
    device = choose_device(settings.trainer.device)
    if rank is not None and device.type == "cuda":
        device = torch.device("cuda", rank)
    if device.index is not None:
        torch.cuda.set_device(device)  # recordings and streams are made on the current one
    here = math.ceil(settings.trainer.processes / nodes(os.environ))
    torch.set_num_threads(settings.trainer.threads or max(1, default_threads() // here))
    deterministic = settings.trainer.deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if deterministic != torch.are_deterministic_algorithms_enabled():
        # Not called for nothing: it imports torch's compiler, which takes as long as torch itself.
        torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic
    choose_precision(settings.trainer.precision, device)
    wants_recording(settings.trainer.graph, device, settings.trainer.processes)
    spare_compiler(not settings.trainer.compile)
    keep_freed_memory()
    seed_everything(settings.seed)
    return device


def check_data(settings: Settings, data: Data) -> None:
    """Refuse what only the data can tell. ConfigError names the key."""
    for group, shape in (("loss", data.output_shape), ("noise", data.input_shape)):
        check_shape = getattr(getattr(settings, group), "check_shape", None)
        if check_shape is not None:
            try:
                check_shape(shape)
            except ValueError as error:
                raise ConfigError(f"{settings.name(group)} and {settings.name('dataset')}: {error}") from error
    if settings.loss.takes_logits or getattr(settings.loss, "needs_unit_range", False):
        for split in (data.train, data.validation or data.train, data.test):
            if split.targets.dtype != torch.uint8 and not in_unit_range(split.targets):
                ends = [(float(chunk.min()), float(chunk.max())) for chunk in split.targets.split(CHUNK)]
                low, high = min(low for low, _ in ends), max(high for _, high in ends)
                raise ConfigError(
                    f"{settings.name('loss')}: needs targets in [0,1], the data reach from {low:g} to {high:g}"
                )


def build_autoencoder(settings: Settings, data: Data) -> Autoencoder:
    """The model of ``settings`` for the shape of ``data``, with fresh weights from torch's global generator."""
    model, latent, sparsity = settings.model, settings.latent, settings.sparsity
    try:
        codec = model.build(data.input_shape, data.output_shape, latent.parameters_per_code)
    except (RuntimeError, MemoryError) as error:
        raise ConfigError(
            f"{settings.name('model')}: cannot be built ({' '.join(str(error).split())[:200]})"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{settings.name('model')} and {settings.name('dataset')}: {error}") from error
    k = getattr(sparsity, "k", None)
    if k is not None and k > (available := math.prod(codec.code_shape[1:] or codec.code_shape)):
        where = "positions of each channel" if codec.code_shape[1:] else "units"
        raise ConfigError(
            f"{settings.name('model')} and {settings.name('sparsity')}: sparsity.k={k}, but the code, "
            f"{list(codec.code_shape)}, has only {available} {where}; use sparsity.k={available} or less"
        )
    _refuse_batch_statistics(settings, codec.encoder, codec.decoder)
    if latent.parameters_per_code > 1:
        # Means and log-variances are read off the linear features; the code has no nonlinearity of its own.
        sparsity = dataclasses.replace(sparsity, activation="identity")
    autoencoder = Autoencoder(
        codec.encoder,
        codec.decoder,
        input_shape=data.input_shape,
        output_shape=data.output_shape,
        code_shape=codec.code_shape,
        sparsity=sparsity,
        latent=latent,
        output_activation=_output_activation(settings),
        standardise_input=Standardise(*(data.input_statistics or ())),
        standardise_target=Standardise(*(data.target_statistics or ())),
        cuts=codec.cuts,
    )
    freeze(autoencoder, settings.freeze)
    return autoencoder


def _output_activation(settings: Settings) -> str:
    """A loss that takes logits has the output be their sigmoid."""
    return "sigmoid" if settings.loss.takes_logits else getattr(settings.model, "output_activation", "identity")


def _refuse_batch_statistics(settings: Settings, *modules: torch.nn.Module) -> None:
    """Of several processes each sees a part of a minibatch, whose statistics are others."""
    processes = settings.trainer.processes
    for layer in (layer for module in modules for layer in module.modules() if processes > 1):
        instance = isinstance(layer, torch.nn.modules.instancenorm._InstanceNorm)
        if isinstance(layer, torch.nn.modules.batchnorm._NormBase) and (layer.track_running_stats or not instance):
            raise ConfigError(
                f"{settings.name('model')} and trainer.processes={processes}: {type(layer).__name__} takes statistics "
                "of a minibatch, of which each process sees a part; use GroupNorm or LayerNorm, or one process"
            )


def build_optimizer(settings: Settings, autoencoder: Autoencoder, factory: Any = None) -> torch.optim.Optimizer:
    """The optimizer (or another by ``factory``) of all that is not frozen, its groups' base rates noted as
    ``initial_lr``."""
    factory = factory or settings.optimizer
    trained = [parameter for parameter in autoencoder.parameters() if parameter.requires_grad]
    try:
        optimizer: torch.optim.Optimizer = (
            factory(trained) if isinstance(factory, functools.partial) else factory.build(trained)
        )
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"optimizer: {error}") from error
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer
