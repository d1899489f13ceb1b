"""A composed configuration -> typed settings. Every key and value is checked here, before torch is imported."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from aerun.config.deferred import Deferred, DeferredPart, FromTorch, check_arguments, is_module
from aerun.config.pairs import check_pairs, check_unread
from aerun.config.schedules import check_schedules
from aerun.config.schema import check, construct, locate
from aerun.config.settings import GROUPS, SEVERAL, TRACKER, Checkpointing, RunKeys, Settings
from aerun.contracts import CONTRACTS, Part, Tracker, complete, missing_names
from aerun.errors import ConfigError

PARTS = tuple(f"aerun.{group}" for group in (*GROUPS, *SEVERAL))  # the modules of aerun whose classes are options
LIBRARIES = ("torch.nn", "torch.optim", "torchvision.transforms")
DEFINED = (*PARTS, *LIBRARIES, "torch.ao.nn")  # torch.nn names a few classes that are defined in the last of these


def parse(
    config: Mapping[str, Any], choices: Mapping[str, str] | None = None, overrides: Sequence[str] = ()
) -> Settings:
    """Check a resolved configuration and build its parts, except for modules (see ``Deferred``).

    ``choices``: the names of the options by group, for messages. ``overrides``: what the user typed, so that keys
    without an effect can be rejected. ConfigError with a message of one line.
    """
    trusted = check("trusted_packages", config.get("trusted_packages", []), list[str])
    _check_targets(config, trusted)
    for group in GROUPS:
        if not isinstance(config.get(group), Mapping):
            raise ConfigError(f"{group}: an option of this group is missing")
    for override in overrides:
        if override.startswith("noise=["):  # Hydra has already merged their keys
            listed = override.partition("=")[2]
            raise ConfigError(f"{override}: combine several corruptions with noise=several noise/parts={listed}")
    parts = {group: _part(group, config[group], choices or {}, overrides) for group in GROUPS}
    several: dict[str, Any] = {group: _build_several(group, config.get(group) or {}) for group in SEVERAL}
    checkpointing = construct(Checkpointing, config.get("checkpoint", {}), "checkpoint")
    rest = {key: value for key, value in config.items() if key not in (*GROUPS, *SEVERAL)}
    run: RunKeys = construct(RunKeys, {**rest, "checkpoint": checkpointing}, "")
    settings = Settings(
        **vars(run),
        **parts,
        **several,
        stage_optimizers=_stage_optimizers(config["trainer"].get("stage_optimizer"), config["optimizer"]),
        choices=dict(choices or {}),
        typed=frozenset(override.lstrip("+~").partition("=")[0] for override in overrides),
    )
    check_pairs(settings)
    check_schedules(settings)
    check_unread(settings)
    return settings


def _part(group: str, node: Mapping[str, Any], choices: Mapping[str, str], overrides: Sequence[str]) -> Any:
    """Like ``build_part``, with a better error if an experiment sets a key that the typed option does not have."""
    try:
        return build_part(group, node)
    except ConfigError as error:
        key, is_unknown_key, _ = str(error).partition(": there is no such key")
        typed = {override.lstrip("+~").partition("=")[0] for override in overrides}
        if not is_unknown_key or key in typed or group not in typed or choices.get("experiment", "None") == "None":
            raise
        raise ConfigError(
            f"experiment={choices['experiment']} sets {key}, which {group}={choices.get(group)} does not have; "
            f"add '~{key}' to drop it"
        ) from error


def _build_several(group: str, nodes: Any) -> dict[str, Any]:
    """The parts of a group that allows several options, by name."""
    if not isinstance(nodes, Mapping) or not all(isinstance(node, Mapping) for node in nodes.values()):
        raise ConfigError(f"{group}: must be options of this group, {group}=[one,other]")
    # An experiment may set keys of an option that is not chosen, as in ``experiment=NAME protocol=none``.
    chosen = {str(name): node for name, node in nodes.items() if "_target_" in node}
    return {name: build_part(group, node, f"{group}.{name}") for name, node in chosen.items()}


def build_trackers(nodes: Mapping[str, Any]) -> dict[str, Tracker]:
    """Trackers by name from their configuration, as ``parse`` builds them, but only aerun's own."""
    ours = {name: node for name, node in nodes.items() if str(node.get("_target_")).startswith("aerun.")}
    return _build_several(TRACKER, ours)


def _stage_optimizers(changes: Any, base: Mapping[str, Any]) -> list[Any]:
    """The run's optimizer with the changes of ``trainer.stage_optimizer``: one for all stages, or one for each if it
    has lists."""
    key = "trainer.stage_optimizer"
    if changes is None:
        return []
    if not isinstance(changes, Mapping):
        raise ConfigError(f"{key}={changes}: must be keys of the optimizer with their values, {{lr: 0.1}}, or null")
    base = {} if "_target_" in changes else base
    nested = {
        name: isinstance(value, list) and isinstance(next(iter(value), None), list) for name, value in changes.items()
    }
    several = {n: v for n, v in changes.items() if isinstance(v, list) and v and (nested[n] or n != "betas")}
    lengths = {len(value) for value in several.values()}
    if len(lengths) > 1:
        raise ConfigError(f"{key}: {', '.join(several)} have different numbers of values; each needs one per stage")
    stages = [{**changes, **{n: v[i] for n, v in several.items()}} for i in range(next(iter(lengths), 1))]
    return [build_part("optimizer", {**base, **stage}, key) for stage in stages]


def build_part(group: str, node: Mapping[str, Any], path: str | None = None) -> Any:
    """The object that a group's node describes. ``path``: of the node in the configuration, by default ``group``.

    A class of aerun is a dataclass whose keys are checked. A class (never a function) of torch or of a trusted package
    is called with the node's values. If it is an ``nn.Module``, or has one as an argument, it is built after the seed
    is set (``Deferred``); an optimizer is built when the parameters exist.
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
        return _build_known(group, target, values, path)
    cls = _class(target, path)
    arguments = {key: _build_arguments(value, f"{path}.{key}") for key, value in values.items()}
    if group == "optimizer":
        return FromTorch(cls, arguments)
    missing = missing_names(cls, group)
    if missing:
        raise ConfigError(f"{path}._target_={target}: lacks {', '.join(missing)}, which every {group} has")
    try:
        complete(cls, group)
    except TypeError as error:
        raise ConfigError(
            f"{path}._target_={target}: is not a {group}; make it a subclass of "
            f"aerun.contracts.{CONTRACTS[group].__name__}"
        ) from error
    deferred = Deferred(cls, check_arguments(cls, arguments, path), path, target)
    if is_module(cls) or any(_has_module(value) for value in arguments.values()):
        return DeferredPart(deferred)
    return deferred.construct()


def _build_known(group: str, target: str, values: Mapping[str, Any], path: str) -> Any:
    """An object of one of aerun's classes, from its keys."""
    if not target.startswith(f"aerun.{group}."):
        raise ConfigError(f"{path}._target_={target}: must be in aerun.{group}")
    cls = _class(target, path)
    if not (dataclasses.is_dataclass(cls) or not values):
        raise ConfigError(f"{path}._target_={target}: is not an option of {group}")
    others = cls.other_groups if Part in cls.__mro__ else {}
    values = {
        key: _build_other(others[key], value, f"{path}.{key}")
        if key in others
        else _build_nested(group, value, f"{path}.{key}")
        for key, value in values.items()
    }
    return construct(cls, values, path) if values or dataclasses.is_dataclass(cls) else cls()


def _class(target: str, path: str) -> Any:
    """The class that ``_target_`` names."""
    try:
        cls = locate(target)
    except ConfigError as error:
        raise ConfigError(f"{path}.{error}") from error
    if not isinstance(cls, type):
        raise ConfigError(f"{path}._target_={target}: is not a class")
    if _is_in(target, (*PARTS, *LIBRARIES)) and not _is_in(f"{cls.__module__}.", DEFINED):
        raise ConfigError(f"{path}._target_={target}: is only imported there; it is defined in {cls.__module__}")
    return cls


def _is_in(name: str, packages: Sequence[str]) -> bool:
    """Whether a dotted name is that of something in one of the packages."""
    return name.startswith(tuple(f"{package}." for package in packages))


def _build_other(group: str, value: Any, path: str) -> Any:
    """An option of another group, or None. ConfigError for anything else, and for a module, which would be trained."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise ConfigError(f"{path}={value}: must be an option of the group {group}, +{group}@{path}=NAME")
    part = build_part(group, value, path)
    if isinstance(part, DeferredPart):
        raise ConfigError(f"{part.deferred.key}: is a module; here, only a {group} without weights can be used")
    return part


def _build_nested(group: str, value: Any, path: str) -> Any:
    """The value of a key of one of aerun's classes. Named options of the same group become parts; a user's module is
    deferred."""
    if not isinstance(value, Mapping):
        return value
    if isinstance(value.get("_target_"), str):
        return _build_arguments(value, path)
    if not any(isinstance(item, Mapping) and "_target_" in item for item in value.values()):
        return value
    for name, node in value.items():
        if not isinstance(node, Mapping):
            raise ConfigError(f"{path}.{name}={node}: must be an option of the group {group}, with its _target_")
    return {str(name): build_part(group, node, f"{path}.{name}") for name, node in value.items()}


def _build_arguments(value: Any, path: str) -> Any:
    """A value with its nested ``_target_`` nodes replaced by objects, or by ``Deferred`` for modules."""
    if value == "???":
        raise ConfigError(f"{path}: a value is needed, {path}=…")
    if isinstance(value, list):
        return [_build_arguments(item, f"{path}[{index}]") for index, item in enumerate(value)]
    if not isinstance(value, Mapping):
        return value
    items = {str(key): _build_arguments(item, f"{path}.{key}") for key, item in value.items() if key != "_target_"}
    if "_target_" not in value:
        return items
    target = _build_arguments(value["_target_"], f"{path}._target_")
    cls = _class(target, path)
    deferred = Deferred(cls, check_arguments(cls, items, path), path, str(target))
    is_deferred = is_module(deferred.cls) or any(_has_module(item) for item in items.values())
    return deferred if is_deferred else deferred.construct()


def _has_module(value: Any) -> bool:
    if isinstance(value, Mapping | list):
        return any(_has_module(item) for item in (value.values() if isinstance(value, Mapping) else value))
    return isinstance(value, Deferred)


def _check_targets(node: Any, trusted: Sequence[str], path: str = "") -> None:
    """Reject every ``_target_`` outside the trusted packages: otherwise a shared YAML file could run any code."""
    if isinstance(node, Mapping):
        target = node.get("_target_")
        if isinstance(target, str) and target != "???" and not _is_in(target, (*PARTS, *LIBRARIES, *trusted)):
            package = target.partition(".")[0]
            if package == "aerun":
                raise ConfigError(f"{path}._target_={target}: must be a class in one of {', '.join(PARTS)}")
            raise ConfigError(
                f"{path}._target_={target}: only classes in {', '.join(('aerun', *LIBRARIES))} are trusted; "
                f"add trusted_packages=[{package}] to trust {package}"
            )
        for key, value in node.items():
            _check_targets(value, trusted, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            _check_targets(value, trusted, f"{path}[{index}]")
