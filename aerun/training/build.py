"""Settings and data -> the objects that a run trains with, on a device."""

from __future__ import annotations

import copy
import math
import os
from typing import Any

import torch

from aerun.base.device import choose_device, default_threads, node_count
from aerun.base.precision import choose_precision
from aerun.base.seeding import seeded
from aerun.base.speed import keep_freed_memory, spare_compiler
from aerun.config.deferred import built
from aerun.config.settings import REGULARIZER, Settings
from aerun.contracts import Codec, Metric, Optimizer, Shape, TrainingData, complete, missing_names
from aerun.core.autoencoder import Autoencoder, Standardize
from aerun.core.nested import freeze
from aerun.dataset.data import CHUNK, Data, in_unit_range
from aerun.errors import ConfigError, nearest
from aerun.metrics.declared import BY_NAME, declared_by, find_metric
from aerun.training.cuda_graph import resolve_recording
from aerun.training.part_check import has_own_modules, name_of, try_noise_and_loss, try_pass
from aerun.training.parts import Parts


def build_parts(settings: Settings, data: Data, device: torch.device) -> Parts:
    """Build all objects of a run. ConfigError if the data do not fit the settings."""
    check_data(settings, data)
    with seeded(settings.seed):
        autoencoder = build_autoencoder(settings, data)
        noise, loss = (_on_device(built(part), device) for part in (settings.noise, settings.loss))
    autoencoder = autoencoder.to(device)
    if settings.trainer.channels_last:
        autoencoder = autoencoder.to(memory_format=torch.channels_last)
    try_noise_and_loss(settings, data, noise, loss, device)
    optimizer = build_optimizer(settings, autoencoder)
    scheduler = copy.deepcopy(settings.scheduler)  # it has state, and settings must not change
    monitor = monitored_metric(settings, data)
    schedules = list(settings.schedule.values())
    return Parts(
        autoencoder, data, noise, loss, optimizer, scheduler, settings.seed, monitor=monitor, schedules=schedules
    )


def _on_device(part: Any, device: torch.device) -> Any:
    """A loss or a noise, moved to the device if it is a module."""
    return part.to(device) if isinstance(part, torch.nn.Module) else part


def prepare(settings: Settings, rank: int | None = None) -> torch.device:
    """Choose the device, and set torch's process-wide state for this run.

    ``rank``: the rank of this process on this machine, if several processes train the run.
    """
    device = choose_device(settings.trainer.device)
    if rank is not None and device.type == "cuda":
        device = torch.device("cuda", rank)
    if device.index is not None:
        torch.cuda.set_device(device)  # CUDA graphs and streams use the current device
    local_processes = math.ceil(settings.trainer.processes / node_count(os.environ))
    torch.set_num_threads(settings.trainer.threads or max(1, default_threads() // local_processes))
    deterministic = settings.trainer.deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if deterministic != torch.are_deterministic_algorithms_enabled():
        # Called only if needed: it imports torch's compiler, which takes as long as importing torch.
        torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic
    choose_precision(settings.trainer.precision, device)
    resolve_recording(settings.trainer.graph, device, settings.trainer.processes)
    spare_compiler(not settings.trainer.compile)
    keep_freed_memory()
    torch.manual_seed(settings.seed)  # of a data set of the user's, and of what draws during the run
    return device


def check_data(settings: Settings, data: Data) -> None:
    """Check what depends on the data. ConfigError names the key."""
    monitored_metric(settings, data)
    views = {f"regularizer.{name}.views": part.views for name, part in settings.regularizer.items()}
    for name, part, shape in (
        (settings.name("loss"), settings.loss, data.output_shape),
        (settings.name("noise"), settings.noise, data.input_shape),
        *((name, noise, data.input_shape) for name, noise in views.items() if noise is not None),
    ):
        try:
            part.check_shape(shape)
        except ValueError as error:
            raise ConfigError(f"{name} and {settings.name('dataset')}: {error}") from error
    if settings.loss.takes_logits or settings.loss.needs_unit_range:
        for split in (data.train, data.validation or data.train, data.test):
            if split.targets.dtype != torch.uint8 and not in_unit_range(split.targets):
                ends = [(float(chunk.min()), float(chunk.max())) for chunk in split.targets.split(CHUNK)]
                low, high = min(low for low, _ in ends), max(high for _, high in ends)
                raise ConfigError(
                    f"{settings.name('loss')}: requires targets in [0,1]; the data range from {low:g} to {high:g}"
                )


def monitored_metric(settings: Settings, data: Data) -> Metric:
    """The metric that ``trainer.monitor`` names. ConfigError for a name that nobody declares, or without a validation
    part, where only the training loss is known."""
    name = settings.trainer.monitor
    declared = declared_by(settings.parts().values())
    metric = find_metric(name, declared)
    if metric is None:
        raise ConfigError(
            f"trainer.monitor={name}: no metric of that name is declared.{nearest(name, [*BY_NAME, *declared])}"
        )
    if data.validation is None and name != "loss":
        raise ConfigError(f"trainer.monitor={name}: needs a validation part, which {settings.name('dataset')} lacks")
    return Metric(name, metric.unit, metric.higher_is_better)


def build_autoencoder(settings: Settings, data: Data) -> Autoencoder:
    """The model of ``settings`` for the shape of ``data``, with new weights from torch's global generator.

    Users' classes are checked by one pass in evaluation mode. ConfigError for parts that do not fit together.
    """
    latent = settings.latent.for_data(TrainingData(data.input_shape, len(data.train)))
    sparsity = settings.sparsity
    codec = _build_codec(settings, data, latent.parameters_per_code)
    if latent.constrains_code:
        sparsity = sparsity.linear()  # such as means and log-variances, which are linear features
    for_code = {
        path: _build_for_code(settings, path, part, codec.code_shape)
        for path, part in {
            "sparsity": sparsity,
            "latent": latent,
            **{f"{REGULARIZER}.{name}": part for name, part in settings.regularizer.items()},
        }.items()
    }
    autoencoder = Autoencoder(
        codec.encoder,
        codec.decoder,
        input_shape=data.input_shape,
        output_shape=data.output_shape,
        code_shape=codec.code_shape,
        sparsity=for_code.pop("sparsity"),
        latent=for_code.pop("latent"),
        output_activation=output_activation(settings),
        standardise_input=Standardize(*(data.input_statistics or ())),
        standardise_target=Standardize(*(data.target_statistics or ())),
        cuts=codec.cuts,
        condition=codec.condition,
        regularizers={path.partition(".")[2]: part for path, part in for_code.items()},
    )
    constrained = settings.sparsity.constrains_code or settings.latent.constrains_code
    is_standardized = data.input_statistics is not None or data.target_statistics is not None
    autoencoder.any_size = codec.any_size and not (constrained or is_standardized)
    if has_own_modules(settings):
        try_pass(settings, autoencoder)
    if not any(parameter.requires_grad for parameter in autoencoder.parameters()):
        raise ConfigError(f"{name_of(settings, 'model')}: no parameters to train")
    freeze(autoencoder, settings.freeze)
    return autoencoder


def _build_codec(settings: Settings, data: Data, parameters_per_code: int) -> Codec:
    """Encoder and decoder, with what other parts of the run change in them."""
    try:
        codec = settings.model.build(data.input_shape, data.output_shape, parameters_per_code)
    except (RuntimeError, MemoryError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{settings.name('model')}: cannot be built ({reason})") from error
    except ValueError as error:
        raise ConfigError(f"{settings.name('model')} and {settings.name('dataset')}: {error}") from error
    if settings.model.condition != "none":
        codec = settings.model.conditional(codec, _label_count(settings, data))
    for name, part in settings.regularizer.items():
        try:
            part.change_networks(codec.encoder, codec.decoder)
        except ValueError as error:
            raise ConfigError(
                f"{settings.name(f'{REGULARIZER}.{name}')} and {settings.name('model')}: {error}"
            ) from error
    _check_batch_statistics(settings, codec.encoder, codec.decoder)
    if settings.model.linear_path != "none":
        from aerun.model.linear_path import add_linear_path

        try:
            return add_linear_path(codec, data.input_shape, data.output_shape, parameters_per_code)
        except ValueError as error:
            raise ConfigError(f"{settings.name('model')}: {error}") from error
    return codec


def _label_count(settings: Settings, data: Data) -> int:
    """The number of classes. ConfigError for data without labels."""
    if data.label_count is None:
        raise ConfigError(
            f"model.condition={settings.model.condition} and {settings.name('dataset')}: a conditional model needs the "
            "label of every image, and these data lack them; use model.condition=none"
        )
    return data.label_count


def _build_for_code(settings: Settings, path: str, part: Any, code_shape: Shape) -> Any:
    """The sparsity, latent or regularizer for codes of that shape: the part itself, or the module that it builds."""
    group = path.partition(".")[0]
    if group == REGULARIZER and not part.rowwise and settings.trainer.processes > 1:
        raise ConfigError(
            f"{name_of(settings, path)} and trainer.processes={settings.trainer.processes}: this penalty depends on "
            "all rows of a minibatch, of which each process has only a part; use one process"
        )
    try:
        part.check_code(code_shape)
        built = part.build(code_shape)
    except ValueError as error:
        raise ConfigError(f"{settings.name('model')} and {settings.name(path)}: {error}") from error
    missing = missing_names(type(built), group)
    if missing:
        raise ConfigError(f"{name_of(settings, path)}: build returns {type(built).__name__}, without {missing[0]}")
    complete(type(built), group)
    return built


def output_activation(settings: Settings) -> str:
    """The output activation: for a loss that takes logits, the sigmoid."""
    return "sigmoid" if settings.loss.takes_logits else settings.model.output_activation


def _check_batch_statistics(settings: Settings, *modules: torch.nn.Module) -> None:
    """ConfigError for batch statistics with several processes, each of which computes them over a part of the
    minibatch."""
    processes = settings.trainer.processes
    for layer in (layer for module in modules for layer in module.modules() if processes > 1):
        if not isinstance(layer, torch.nn.modules.batchnorm._NormBase) or not layer.training:
            continue  # that of a pretrained network uses its own statistics
        is_instance_norm = isinstance(layer, torch.nn.modules.instancenorm._InstanceNorm)
        if layer.track_running_stats or not is_instance_norm:
            raise ConfigError(
                f"{settings.name('model')} and trainer.processes={processes}: {type(layer).__name__} uses statistics "
                "of the minibatch, of which each process has only a part; use GroupNorm or LayerNorm, or one process"
            )


def build_optimizer(
    settings: Settings, autoencoder: Autoencoder, optimizer: Optimizer | None = None
) -> torch.optim.Optimizer:
    """The torch optimizer of all parameters that are not frozen; ``optimizer``: by default that of ``settings``. Its
    groups store their base rate as ``initial_lr``."""
    trained = [parameter for parameter in autoencoder.parameters() if parameter.requires_grad]
    built = (optimizer or settings.optimizer).build(trained)
    for group in built.param_groups:
        group["initial_lr"] = group["lr"]
    return built
