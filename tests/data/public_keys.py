"""What users and their files name: options, keys, classes, console commands. ``python public_keys.py`` lists them.

``public_keys.json`` has them as they were when the kit of run folders was written; more may come, none may go.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CONF, LISTED = ROOT / "conf", HERE / "public_keys.json"
MANY = ("protocol", "noise/parts")  # groups whose options stand below a key of their own


def public() -> dict[str, list[str]]:
    """Every option, ``group=option key`` and ``_target_`` of conf/, every console command, every name of ``aerun``."""
    import aerun

    options = sorted(options_of(CONF))
    groups = {option.partition("=")[0].partition("/")[0] for option in options}
    keys = {key for key in dotted(composed([])) if key.partition(".")[0] not in groups}
    targets: set[str] = set()
    for group, option in (option.split("=") for option in options):
        if group.startswith("hydra"):
            node = yaml.safe_load((CONF / group / f"{option}.yaml").read_text())
            keys |= {f"{group}={option} {group.replace('/', '.')}.{key}" for key in dotted(node)}
        else:
            config = composed([f"{group}=[{option}]" if group in MANY else f"{group}={option}", *needed(group)])
            found = list(dotted(config))
            start = "" if group == "experiment" else group.replace("/", ".")
            keys |= {f"{group}={option} {key}" for key in found if start and key.startswith(f"{start}.")}
            targets |= set(named(config))
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    return {
        "options": options,
        "keys": sorted(keys),
        "targets": sorted(targets),
        "commands": sorted(scripts),
        "functions": sorted(aerun.__all__),
    }


def options_of(conf: Path) -> Iterator[str]:
    """``group=option`` for every file of every group."""
    for path in conf.rglob("*.yaml"):
        parts = path.relative_to(conf).with_suffix("").parts
        if len(parts) > 1 and parts[:2] != ("hydra", "keys"):
            depth = 1 if parts[0] == "experiment" else len(parts) - 1
            yield f"{'/'.join(parts[:depth])}={'/'.join(parts[depth:])}"


def needed(group: str) -> list[str]:
    """The options without which a group is not there."""
    return ["noise=several"] if group == "noise/parts" else []


def composed(overrides: list[str]) -> dict[str, Any]:
    """The configuration that these overrides give, values as they stand in the files."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config: Any = OmegaConf.to_container(compose("train", overrides=overrides), resolve=False)
    return {str(key): value for key, value in config.items()}


def dotted(node: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """All keys, inner ones included."""
    for key, value in node.items():
        yield f"{path}{key}"
        if isinstance(value, Mapping):
            yield from dotted(value, f"{path}{key}.")


def named(node: Any) -> Iterator[str]:
    """Every ``_target_``."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == "_target_":
                yield value
            yield from named(value)


if __name__ == "__main__":
    print(json.dumps(public(), indent=1))
