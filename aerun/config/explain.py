"""Explains errors of the configuration in one or two lines."""

from __future__ import annotations

import functools
import itertools
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from aerun.base.conf import conf_dir
from aerun.base.library_errors import file_error, out_of_memory
from aerun.config.compose import compose_words, initialized_hydra
from aerun.config.override_syntax import quoted, syntax_error
from aerun.config.settings import GROUPS, SEVERAL
from aerun.errors import AerunError, ConfigError, nearest

# Two groups with similar names, and what they are for.
ABOUT = {
    "schedule": ". This group changes numbers other than the learning rate, which has the group scheduler",
    "scheduler": ". This group sets the learning rate; other numbers have the group schedule",
}


def known_keys(config: Mapping[str, Any], path: str = "") -> list[str]:
    """All dotted keys of a configuration, including those of inner nodes."""
    keys = []
    for key, value in config.items():
        dotted = f"{path}.{key}" if path else str(key)
        keys.append(dotted)
        if isinstance(value, Mapping):
            keys += known_keys(value, dotted)
    return keys


def unknown_key(key: str, config: Mapping[str, Any], options: Mapping[str, Mapping[str, Sequence[str]]]) -> ConfigError:
    """The error for a key that the configuration does not have.

    ``options``: the keys of every option by group. The error names the options of the group that have the key, or else
    the nearest existing key.
    """
    group, _, leaf = key.partition(".")
    parent = key.rpartition(".")[0]
    for name in (key, parent):
        if f"{name}._target_" in known_keys(config) and _value_of(config, f"{name}._target_") == "???":
            return ConfigError(
                f"{key}: there is no such key; {name}._target_=package.Class selects a class, and +{name}.NAME=… adds "
                "an argument"
            )
    having = sorted(f"{group}={option}" for option, keys in options.get(group, {}).items() if leaf in keys)
    if having:
        return ConfigError(f"{key}: the chosen option of {group} does not have this key; {', '.join(having)} have it")
    keys = [known for known in known_keys(config) if not known.endswith("_target_")]
    same_leaf = [known for known in keys if known.rpartition(".")[2] == key]
    while parent and not any(known.startswith(f"{parent}.") for known in keys):  # sparsity.topk.k
        parent = parent.rpartition(".")[0]
    siblings = [known for known in keys if known.rpartition(".")[0] == parent]
    hint = f" Did you mean '{same_leaf[0]}'?" if same_leaf else nearest(key, siblings) or nearest(key, keys)
    allowed = ", ".join(known.removeprefix(f"{parent}.") for known in siblings)
    where = f" in {parent}" if parent else ""
    return ConfigError(f"{key}: there is no such key.{hint} Allowed{where}: {allowed}{ABOUT.get(group, '')}")


def not_chosen(key: str, config: Mapping[str, Any], words: Sequence[str] | None) -> str | None:
    """The message for a key of an option that is not among the chosen ones of its group, which takes any number; None
    for any other key."""
    group, *rest = key.split(".", 2)
    if group not in SEVERAL or len(rest) < 2 or rest[0] in config[group]:
        return None
    option, inner = rest
    others = [word for word in (sys.argv[1:] if words is None else words) if not word.startswith(f"{group}=")]
    node = compose_choices([*others, f"{group}={option}"])[group].get(option)
    if node is None:
        options = sorted({path.stem for path in (conf_dir() / group).glob("*.yaml")} - {"none"})
        return _no_option(group, option, options)
    keys = [known for known in known_keys(node) if known != "_target_"]
    allowed = ", ".join(keys) or "nothing"
    if inner not in keys:
        return f"{key}: there is no such key.{nearest(inner, keys)} Allowed in {group}.{option}: {allowed}"
    chosen = [*config[group], option]
    names = option if len(chosen) == 1 else f"[{','.join(chosen)}]"
    return f"{key}: {group}={option} is not chosen; {group}={names} adds it"


def _value_of(config: Mapping[str, Any], key: str) -> Any:
    """The value of an existing dotted key."""
    return functools.reduce(lambda node, name: node[name], key.split("."), config)


def explain(error: Exception, words: list[str] | None = None) -> str | None:
    """The error in one or two lines; None if the user cannot fix it. ``words``: what the user typed, by default the
    command line."""
    if isinstance(error, AerunError):
        return str(error)
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, option = (error.missing_cfg_file or "").rpartition("/")
        return _no_option(group, option, list(error.options))
    inner = re.search(r"Could not load '([\w/]+)/([^'/]+)'", str(error))  # one of a list, such as noise=[rian]
    if inner:
        return _no_option(inner[1], inner[2], sorted(path.stem for path in (conf_dir() / inner[1]).glob("*.yaml")))
    if isinstance(error, ConfigCompositionException):
        match = re.search(r"Could not override '([^']+)'", str(error))
        if match and "/" in match.group(1):
            group = match.group(1).partition("/")[0]
            return f"{match.group(1)}: requires {group}=several"
        if match and match.group(1).startswith("hydra."):
            return _no_hydra_key(match.group(1), sys.argv[1:] if words is None else words)
        if match and "@" in match.group(1):
            group = match.group(1).partition("@")[0]
            return f"{match.group(1)}: aerun has each group once; write {group}=OPTION"
        if match and match.group(1) in GROUPS:
            options = sorted(option_keys()[match.group(1)])
            return f"{match.group(1)}: takes the name of one option. Allowed: {', '.join(options)}"
        if match:
            config = compose_choices(words)
            return not_chosen(match.group(1), config, words) or str(unknown_key(match.group(1), config, option_keys()))
        merging = re.match(r"Error merging override \+{0,2}([\w.]+)=(.*)", str(error), re.DOTALL)
        if merging:
            return _no_such_form(merging[1], merging[2].partition("\n")[0], words)
    text = " ".join(str(error).partition("Config search path:")[0].split())
    if not text and isinstance(error.__cause__, Exception):
        return explain(error.__cause__, words)
    if isinstance(error, OverrideParseException):
        return syntax_error(str(error.override), str(error))
    if "Config group override must be a string" in text:
        for word in sys.argv[1:] if words is None else words:
            group, _, option = word.partition("=")
            if group in GROUPS and re.fullmatch(r"[-\d.eE]+|true|false|null", option, re.IGNORECASE):
                return _no_option(group, option, sorted(option_keys()[group]))
        return text
    resolving = re.match(r"ConfigError raised while resolving interpolation: (.*?) full_key:", text)
    if resolving:
        return resolving.group(1)
    if "Only one of --run" in text:
        return f"{text}; --cfg shows the configuration of one run: without -m, and with one value for each key"
    again = re.match(
        r"Multiple values for (\S+)\. To override|(\S+) appears more than once in the final defaults", text
    )
    for word in (sys.argv[1:] if words is None else words) if again else ():
        if again and word.startswith(f"+{again[1] or again[2]}="):
            return f"{word}: the configuration has this group already; write {word[1:]}"
    if isinstance(error, yaml.YAMLError):
        return f"a YAML file of the configuration cannot be read: {text}"
    memory = out_of_memory(error)
    if memory is not None:
        return f"out of memory ({memory}); a smaller batch, model or part of the data may fit"
    if isinstance(error, HydraException | OmegaConfBaseException):
        return text
    return file_error(error) if isinstance(error, OSError) else None


def compose_explained(words: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Like ``compose_words``, with a ConfigError of one line for words that cannot be composed."""
    try:
        return compose_words(words)
    except Exception as error:
        text = explain(error, list(words))
        if text is None or isinstance(error, AerunError):
            raise
        raise ConfigError(text) from error


def _no_such_form(key: str, value: str, words: list[str] | None) -> str:
    """The message for a value that cannot stand in the place of the present one, such as a mapping for a list."""
    try:
        present = _value_of(compose_choices(words), key)
    except (KeyError, TypeError):
        return f"{key}={value}: does not fit the configuration"
    return f"{key}={value}: does not fit what it would replace, {key}={present}"


def _no_hydra_key(key: str, words: Sequence[str]) -> str:
    """The message for an unknown key of a launcher or sweeper, from the options that were typed."""
    parent, _, leaf = key.rpartition(".")
    group = parent.replace(".", "/")
    typed = dict(word.split("=", 1) for word in words if "=" in word)
    options = {path.stem: list(yaml.safe_load(path.read_text())) for path in (conf_dir() / group).glob("*.yaml")}
    having = sorted(f"{group}={option}" for option, keys in options.items() if leaf in keys)
    if having:
        verb = "has" if len(having) == 1 else "have"
        return f"{key}: the chosen option does not have this key; {', '.join(having)} {verb} it"
    keys = [known for known in options.get(typed.get(group, "grid"), []) if known != "_target_"]
    allowed = (
        f" Allowed in {parent}: {', '.join(keys)}" if keys else f" +{key}=… adds it; --hydra-help lists Hydra's own"
    )
    return f"{key}: there is no such key.{nearest(leaf, keys)}{allowed}"


def _no_option(group: str, option: str, options: list[str]) -> str:
    hint = nearest(option, options)
    about = ABOUT.get(group, "")
    return f"{group}={option}: there is no such option.{hint} Allowed: {', '.join(options) or 'none yet'}{about}"


def compose_choices(words: list[str] | None = None) -> dict[str, Any]:
    """The configuration with the options that the user chose, and no other override, in which to find the nearest
    key."""
    from hydra import compose

    words = sys.argv[1:] if words is None else words
    groups = (*GROUPS, *SEVERAL, "hydra/launcher", "hydra/sweeper")
    choices = [word for word in words if word.partition("=")[0] in groups and "," not in word]
    choices += [word for word in words if word.startswith("hydra.searchpath=")]
    after = dict(itertools.pairwise([*words, ""]))
    typed = dict(word.split("=", 1) for word in words if word.startswith(("--config-dir=", "-cd=")))
    for folder in [after[flag] for flag in ("--config-dir", "-cd") if flag in after] + list(typed.values()):
        choices.append(f"hydra.searchpath=[{quoted(f'file://{Path(folder).expanduser().absolute()}')}]")
    with initialized_hydra():
        try:
            config = compose("train", overrides=choices)
        except (HydraException, OmegaConfBaseException):  # an unknown option
            config = compose("train")
    plain = OmegaConf.to_container(config, resolve=False)
    return {str(key): value for key, value in plain.items()} if isinstance(plain, dict) else {}


def option_keys() -> dict[str, dict[str, list[str]]]:
    """The keys of each of aerun's options by group, without those that the group's options share."""
    return {
        group: {path.stem: list(yaml.safe_load(path.read_text()) or {}) for path in (conf_dir() / group).glob("*.yaml")}
        for group in GROUPS
    }
