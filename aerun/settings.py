"""From a composed configuration to typed settings: every key, value and pair is checked here, before torch is imported.

The parts of a run are dataclasses, and their annotations are the schema. An option is found by the ``_target_``
of its YAML, which lies at the path of its code: conf/sparsity/topk.yaml names aerun.sparsity.TopK.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aerun.errors import ConfigError
from aerun.spec import Positive, Seed, check, construct, locate, nearest

GROUPS = ("dataset", "noise", "model", "latent", "sparsity", "loss", "optimizer", "scheduler", "trainer")
SEVERAL = "protocol"  # the group of which a run may have any number of options
# What a part of one's own must offer; the parts of ours show how.
CONTRACTS = {
    "dataset": ("load",),
    "noise": ("__call__", "is_identity"),
    "model": ("build",),
    "latent": ("__call__", "draw", "parameters_per_code"),
    "sparsity": ("__call__",),
    "loss": ("__call__", "takes_logits", "scale"),
    "scheduler": ("multiplier", "observe", "finished", "state", "restore"),
    "trainer": (
        *("fit", "epochs", "batch_size", "device", "threads", "deterministic", "tsne"),
        *("processes", "precision", "compile", "graph", "channels_last"),
    ),
    "protocol": ("__call__",),
}
TRUSTED = ("aerun", "torch.nn", "torch.optim", "torchvision.transforms")


@dataclass(frozen=True)
class Checkpointing:
    """Checkpoints come after epochs (at most one a second), and within one when so many minutes have passed."""

    every_minutes: Positive | None


@dataclass(frozen=True)
class Settings:
    """A run: one part of each group, and what belongs to the run as a whole."""

    seed: Seed
    resume: str | None
    trusted_packages: list[str]
    checkpoint: Checkpointing
    dataset: Any
    noise: Any
    latent: Any
    sparsity: Any
    model: Any
    loss: Any
    optimizer: Any
    scheduler: Any
    trainer: Any
    init_from: str | None = None
    freeze: list[str] = field(default_factory=list)
    # Of a greedy run's stages: one for all of them, one each, or none, which is the run's own.
    stage_optimizers: list[Any] = field(default_factory=list, metadata={"internal": True})
    # By name, in the order in which they were chosen.
    protocol: dict[str, Any] = field(default_factory=dict, metadata={"internal": True})
    choices: dict[str, str] = field(default_factory=dict, metadata={"internal": True})

    def name(self, group: str) -> str:
        """The group's option for a message: ``model=conv``, or its class where the option is not known."""
        return f"{group}={self.choices.get(group) or type(getattr(self, group)).__name__}"


def parse(
    config: Mapping[str, Any], choices: Mapping[str, str] | None = None, overrides: Sequence[str] = ()
) -> Settings:
    """Check a resolved configuration and build its parts.

    ``choices`` are the options' names by group, for messages; ``overrides`` are what the user typed, so that one
    which nothing would read is refused. Raises ConfigError with one line.
    """
    trusted = check("trusted_packages", config.get("trusted_packages", []), list[str])
    _check_targets(config, trusted)
    for group in GROUPS:
        if not isinstance(config.get(group), Mapping):
            raise ConfigError(f"{group}: an option of this group is missing")
    for override in overrides:
        if override.startswith("noise=["):  # Hydra has merged their keys
            listed = override.partition("=")[2]
            raise ConfigError(f"{override}: several corruptions are noise=several noise/parts={listed}")
    parts = {group: _part(group, config[group], choices or {}, overrides) for group in GROUPS}
    protocols = _build_several(config.get(SEVERAL, {}))
    checkpointing = construct(Checkpointing, config.get("checkpoint", {}), "checkpoint")
    plain = {key: value for key, value in config.items() if key != SEVERAL}
    settings: Settings = construct(Settings, {**plain, **parts, "checkpoint": checkpointing}, "")
    stages = _stage_optimizers(config["trainer"].get("stage_optimizer"), config["optimizer"])
    settings = dataclasses.replace(settings, protocol=protocols, choices=dict(choices or {}), stage_optimizers=stages)
    _check_pairs(settings)
    for protocol in settings.protocol.values():
        if hasattr(protocol, "check_settings"):
            protocol.check_settings(settings)
    _check_unread(settings, overrides)
    return settings


def _part(group: str, node: Mapping[str, Any], choices: Mapping[str, str], overrides: Sequence[str]) -> Any:
    """As ``build_part``; the error for a key that a recipe left behind, where another option was typed, says so."""
    try:
        return build_part(group, node)
    except ConfigError as error:
        left = str(error).partition(": there is no such key")
        typed = {override.lstrip("+~").partition("=")[0] for override in overrides}
        if not left[1] or left[0] in typed or group not in typed or choices.get("experiment", "None") == "None":
            raise
        raise ConfigError(
            f"experiment={choices['experiment']} sets {left[0]}, which {group}={choices.get(group)} has not: add "
            f"'~{left[0]}' to do without"
        ) from error


def _build_several(nodes: Any) -> dict[str, Any]:
    """The protocols that a run ends with, by name."""
    if not isinstance(nodes, Mapping) or not all(isinstance(node, Mapping) for node in nodes.values()):
        raise ConfigError(f"{SEVERAL}: must be options of this group, {SEVERAL}=[one,other]")
    # An experiment may have set keys of one that is not chosen, as in ``experiment=NAME protocol=none``.
    chosen = {str(name): node for name, node in nodes.items() if "_target_" in node}
    return {name: build_part(SEVERAL, node, f"{SEVERAL}.{name}") for name, node in chosen.items()}


def _stage_optimizers(asked: Any, base: Mapping[str, Any]) -> list[Any]:
    """What ``trainer.stage_optimizer`` makes of the run's own: one for all stages, or one each where it has lists."""
    key = "trainer.stage_optimizer"
    if asked is None:
        return []
    if not isinstance(asked, Mapping):
        raise ConfigError(f"{key}={asked}: must be keys of the optimizer with their values, {{lr: 0.1}}, or null")
    base = {} if "_target_" in asked else base
    nested = {
        name: isinstance(value, list) and isinstance(next(iter(value), None), list) for name, value in asked.items()
    }
    several = {n: v for n, v in asked.items() if isinstance(v, list) and v and (nested[n] or n != "betas")}
    lengths = {len(value) for value in several.values()}
    if len(lengths) > 1:
        raise ConfigError(f"{key}: {', '.join(several)} have different numbers of values; each has one a stage")
    stages = [{**asked, **{n: v[i] for n, v in several.items()}} for i in range(next(iter(lengths), 1))]
    return [build_part("optimizer", {**base, **stage}, key) for stage in stages]


def build_part(group: str, node: Mapping[str, Any], path: str | None = None) -> Any:
    """The object that a group's node describes, at ``path`` of the configuration where that is not the group's name.

    One of ours is a dataclass, checked key by key. A class of torch's or of a trusted package (only a class, never
    a function) is called with the node's values; an optimizer's waits for its parameters.
    """
    path = path or group
    values = {str(key): value for key, value in node.items() if key != "_target_"}
    target = node.get("_target_")
    if not isinstance(target, str):
        raise ConfigError(f"{path}._target_={target}: must name a class")
    missing = [key for key, value in values.items() if value == "???"]
    if missing:
        raise ConfigError(f"{path}.{missing[0]}: a value is needed, {path}.{missing[0]}=…")
    if target.partition(".")[0] == "aerun":
        if not target.startswith(f"aerun.{group}."):
            raise ConfigError(f"{path}._target_={target}: must be in aerun.{group}")
        cls = locate(target)
        if not (isinstance(cls, type) and (dataclasses.is_dataclass(cls) or not values)):
            raise ConfigError(f"{path}._target_={target}: is no option of {group}")
        values = {key: _nested(group, value, f"{path}.{key}") for key, value in values.items()}
        return construct(cls, values, path) if dataclasses.is_dataclass(cls) else cls()
    function = locate(target)
    if not isinstance(function, type):
        raise ConfigError(f"{path}._target_={target}: is no class")
    if group == "optimizer":
        return functools.partial(function, **values)
    try:
        part = function(**{key: _instantiate(value) for key, value in values.items()})
    except Exception as error:
        raise ConfigError(f"{path}: {target} refuses its arguments: {error}") from error
    lacking = [name for name in CONTRACTS[group] if not hasattr(part, name)]
    if lacking:
        raise ConfigError(f"{path}._target_={target}: lacks {', '.join(lacking)}, which every {group} has")
    return part


def _nested(group: str, value: Any, path: str) -> Any:
    """The value of a key of ours; options of the same group, by name, as the parts that they describe."""
    if not (isinstance(value, Mapping) and any(isinstance(v, Mapping) and "_target_" in v for v in value.values())):
        return value
    for name, node in value.items():
        if not isinstance(node, Mapping):
            raise ConfigError(f"{path}.{name}={node}: must be an option of the group {group}, with its _target_")
    return {str(name): build_part(group, node, f"{path}.{name}") for name, node in value.items()}


def _instantiate(value: Any) -> Any:
    """Nested ``_target_`` nodes of a user's own class, from the inside out."""
    if isinstance(value, Mapping):
        items = {key: _instantiate(item) for key, item in value.items()}
        if "_target_" not in items:
            return items
        cls = locate(items.pop("_target_"))
        if not isinstance(cls, type):
            raise ConfigError(f"_target_={value['_target_']}: is no class")
        return cls(**items)
    return [_instantiate(item) for item in value] if isinstance(value, list) else value


def _check_targets(node: Any, trusted: Sequence[str], path: str = "") -> None:
    """Refuse every ``_target_`` outside the trusted packages: a shared YAML file is otherwise code."""
    if isinstance(node, Mapping):
        target = node.get("_target_")
        if isinstance(target, str) and not target.startswith(tuple(f"{name}." for name in (*TRUSTED, *trusted))):
            package = target.partition(".")[0]
            raise ConfigError(
                f"{path}._target_={target}: only classes in {', '.join(TRUSTED)} are trusted; "
                f"trusted_packages=[{package}] lets this run use {package}"
            )
        for key, value in node.items():
            _check_targets(value, trusted, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            _check_targets(value, trusted, f"{path}[{index}]")


def _check_pairs(settings: Settings) -> None:
    """Refuse options that are fine alone but not together, naming both."""
    name = settings.name

    def get(group: str, key: str) -> Any:
        return getattr(getattr(settings, group), key, None)

    gaussian = getattr(settings.latent, "parameters_per_code", 1) > 1
    constrained = getattr(settings.sparsity, "constrains_code", True)
    if gaussian and constrained:
        raise ConfigError(
            f"{name('latent')} and {name('sparsity')} both constrain the code: "
            "use sparsity=none or latent=deterministic"
            + (f" (brought by {name('model')})" if "vae" in name("model") else "")
        )
    code_size, k = get("model", "code_size"), get("sparsity", "k")
    if isinstance(code_size, int) and isinstance(k, int) and k > code_size:
        raise ConfigError(f"sparsity.k={k} is larger than the code size, model.code_size={code_size}")
    output, logits = get("model", "output_activation"), getattr(settings.loss, "takes_logits", False)
    if logits and output not in (None, "identity", "sigmoid"):
        raise ConfigError(
            f"model.output_activation={output} and {name('loss')}: this loss takes logits, so the output is their "
            "sigmoid; use model.output_activation=sigmoid or identity"
        )
    if get("dataset", "normalize") == "standardise":
        if logits or getattr(settings.loss, "needs_unit_range", False):
            raise ConfigError(f"dataset.normalize=standardise takes targets out of [0,1], which {name('loss')} needs")
        if output not in (None, "identity"):
            raise ConfigError(
                f"dataset.normalize=standardise and model.output_activation={output}: standardised targets leave its "
                "range; use model.output_activation=identity"
            )
    if get("latent", "samples") is not None and not getattr(settings.loss, "is_likelihood", False):
        raise ConfigError(f"{name('latent')} and {name('loss')}: this loss is no likelihood; use bce, mse or mae")
    stop, rate = get("scheduler", "stop_lr"), get("optimizer", "lr")
    if stop is not None and rate is not None and stop >= rate:
        raise ConfigError(f"scheduler.stop_lr={stop} is not below optimizer.lr={rate}: the run would end at once")
    for optimizer in settings.stage_optimizers:
        rate = getattr(optimizer, "lr", None)
        if stop is not None and rate is not None and stop >= rate:
            raise ConfigError(
                f"scheduler.stop_lr={stop} is not below trainer.stage_optimizer.lr={rate}: the stage would end at once"
            )
    if get("trainer", "untie_at") is not None and get("model", "tied") is False:
        raise ConfigError("trainer.untie_at=finetune and model.tied=false: there are no tied weights to untie")
    warmup, epochs = get("scheduler", "warmup_epochs"), get("trainer", "epochs")
    if warmup is not None and epochs and get("trainer", "steps") is None and warmup > epochs:
        raise ConfigError(f"scheduler.warmup_epochs={warmup} is longer than the run, trainer.epochs={epochs}")
    stages = get("trainer", "stage_epochs")
    shortest = min((count for count in (stages if isinstance(stages, list) else [stages]) if count), default=None)
    if warmup is not None and shortest is not None and warmup > shortest:
        raise ConfigError(f"scheduler.warmup_epochs={warmup} is longer than a stage, trainer.stage_epochs={stages}")


def _check_unread(settings: Settings, overrides: Sequence[str]) -> None:
    """Refuse a key that the user typed where nothing would read it."""
    typed = {override.lstrip("+~").partition("=")[0] for override in overrides}
    gaussian = getattr(settings.latent, "parameters_per_code", 1) > 1
    sigmoid = getattr(settings.sparsity, "fixes_activation", False)
    unread = {
        "model.init_std": (getattr(settings.model, "init", "normal") != "normal", "model.init is not normal"),
        "model.code_activation": (
            gaussian or sigmoid,
            "the latent or the sparsity has the code's nonlinearity fixed",
        ),
        "sparsity.activation": (gaussian, "the Gaussian latent applies no nonlinearity to the code"),
        "trainer.epochs": (getattr(settings.trainer, "steps", None) is not None, "trainer.steps is given instead"),
        "trainer.min_delta": (getattr(settings.trainer, "patience", 1) is None, "trainer.patience is null"),
    }
    for key in sorted(key for key in typed if key.startswith(f"{SEVERAL}.")):
        name = key.split(".")[1]
        if name not in settings.protocol:
            chosen = ", ".join(settings.protocol) or "none"
            raise ConfigError(f"{key}: would not be read, since that protocol is not chosen; chosen: {chosen}")
    for key, (is_unread, reason) in unread.items():
        if is_unread and key in typed:
            raise ConfigError(f"{key}: would not be read, since {reason}")


def known_keys(config: Mapping[str, Any], path: str = "") -> list[str]:
    """All dotted keys of a configuration, inner ones included."""
    keys = []
    for key, value in config.items():
        dotted = f"{path}.{key}" if path else str(key)
        keys.append(dotted)
        if isinstance(value, Mapping):
            keys += known_keys(value, dotted)
    return keys


def unknown_key(key: str, config: Mapping[str, Any], options: Mapping[str, Mapping[str, Sequence[str]]]) -> ConfigError:
    """The error for a key that the configuration does not have.

    ``options`` gives the keys of every option by group. Names other options of the group that have the key, or
    else the nearest key that there is.
    """
    group, _, leaf = key.partition(".")
    having = [f"{group}={option}" for option, keys in options.get(group, {}).items() if leaf in keys]
    if having:
        return ConfigError(f"{key}: the option chosen of {group} has no such key; {', '.join(having)} have it")
    keys = [known for known in known_keys(config) if not known.endswith("_target_")]
    same_leaf = [known for known in keys if known.rpartition(".")[2] == key]
    parent = key.rpartition(".")[0]
    siblings = [known for known in keys if known.rpartition(".")[0] == parent]
    hint = f" Did you mean '{same_leaf[0]}'?" if same_leaf else nearest(key, siblings) or nearest(key, keys)
    allowed = ", ".join(known.removeprefix(f"{parent}.") for known in siblings)
    return ConfigError(f"{key}: there is no such key.{hint} Allowed{f' in {parent}' if parent else ''}: {allowed}")
