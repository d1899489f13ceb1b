"""Checks schedules: that their key can change during training, and that all of its values could be typed."""

from __future__ import annotations

import dataclasses
from typing import Any

from aerun.config.schema import annotation_of, check
from aerun.config.settings import SCHEDULE, Settings
from aerun.errors import ConfigError, nearest

OF_A_STEP = ("noise", "sparsity", "latent", "regularizer", "loss")


def check_schedules(settings: Settings) -> None:
    """ConfigError, naming the key of the schedule, for one that cannot work."""
    allowed = schedulable_keys(settings)
    changed = {f"{path}.{name}": path for path, part in _parts(settings).items() for name in part.schedules()}
    for option, schedule in settings.schedule.items():
        typed = f"{SCHEDULE}.{option}.key={schedule.key}"
        if schedule.key not in allowed:
            names = ", ".join(allowed) or "nothing in this run"
            about = "; the learning rate has the group scheduler" if schedule.key.endswith("lr") else ""
            raise ConfigError(f"{typed}: has no schedule.{nearest(schedule.key, allowed)} Allowed: {names}{about}")
        if schedule.key in changed:
            raise ConfigError(f"{typed}: is already changed by {changed[schedule.key]}; use one of the two")
        changed[schedule.key] = f"{SCHEDULE}.{option}"
        _check_values(settings, f"{SCHEDULE}.{option}", schedule, allowed[schedule.key])


def schedulable_keys(settings: Settings) -> dict[str, Any]:
    """The parts whose keys can have a schedule, by key; a key that is null is not used."""
    return {
        f"{path}.{name}": part
        for path, part in _parts(settings).items()
        for name in part.schedulable
        if getattr(part, name) is not None
    }


def _parts(settings: Settings) -> dict[str, Any]:
    """The parts of a step, by the path of their keys."""
    return {path: part for path, part in settings.parts().items() if path.partition(".")[0] in OF_A_STEP}


def _check_values(settings: Settings, path: str, schedule: Any, part: Any) -> None:
    """ConfigError if a value of the schedule is not allowed for its key, or incompatible with another option."""
    owner, _, name = schedule.key.rpartition(".")
    final = getattr(part, name)
    try:
        values = schedule.check_final(final)
    except ValueError as error:
        raise ConfigError(f"{path}.{error}") from error
    annotation = annotation_of(type(part), name)
    for value in values:
        whole = int(value) if isinstance(final, int) and float(value).is_integer() else value
        checked = check(f"{path}: {schedule.key}", whole, annotation)
        if dataclasses.is_dataclass(type(part)):
            try:
                _with_part(settings, owner, dataclasses.replace(part, **{name: checked}))
            except ValueError as error:
                raise ConfigError(f"{path}: {error}") from error


def _with_part(settings: Settings, owner: str, part: Any) -> None:
    """Check the settings with another part in the place of its owner."""
    group, _, option = owner.partition(".")
    changed: dict[str, Any] = {group: part if not option else {**vars(settings)[group], option: part}}
    part.check_settings(dataclasses.replace(settings, **changed))
