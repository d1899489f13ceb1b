"""Options that are valid alone but not together: every part checks what it knows of the others."""

from __future__ import annotations

from aerun.config.settings import SEVERAL, Settings
from aerun.errors import ConfigError


def check_pairs(settings: Settings) -> None:
    """ConfigError, naming both options, for parts that do not work together."""
    for path, part in settings.parts().items():
        try:
            part.check_settings(settings)
        except ConfigError:
            raise
        except ValueError as error:
            prefix = "" if path in str(error).partition(":")[0] or "." not in path else f"{path}: "
            raise ConfigError(f"{prefix}{error}") from error


def check_unread(settings: Settings) -> None:
    """ConfigError for a key that the user typed and that nothing would read."""
    for group in SEVERAL:
        chosen = vars(settings)[group]
        for key in sorted(key for key in settings.typed if key.startswith(f"{group}.")):
            if key.split(".")[1] not in chosen:
                names = ", ".join(chosen) or "none"
                raise ConfigError(f"{key}: would not be read, since that {group} is not chosen; chosen: {names}")
    for part in settings.parts().values():
        for key, reason in part.unread_keys(settings).items():
            if key in settings.typed:
                raise ConfigError(f"{key}: would not be read, since {reason}")
