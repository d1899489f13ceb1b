"""Composes configurations with Hydra, and converts them to plain values."""

from __future__ import annotations

import contextlib
import re
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from omegaconf.resolvers import oc
from yaml import YAMLError

from aerun.base.conf import conf_dir
from aerun.config.foreign import TRUST, names_variable, reject_foreign_code, trusted_by
from aerun.config.settings import SEVERAL
from aerun.errors import AerunError, ConfigError

RUN_MODE = "hydra.mode=RUN"
PLAIN = r"[-+\w.]+"  # a number, a truth value, null, or a word
_hydra_lock = threading.RLock()


def resolve(config: DictConfig, words: Sequence[str]) -> dict[str, Any]:
    """The configuration as plain values. ConfigError for an interpolation that cannot be resolved, or that reads an
    environment variable that no word names."""
    try:
        with environment_of(words):
            plain = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        reason = error.__cause__ if isinstance(error.__cause__, AerunError) else error
        key = f"{error.full_key}: " if error.full_key else ""
        raise ConfigError(f"{key}{str(reason).splitlines()[0]}") from error
    assert isinstance(plain, dict)
    typed = _typed(plain, OmegaConf.to_container(config, resolve=False))
    return {str(key): value for key, value in typed.items()}


def _typed(value: Any, raw: Any) -> Any:
    """``value`` with what ``raw`` takes from the environment, which is text, as the type that a command line has."""
    if isinstance(value, dict) and isinstance(raw, dict):
        return {key: _typed(item, raw.get(key)) for key, item in value.items()}
    if isinstance(value, list) and isinstance(raw, list) and len(raw) == len(value):
        return [_typed(item, other) for item, other in zip(value, raw, strict=True)]
    if not (isinstance(value, str) and isinstance(raw, str) and re.fullmatch(r"\$\{oc\.env:[^{}]*\}", raw)):
        return value
    from hydra.core.override_parser.overrides_parser import OverridesParser

    found = OverridesParser.create().parse_override(f"key={value}").value() if re.fullmatch(PLAIN, value) else value
    return found if isinstance(found, int | float) or found is None else value


@contextlib.contextmanager
def environment_of(words: Sequence[str]) -> Iterator[None]:
    """A block in which ``${oc.env:NAME}`` works only for variables that the user names in these words.

    Values of a configuration are written to files that are handed on, and files may be somebody else's.
    """

    def read(name: str, *default: Any) -> Any:
        if not names_variable(name, words):
            raise ConfigError(
                f"a file reads the environment variable {name}, whose value would be written to config.yaml; "
                f"type KEY='${{oc.env:{name}}}' to allow it"
            )
        return oc.env(name, *default)

    with _hydra_lock:
        OmegaConf.register_new_resolver("oc.env", read, replace=True)
        try:
            yield
        finally:
            OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)


@contextlib.contextmanager
def guarded_files(on_sweep: Callable[[], None] = lambda: None) -> Iterator[None]:
    """A block in which Hydra composes nothing with which a file would run code of its own choice. ConfigError.

    For a whole sweep it composes only the words that say how it is run. Those of its runs may work only in some of
    them. ``on_sweep`` is called before the sweep begins, which a file may have asked for.
    """
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    load = ConfigLoaderImpl.load_configuration
    composed: dict[tuple[str, ...], DictConfig] = {}  # by its words, the run that Hydra asked the mode of

    def checked(
        self: ConfigLoaderImpl, config_name: str | None, overrides: list[str], run_mode: RunMode, **named: Any
    ) -> DictConfig:
        is_sweep = run_mode == RunMode.MULTIRUN
        if tuple(overrides) in composed:
            return composed.pop(tuple(overrides))
        if is_sweep and not named.get("validate_sweep_overrides", True):  # Hydra wants to know hydra.mode alone
            with contextlib.suppress(Exception):
                config = checked(self, config_name, overrides, RunMode.RUN)
                if config.hydra.mode is None:  # then it asks for the run, and adds this word
                    config.hydra.mode = RunMode.RUN
                    config.hydra.overrides.hydra.append(RUN_MODE)
                    composed[(*overrides, RUN_MODE)] = config
                    return OmegaConf.create({"hydra": {"mode": None}})
        try:
            words = _words_of_sweep(overrides) if is_sweep else overrides
            config = load(self, config_name, words, run_mode, **named)
        except (HydraException, OmegaConfBaseException, AerunError, OSError, YAMLError):
            raise  # ``explain`` knows them
        except Exception as error:
            if "Config group override must be a string" in str(error):
                raise
            raise _unreadable(error) from error
        node = OmegaConf.to_container(config.hydra, resolve=False)
        assert isinstance(node, dict)
        reject_foreign_code({str(key): value for key, value in node.items()})
        if is_sweep:
            config.hydra.overrides.task = [word for word in overrides if word not in node["overrides"]["hydra"]]
            if config.hydra.mode == RunMode.MULTIRUN:
                on_sweep()
        return config

    ConfigLoaderImpl.load_configuration = checked  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        ConfigLoaderImpl.load_configuration = load  # type: ignore[method-assign]


def _words_of_sweep(overrides: Sequence[str]) -> list[str]:
    """The words that Hydra needs to know how a sweep is run: its own, those of ``sweep``, and options that are chosen
    for all runs, whose files may have such keys."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    words = []
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key = override.key_or_group
        is_shared = not ("." in key or override.is_sweep_override() or override.is_delete())
        if override.is_hydra_override() or key.startswith("sweep.") or is_shared:
            words.append(override.input_line or key)
    return words


def _unreadable(error: Exception) -> ConfigError:
    """The error for a configuration that cannot be composed, with the file that Hydra was reading."""
    frames = [frame.f_locals for frame, _ in traceback.walk_tb(error.__traceback__)]
    paths = [frame["full_path"] for frame in frames if isinstance(frame.get("full_path"), str)]
    what = f"{paths[-1]}: " if paths else "the configuration "
    if isinstance(error, UnicodeDecodeError):
        return ConfigError(f"{what}is not in UTF-8 ({error.reason}); save it in UTF-8")
    return ConfigError(f"{what}cannot be read ({type(error).__name__}: {' '.join(str(error).split())})")


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
            with guarded_files(), initialize_config_dir(str(conf_dir()), version_base="1.3"):
                yield GlobalHydra.instance().hydra
        finally:
            GlobalHydra.instance().hydra = previous


def compose_words(words: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """The configuration of one run from the words of a command line, and the option of each group."""
    from hydra import compose

    with initialized_hydra():
        config = compose("train", overrides=list(words), return_hydra_config=True)
    choices = group_choices(config.hydra.runtime.choices)
    return run_config(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]), words), choices


def run_config(config: DictConfig, words: Sequence[str], cwd: str | None = None) -> dict[str, Any]:
    """The resolved configuration of one run, with absolute paths and without the keys of a sweep.

    ``words``: what the user typed. Packages are trusted, and environment variables read, only if they name them.
    ``cwd``: what relative paths start from, if Hydra has changed the working directory since (hydra.job.chdir).
    """
    return finish_config(resolve(config, words), words, cwd)


def finish_config(plain: dict[str, Any], words: Sequence[str], cwd: str | None = None) -> dict[str, Any]:
    """``run_config`` for a configuration that is resolved already."""
    plain = absolute_root(plain, cwd)
    if isinstance(plain.get(TRUST), list):
        plain[TRUST] = [package for package in plain[TRUST] if package in trusted_by(words)]
    plain.pop("sweep", None)
    for group in SEVERAL:
        plain.setdefault(group, {})  # tracker=[]: a file without the group is one of an older version
    for key in ("init_from",) if cwd is None else ("init_from", "resume"):
        if isinstance(plain.get(key), str):
            plain[key] = _absolute(plain[key], cwd)
    return plain


def _absolute(path: str, cwd: str | None) -> str:
    return str(Path(cwd or "").absolute() / Path(path).expanduser())


def absolute_root(plain: dict[str, Any], cwd: str | None = None) -> dict[str, Any]:
    """The configuration with an absolute path to its data, which starts from ``cwd`` if it is relative."""
    dataset = plain.get("dataset")
    if not isinstance(dataset, dict):
        return plain
    root = dataset.get("root")
    if not isinstance(root, str) or root in ("", "???"):
        return plain
    return {**plain, "dataset": {**dataset, "root": _absolute(root, cwd)}}


def group_choices(choices: Mapping[Any, Any] | DictConfig) -> dict[str, str]:
    """The option chosen in each group, from Hydra's ``runtime.choices``; groups with several options are missing
    there."""
    return {str(key): str(value) for key, value in choices.items() if "/" not in str(key) and value is not None}
