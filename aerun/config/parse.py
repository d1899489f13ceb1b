"""From a composed configuration to typed settings: every key and value is checked here, before torch is imported."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from aerun.config.pairs import check_pairs, check_unread
from aerun.config.schema import check, construct, locate
from aerun.config.settings import GROUPS, SEVERAL, Checkpointing, Settings
from aerun.contracts import CONTRACTS
from aerun.errors import ConfigError

TRUSTED = ("aerun", "torch.nn", "torch.optim", "torchvision.transforms")


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
    check_pairs(settings)
    for protocol in settings.protocol.values():
        if hasattr(protocol, "check_settings"):
            protocol.check_settings(settings)
    check_unread(settings, overrides)
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
