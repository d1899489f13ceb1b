"""Composes configurations with Hydra, and converts them to plain values."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from aerun.base.conf import conf_dir
from aerun.errors import ConfigError

_hydra_lock = threading.RLock()


def resolve(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain values. ConfigError for an interpolation that cannot be resolved."""
    try:
        plain = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        key = f"{error.full_key}: " if error.full_key else ""
        raise ConfigError(f"{key}{str(error).splitlines()[0]}") from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


@contextlib.contextmanager
def initialized_hydra() -> Iterator[Any]:
    """Initialize Hydra with aerun's configuration during the block; yields its ``hydra`` object.

    The process's own use of Hydra, if any, is restored afterwards. Only one thread at a time enters the block, because
    Hydra's state is global.
    """
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    with _hydra_lock:
        previous = GlobalHydra.instance().hydra
        GlobalHydra.instance().clear()
        try:
            with initialize_config_dir(str(conf_dir()), version_base="1.3"):
                yield GlobalHydra.instance().hydra
        finally:
            GlobalHydra.instance().hydra = previous


def compose_words(words: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """The configuration of one run from the words of a command line, and the option of each group."""
    from hydra import compose

    with initialized_hydra():
        config = compose("train", overrides=list(words), return_hydra_config=True)
    choices = group_choices(config.hydra.runtime.choices)
    return run_config(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])), choices


def run_config(config: DictConfig) -> dict[str, Any]:
    """The resolved configuration of one run, with absolute paths and without the keys of a sweep."""
    plain = absolute_root(resolve(config))
    plain.pop("sweep", None)
    if isinstance(plain.get("init_from"), str):
        plain["init_from"] = str(Path(plain["init_from"]).expanduser().absolute())
    return plain


def absolute_root(plain: dict[str, Any]) -> dict[str, Any]:
    """The configuration with an absolute path to its data."""
    dataset = plain.get("dataset")
    if not isinstance(dataset, dict):
        return plain
    root = dataset.get("root")
    if not isinstance(root, str) or root in ("", "???"):
        return plain
    return {**plain, "dataset": {**dataset, "root": str(Path(root).expanduser().absolute())}}


def group_choices(choices: Mapping[Any, Any] | DictConfig) -> dict[str, str]:
    """The option chosen in each group, from Hydra's ``runtime.choices``; groups with several options are missing
    there."""
    return {str(key): str(value) for key, value in choices.items() if "/" not in str(key) and value is not None}
