"""What parts and configurations say of themselves, for the verdicts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from aerun.config.parse import build_part
from aerun.config.settings import Settings
from aerun.contracts import Latent, Noise, Sparsity
from aerun.doctor.examination import Options
from aerun.errors import ConfigError


def options_of_parts(sparsity: Sparsity, latent: Latent, noise: Noise | None, coupled_decay: bool = False) -> Options:
    """The options that the parts of a run have and declare."""
    values: dict[str, Any] = {}
    parts: tuple[tuple[str, Any], ...] = (("sparsity", sparsity), ("latent", latent), ("noise", noise))
    for group, part in parts:
        if dataclasses.is_dataclass(part):
            values |= {f"{group}.{key.name}": vars(part)[key.name] for key in dataclasses.fields(part)}
    return Options(values, **declared(sparsity, latent, noise, coupled_decay))


def declared(sparsity: Sparsity, latent: Latent, noise: Noise | None, coupled_decay: bool) -> dict[str, Any]:
    """What the parts declare, as JSON values."""
    noisy = noise is not None and not noise.is_identity
    return {
        "penalty": sparsity.penalty,
        "constrained": bool(sparsity.constrains_code or latent.constrains_code or noisy),
        "denser_in_evaluation": sparsity.selects_in_training_only,
        "coupled_decay": coupled_decay,
    }


def declared_by(settings: Settings) -> dict[str, Any]:
    """What the parts of a run declare, for its folder: a tool that reads it may not have the parts' classes."""
    coupled = settings.optimizer.couples_weight_decay
    return declared(settings.sparsity, settings.latent, settings.noise, coupled)


def options_of_config(config: Mapping[str, Any], known: Mapping[str, Any] | None = None) -> Options:
    """The options of a run folder. ``known`` is what its parts declared; folders of older versions do not say, and the
    parts that are aerun's are asked."""
    values = {
        f"{group}.{key}": value
        for group, node in config.items()
        for key, value in (node.items() if isinstance(node, Mapping) else ())
        if key != "_target_"
    }
    if known is not None:
        names = {key.name for key in dataclasses.fields(Options)} - {"values"}
        return Options(values, **{name: value for name, value in known.items() if name in names})
    sparsity, latent, noise, optimizer = (
        _ours(group, config) for group in ("sparsity", "latent", "noise", "optimizer")
    )
    foreign = any(
        part is None and group in config
        for group, part in (("sparsity", sparsity), ("latent", latent), ("noise", noise))
    )
    return Options(
        values,
        penalty=None if sparsity is None else sparsity.penalty,
        constrained=foreign
        or (sparsity is not None and sparsity.constrains_code)
        or (latent is not None and latent.constrains_code)
        or (noise is not None and not noise.is_identity),
        denser_in_evaluation=sparsity is not None and sparsity.selects_in_training_only,
        coupled_decay=optimizer is not None and optimizer.couples_weight_decay,
    )


def _ours(group: str, config: Mapping[str, Any]) -> Any:
    """The part that a configuration describes, if its class is aerun's; None for any other."""
    node = config.get(group)
    if not isinstance(node, Mapping) or not str(node.get("_target_")).startswith("aerun."):
        return None
    try:
        return build_part(group, node)
    except ConfigError:
        return None
