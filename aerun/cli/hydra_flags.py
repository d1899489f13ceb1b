"""Words of the ``train`` command line, brought into the form that Hydra accepts."""

from __future__ import annotations

import re

from aerun.config.explain import compose_choices
from aerun.config.settings import GROUPS
from aerun.errors import ConfigError

FLAGS = {
    *("--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--resolve", "--package", "-p", "--run", "-r"),
    *("--multirun", "-m", "--shell-completion", "-sc", "--config-path", "-cp", "--config-name", "-cn"),
    *("--config-dir", "-cd", "--experimental-rerun", "--info", "-i"),
}
# Flags whose value is the next word.
FLAGS_WITH_VALUE = {
    *("--cfg", "-c", "--package", "-p", "--shell-completion", "-sc", "--config-path", "-cp", "--config-name", "-cn"),
    *("--config-dir", "-cd", "--experimental-rerun", "--info", "-i"),
}


def flags_first(words: list[str]) -> list[str]:
    """The same words with flags before overrides: Hydra does not allow overrides on both sides of a flag."""
    flags: list[str] = []
    others: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        is_flag = word.partition("=")[0] in FLAGS
        (flags if is_flag else others).append(word)
        if word in FLAGS_WITH_VALUE and rest and "=" not in rest[0] and not rest[0].startswith("-"):
            flags.append(rest.pop(0))
    return flags + others


def reject_unknown_flags(words: list[str]) -> None:
    """ConfigError for a flag that Hydra does not have, such as ``--epochs``, which other tools take."""
    for word in words:
        flag = word.partition("=")[0]
        if re.fullmatch(r"--?[a-z][\w-]*", flag) and flag not in FLAGS:
            name = flag.lstrip("-").replace("-", "_")
            raise ConfigError(f"{flag}: unknown flag; set options as key=value, such as {suggest_override(name)}")


def suggest_override(name: str) -> str:
    """The override that the flag ``--name`` may stand for."""
    config = compose_choices([])
    inner = (f"{group}.{key}=…" for group in GROUPS for key in config[group] if key == name)
    return f"{name}=…" if name in config else next(inner, "trainer.epochs=5")
