"""What the command line says: summaries, and errors in a line or two."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from aerun.conf import conf_dir
from aerun.errors import AerunError, ConfigError
from aerun.settings import GROUPS, SEVERAL, unknown_key
from aerun.spec import nearest

FLAGS = {
    *("--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--resolve", "--package", "-p", "--run", "-r"),
    *("--multirun", "-m", "--shell-completion", "-sc", "--config-path", "-cp", "--config-name", "-cn"),
    *("--config-dir", "-cd", "--experimental-rerun", "--info", "-i"),
}


# Those that take the next word as their value.
VALUED = {
    *("--cfg", "-c", "--package", "-p", "--shell-completion", "-sc", "--config-path", "-cp", "--config-name", "-cn"),
    *("--config-dir", "-cd", "--experimental-rerun", "--info", "-i"),
}


def flags_first(words: list[str]) -> list[str]:
    """The same command with its flags before its overrides: Hydra refuses overrides on both sides of a flag."""
    flags: list[str] = []
    others: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        is_flag = word.partition("=")[0] in FLAGS
        (flags if is_flag else others).append(word)
        if word in VALUED and rest and "=" not in rest[0] and not rest[0].startswith("-"):
            flags.append(rest.pop(0))
    return flags + others


def refuse_foreign_flags(words: list[str]) -> None:
    """ConfigError for a flag that is none of Hydra's: people of other tools try ``--epochs 5``."""
    for word in words:
        flag = word.partition("=")[0]
        if re.fullmatch(r"--?[a-z][\w-]*", flag) and flag not in FLAGS:
            name = flag.lstrip("-").replace("-", "_")
            raise ConfigError(f"{flag}: is no flag; settings are written key=value, such as {guess(name)}")


def guess(name: str) -> str:
    """An override that whoever typed the flag ``--name`` may have meant."""
    config = composed([])
    inner = (f"{group}.{key}=…" for group in GROUPS for key in config[group] if key == name)
    return f"{name}=…" if name in config else next(inner, "trainer.epochs=5")


def explain(error: Exception, words: list[str] | None = None) -> str | None:
    """The error in one or two lines; None for one that is not the user's to mend. ``words``: what was asked for, if not
    by the command line."""
    if isinstance(error, AerunError):
        return str(error)
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, option = (error.missing_cfg_file or "").rpartition("/")
        return _no_option(group, option, list(error.options))
    inner = re.search(r"Could not load '(noise/parts)/([^']+)'", str(error))
    if inner:
        return _no_option(inner[1], inner[2], sorted(path.stem for path in (conf_dir() / inner[1]).glob("*.yaml")))
    if isinstance(error, ConfigCompositionException):
        match = re.search(r"Could not override '([^']+)'", str(error))
        if match and "/" in match.group(1):
            group = match.group(1).partition("/")[0]
            return f"{match.group(1)}: goes with {group}=several"
        if match and match.group(1).startswith("hydra."):
            return _no_hydra_key(match.group(1))
        if match:
            return str(unknown_key(match.group(1).partition("@")[0], composed(words), option_keys()))
    text = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
    if isinstance(error, OverrideParseException):
        return f"{error.override}: cannot be read as key=value (no spaces around =, and quotes around brackets)"
    if "Config group override must be a string" in text:
        for word in sys.argv[1:]:
            group, _, option = word.partition("=")
            if group in GROUPS and re.fullmatch(r"[-\d.eE]+|true|false|null", option, re.IGNORECASE):
                return _no_option(group, option, sorted(option_keys()[group]))
        return text
    resolving = re.match(r"ConfigError raised while resolving interpolation: (.*?) full_key:", text)
    if resolving:
        return resolving.group(1)
    if "Only one of --run" in text:
        return text
    if isinstance(error, yaml.YAMLError):
        return f"a YAML file of the configuration cannot be read: {text}"
    return text if isinstance(error, HydraException | OmegaConfBaseException | OSError) else None


def _no_hydra_key(key: str) -> str:
    """Of a launcher's or sweeper's key, by the options that were typed."""
    parent, _, leaf = key.rpartition(".")
    group = parent.replace(".", "/")
    typed = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
    options = {path.stem: list(yaml.safe_load(path.read_text())) for path in (conf_dir() / group).glob("*.yaml")}
    having = sorted(f"{group}={option}" for option, keys in options.items() if leaf in keys)
    if having:
        return (
            f"{key}: the option chosen has no such key; {', '.join(having)} {'has' if len(having) == 1 else 'have'} it"
        )
    keys = [known for known in options.get(typed.get(group, "grid"), []) if known != "_target_"]
    allowed = f" Allowed in {parent}: {', '.join(keys)}" if keys else " --hydra-help lists Hydra's own"
    return f"{key}: there is no such key.{nearest(leaf, keys)}{allowed}"


def _no_option(group: str, option: str, options: list[str]) -> str:
    hint = nearest(option, options)
    return f"{group}={option}: there is no such option.{hint} Allowed: {', '.join(options) or 'none yet'}"


def composed(words: list[str] | None = None) -> dict[str, Any]:
    """The configuration with nothing but the options that the user chose, to look for the nearest key in."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    words = sys.argv[1:] if words is None else words
    groups = (*GROUPS, SEVERAL, "hydra/launcher", "hydra/sweeper")
    choices = [word for word in words if word.partition("=")[0] in groups and "," not in word]
    more = re.search(r"(?:--config-dir|-cd)[ =](\S+)", " ".join(words))
    if more:
        choices.append(f"hydra.searchpath=[file://{Path(more.group(1)).expanduser().absolute()}]")
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        try:
            config = compose("train", overrides=choices)
        except (HydraException, OmegaConfBaseException):  # an option of the user's own
            config = compose("train")
    plain = OmegaConf.to_container(config, resolve=False)
    return {str(key): value for key, value in plain.items()} if isinstance(plain, dict) else {}


def option_keys() -> dict[str, dict[str, list[str]]]:
    """The keys that each shipped option of each group adds to those that its group shares."""
    return {
        group: {path.stem: list(yaml.safe_load(path.read_text()) or {}) for path in (conf_dir() / group).glob("*.yaml")}
        for group in GROUPS
    }


def print_summary(summary: dict[str, Any], folder: Path) -> None:
    """The test error beside its baselines, and where to look."""
    shown = os.path.relpath(folder)
    shown = str(folder) if shown.startswith("..") else shown
    noisy = "linear/mse" in summary["baselines"]
    draws = summary["baselines"].get("linear/draws")  # where it is an estimate
    rows = [("autoencoder", "mse", "psnr", summary["test"])]
    names = {
        "mean_image": "mean image",
        "pca": f"PCA, {summary['code_size']} components" + (", clean input" if noisy else ""),
        "linear": "best linear map" + (f", {draws:g} draws" if draws else ""),
    }
    rows += [(text, f"{key}/mse", f"{key}/psnr", summary["baselines"]) for key, text in names.items()]
    print(f"\n{'test error':<36}{'MSE per pixel':>16}{'PSNR (dB)':>12}")
    for text, mse, psnr, values in rows:
        if mse in values:
            number = f"{values[mse]:.6f}" if values[mse] < 1e4 else f"{values[mse]:.6g}"
            print(f"{text:<36}{number:>16}{values[psnr]:12.2f}" if psnr in values else f"{text:<36}{number:>16}")
    if not {"pca/mse", "linear/mse"} & summary["baselines"].keys():
        print(f"(PCA of {summary['code_size']} components of images this large would take too long)")
    print_protocols(summary["test"], summary.get("protocols", {}), summary.get("unanswered", {}))
    rate = summary["images_per_second"]
    speed = f", {rate:,.0f} images/s" if rate else ""
    beside = Path(sys.executable).with_name("tensorboard")
    board = "tensorboard" if shutil.which("tensorboard") or not beside.exists() else os.path.relpath(beside)
    print(f"\nbest epoch {summary['best_epoch']} of {summary['epochs']}{speed}")
    print(f"run folder   {shown}")
    print(f"look at it   {board} --logdir {shlex.quote(shown)}")


def print_protocols(
    numbers: Mapping[str, float], protocols: Mapping[str, Sequence[str]], unanswered: Mapping[str, str]
) -> None:
    """What each protocol found, a line a number; in one line why one found nothing."""
    if protocols:
        print(f"\n{'protocol':<20}{'number':<36}{'value':>12}")
    for protocol, names in protocols.items():
        for name in names:
            print(f"{protocol:<20}{name:<36}{numbers[name]:>12.6g}")
            protocol = ""
    for protocol, why in unanswered.items():
        print(f"protocol.{protocol}: {why}")
