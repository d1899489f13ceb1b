"""The options of a run, from its parts or from its configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from aerun.config.parse import build_part
from aerun.config.settings import Settings
from aerun.contracts import Latent, Noise, Sparsity
from aerun.doctor.examination import Options
from aerun.errors import ConfigError


def options_of_parts(sparsity: Sparsity, latent: Latent, noise: Noise | None, coupled_decay: bool = False) -> Options:
    """The keys of a run's parts, and what the parts declare."""
    values: dict[str, Any] = {}
    parts: tuple[tuple[str, Any], ...] = (("sparsity", sparsity), ("latent", latent), ("noise", noise))
    for group, part in parts:
        if dataclasses.is_dataclass(part):
            values |= {f"{group}.{key.name}": vars(part)[key.name] for key in dataclasses.fields(part)}
    return Options(values, **_declared(sparsity, latent, noise, coupled_decay))


def _declared(sparsity: Sparsity, latent: Latent, noise: Noise | None, coupled_decay: bool) -> dict[str, Any]:
    """What the parts declare, as JSON values."""
    is_noisy = noise is not None and not noise.is_identity
    return {
        "penalty": sparsity.penalty,
        "constrained": bool(sparsity.constrains_code or latent.constrains_code or is_noisy),
        "denser_in_evaluation": sparsity.selects_in_training_only,
        "coupled_decay": coupled_decay,
        "max_nonzeros": sparsity.max_nonzeros,
    }


def declared_options(settings: Settings) -> dict[str, Any]:
    """What the parts of a run declare, to be saved in its folder: a tool that reads the folder may lack their
    classes."""
    coupled_decay = settings.optimizer.couples_weight_decay
    return _declared(settings.sparsity, settings.latent, settings.noise, coupled_decay)


def options_of_config(
    config: Mapping[str, Any], declared: Mapping[str, Any] | None = None, typed: Collection[str] = ()
) -> Options:
    """The options of a run folder. ``declared``: what its parts declared. Folders of older versions do not contain it;
    then aerun's own parts are built from the configuration and asked."""
    values = values_of_config(config)
    if declared is not None:
        names = {key.name for key in dataclasses.fields(Options)} - {"values", "config", "typed"}
        known = {name: value for name, value in declared.items() if name in names}
        if "max_nonzeros" not in declared:  # by an older version
            known["max_nonzeros"] = _max_nonzeros(config)
        return Options(values, config=config, typed=typed, **known)
    sparsity, latent, noise, optimizer = (
        _build_known_part(group, config) for group in ("sparsity", "latent", "noise", "optimizer")
    )
    has_unknown_part = any(
        part is None and group in config
        for group, part in (("sparsity", sparsity), ("latent", latent), ("noise", noise))
    )
    return Options(
        values,
        penalty=None if sparsity is None else sparsity.penalty,
        constrained=has_unknown_part
        or (sparsity is not None and sparsity.constrains_code)
        or (latent is not None and latent.constrains_code)
        or (noise is not None and not noise.is_identity),
        denser_in_evaluation=sparsity is not None and sparsity.selects_in_training_only,
        coupled_decay=optimizer is not None and optimizer.couples_weight_decay,
        max_nonzeros=_max_nonzeros(config),
        config=config,
        typed=typed,
    )


def values_of_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of all groups, as ``group.key``."""
    return {
        f"{group}.{key}": value
        for group, node in config.items()
        for key, value in (node.items() if isinstance(node, Mapping) else ())
        if key != "_target_"
    }


def _max_nonzeros(config: Mapping[str, Any]) -> int | None:
    """What one of aerun's sparsities declares, from the configuration."""
    sparsity = _build_known_part("sparsity", config)
    return None if sparsity is None else sparsity.max_nonzeros


def _build_known_part(group: str, config: Mapping[str, Any]) -> Any:
    """The part that a configuration describes, if its class belongs to aerun; otherwise None."""
    node = config.get(group)
    if not isinstance(node, Mapping) or not str(node.get("_target_")).startswith("aerun."):
        return None
    try:
        return build_part(group, node)
    except ConfigError:
        return None
