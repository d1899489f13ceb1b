"""From what Hydra composed to plain values."""

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

_one_at_a_time = threading.RLock()


def resolve(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain values. ConfigError for an interpolation that leads nowhere."""
    try:
        plain = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        key = f"{error.full_key}: " if error.full_key else ""
        raise ConfigError(f"{key}{str(error).splitlines()[0]}") from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


@contextlib.contextmanager
def initialized_hydra() -> Iterator[Any]:
    """A block in which Hydra composes aerun's configuration; yields its ``hydra`` object. The process's own use of
    Hydra, if any, is restored. One thread at a time is in it, since Hydra's state is global."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    with _one_at_a_time:
        theirs = GlobalHydra.instance().hydra
        GlobalHydra.instance().clear()
        try:
            with initialize_config_dir(str(conf_dir()), version_base="1.3"):
                yield GlobalHydra.instance().hydra
        finally:
            GlobalHydra.instance().hydra = theirs


def compose_words(words: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """The configuration of one run as the command line composes it from these words, and the option of each group."""
    from hydra import compose

    with initialized_hydra():
        config = compose("train", overrides=list(words), return_hydra_config=True)
    choices = group_choices(config.hydra.runtime.choices)
    return run_config(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])), choices


def run_config(config: DictConfig) -> dict[str, Any]:
    """What one run is made of: resolved, its data found from any directory, without what belongs to a sweep."""
    plain = absolute_root(resolve(config))
    plain.pop("sweep", None)
    if isinstance(plain.get("init_from"), str):
        plain["init_from"] = str(Path(plain["init_from"]).expanduser().absolute())
    return plain


def absolute_root(plain: dict[str, Any]) -> dict[str, Any]:
    """The same configuration, its data found from any directory."""
    dataset = plain.get("dataset")
    if not isinstance(dataset, dict):
        return plain
    root = dataset.get("root")
    if not isinstance(root, str) or root in ("", "???"):
        return plain
    return {**plain, "dataset": {**dataset, "root": str(Path(root).expanduser().absolute())}}


def group_choices(choices: Mapping[Any, Any] | DictConfig) -> dict[str, str]:
    """The option chosen in each of our groups, from Hydra's ``runtime.choices``: of several it says nothing."""
    return {str(key): str(value) for key, value in choices.items() if "/" not in str(key) and value is not None}
