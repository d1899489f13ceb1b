"""Words of the command line, as Python's callers give them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aerun.config.explain import compose_explained
from aerun.config.override_syntax import expand_words
from aerun.errors import ConfigError

OF_RUNS = ("hydra.searchpath",)
OF_SWEEPS = (*OF_RUNS, "hydra/sweeper", "hydra.sweeper.", "hydra/launcher", "hydra.launcher.")


def check_words(words: Sequence[str], allowed: tuple[str, ...] = OF_RUNS) -> list[str]:
    """The words as they are composed. ConfigError for what only a command line has: flags, and Hydra's keys other than
    those ``allowed``."""
    for word in words:
        if not isinstance(word, str):
            raise ConfigError(f"{word!r}: words are strings, 'model=conv'; a list of them is handed over as *words")
        if word.startswith("-"):
            raise ConfigError(f"{word}: is a flag of the command line; several runs are aerun.run_sweep")
        key = word.lstrip("+~").partition("=")[0]
        if key.startswith(("hydra.", "hydra/")) and not key.startswith(allowed):
            folder = "; the folder is out=FOLDER" if key.endswith(".dir") else ""
            raise ConfigError(f"{word}: is read by the command line only{folder}")
    return expand_words(words, several=allowed is OF_SWEEPS)


def compose(words: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """The configuration of one run, and the option of each group. ConfigError, in words for Python."""
    try:
        return compose_explained(words)
    except ConfigError as error:
        text = str(error).replace("add --multirun to your command line", "use aerun.run_sweep")
        raise ConfigError(text) from error
