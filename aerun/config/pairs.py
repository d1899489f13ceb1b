"""Rejects options that are valid alone but incompatible: each part checks the others that it depends on."""

from __future__ import annotations

from aerun.config.settings import SEVERAL, Settings
from aerun.errors import ConfigError


def check_pairs(settings: Settings) -> None:
    """ConfigError, naming both options, for incompatible parts."""
    for path, part in settings.parts().items():
        try:
            part.check_settings(settings)
        except ConfigError:
            raise
        except ValueError as error:
            prefix = "" if path in str(error).partition(":")[0] or "." not in path else f"{path}: "
            raise ConfigError(f"{prefix}{error}") from error


def check_unread(settings: Settings) -> None:
    """ConfigError for a key that the user typed but that has no effect."""
    for group in SEVERAL:
        chosen = vars(settings)[group]
        for key in sorted(key for key in settings.typed if key.startswith(f"{group}.")):
            if key.split(".")[1] not in chosen:
                names = ", ".join(chosen) or "none"
                raise ConfigError(f"{key}: has no effect, because that {group} is not chosen; chosen: {names}")
    for part in settings.parts().values():
        for key, reason in part.unread_keys(settings).items():
            if key in settings.typed:
                raise ConfigError(f"{key}: has no effect, because {reason}")
