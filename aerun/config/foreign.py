"""What a configuration file may not do, because somebody else may have written it: run code, or allow itself to.

Hydra calls what its own node of a configuration names. Files may set only what calls nothing; the rest is typed on the
command line, or its package is trusted there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from aerun.base.conf import conf_dir
from aerun.errors import ConfigError

TRUST = "trusted_packages"
PLUGINS = ("aerun.sweep.", "hydra_plugins.", "hydra._internal.core_plugins.")
LOGGING = ("hydra_logging", "job_logging")
# Keys that are empty by default. Their values are classes, variables of the environment, or lines of shell.
CALLED = ("callbacks", "job.env_set", "launcher.setup", "launcher.additional_parameters", "launcher.init")


def trusted_by(words: Sequence[str]) -> set[str]:
    """The packages that typed words trust."""
    typed = [word.partition("=")[2] for word in words if word.lstrip("+").partition("=")[0] == TRUST]
    return {name for value in typed for name in re.findall(r"[\w.]+", value)}


def reject_foreign_code(hydra: Mapping[str, Any]) -> None:
    """ConfigError if the ``hydra`` node of a composed configuration, with its interpolations, calls what no word typed
    on the command line names."""
    overrides = hydra["overrides"]
    typed = {word.lstrip("+~").partition("=")[0].removeprefix("hydra.") for word in overrides["hydra"]}
    trusted = trusted_by(overrides["task"])
    if "job.env_copy" in typed:
        typed |= {f"job.env_set.{name}" for name in _value(hydra, "job.env_copy")}  # where Hydra writes them
    for key in CALLED:
        if _without_typed(_value(hydra, key), key, typed):
            raise ConfigError(f"hydra.{key}: a file cannot set it, because it decides what is run; type hydra.{key}=…")
    for plugin in ("launcher", "sweeper"):
        target = str(_value(hydra, f"{plugin}._target_"))
        if not target.startswith((*PLUGINS, *(f"{name}." for name in trusted))):
            raise _untrusted(
                f"hydra.{plugin}._target_={target}", f"is not a {plugin} of aerun or of a Hydra plugin", target
            )
    for key in LOGGING:
        ours = _without_typed(hydra[key], key, typed)
        if "logging" not in trusted and all(ours != _without_typed(known, key, typed) for known in known_logging(key)):
            raise _untrusted(f"hydra.{key}", "is neither aerun's nor Hydra's, and can call anything", "logging")
    for path, text in _texts({key: node for key, node in hydra.items() if key not in ("overrides", "runtime")}):
        for name in re.findall(r"oc\.env:\s*([^,}\s]*)", text):
            if not names_variable(name, [*overrides["hydra"], *overrides["task"]]):
                raise ConfigError(f"hydra.{path}: a file reads the environment variable {name}; type hydra.{path}=…")
    for word in _value(hydra, "sweeper.params") or ():
        name = str(word).lstrip("+~")
        if name.startswith(("hydra", TRUST)) and not _is_typed(f"sweeper.params.{word}", typed):
            raise ConfigError(f"hydra.sweeper.params.{word}: a file cannot set it; type {name}=…")


def names_variable(name: str, words: Sequence[str]) -> bool:
    """Whether one of the typed words reads this variable of the environment."""
    return any(re.search(rf"oc\.env:\s*{re.escape(name)}\b", word) for word in words)


def _texts(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """All texts of a node, with their dotted keys."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _texts(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list):
        for value in node:
            yield from _texts(value, path)
    elif isinstance(node, str):
        yield path, node


def _untrusted(key: str, reason: str, target: str) -> ConfigError:
    package = target.partition(".")[0]
    return ConfigError(f"{key}: {reason}; type {TRUST}=[{package}] to trust it")


def _value(node: Any, key: str) -> Any:
    """The value at a dotted key; None if there is none."""
    for name in key.split("."):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node


def _is_typed(path: str, typed: set[str]) -> bool:
    return any(path == key or path.startswith(f"{key}.") for key in typed)


def _without_typed(node: Any, path: str, typed: set[str]) -> Any:
    """The node without the keys that were typed; None for a typed node."""
    if _is_typed(path, typed):
        return None
    if not isinstance(node, Mapping):
        return node
    items = {str(name): _without_typed(value, f"{path}.{name}", typed) for name, value in node.items()}
    return {name: value for name, value in items.items() if value is not None and value != {}}


def known_logging(key: str) -> Iterator[Any]:
    """The configurations of logging that come with aerun, Hydra and its installed plugin for colors, read in this order
    as far as they are needed."""
    yield from _logging_of(conf_dir(), key)
    for package in ("hydra", "hydra_plugins.hydra_colorlog"):
        try:
            spec = find_spec(package)
        except ImportError:
            continue
        for place in (spec and spec.submodule_search_locations) or ():
            yield from _logging_of(Path(place) / "conf", key)


@cache
def _logging_of(folder: Path, key: str) -> list[Any]:
    files = sorted((folder / "hydra" / key).glob("*.yaml"))
    return [yaml.safe_load(file.read_text(encoding="utf-8")) or {} for file in files]
