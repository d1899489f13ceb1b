"""``aerun-evaluate``: recompute a finished run's test metrics and figures."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aerun.base.conf import conf_dir
from aerun.base.program import version_line
from aerun.cli.command import guard
from aerun.cli.run_report import print_protocols, print_summary
from aerun.config.compose import resolve
from aerun.config.schema import nearest
from aerun.config.settings import PROTOCOL
from aerun.errors import ConfigError

KEYS = ("run", "device", "output", "trusted_packages")
USAGE = """\
usage: {name} run=RUN_FOLDER [protocol=[NAME,…] protocol.NAME.key=value …] [device=NAME] [output=FOLDER]
       [trusted_packages=[NAME]]
Recompute the test metrics and figures of a finished run, with its own protocols or with others.
device: auto, cpu, cuda or mps (default: as the run). output: where to write, instead of the run folder.
--version shows the versions of aerun, torch and Hydra."""


def main() -> int:
    """``aerun-evaluate run=FOLDER``. Returns the exit code."""
    return guard(lambda: evaluate(sys.argv[1:]))


def evaluate(words: list[str]) -> int:
    """Evaluate again, run further protocols, print. 1 if a number differs from summary.json or a protocol fails."""
    if "-sc" in words:  # a shell asks for Hydra's completion
        return 0
    if "--version" in words:
        print(version_line())
        return 0
    if not words or words[0] in ("-h", "--help"):
        print(USAGE.format(name=Path(sys.argv[0]).name))
        return 0
    asked = parse_words(words)
    folder = asked.folder
    protocols = compose_protocols(asked.overrides) if asked.overrides else None

    from aerun.runs.reopen import reevaluate

    summary = reevaluate(folder, asked.trusted, protocols, device=asked.device, output=asked.output)
    print_summary(summary, folder)
    further = summary["further"]
    flat = {name: value for numbers in further.values() for name, value in numbers.items()}
    print_protocols(flat, {name: list(numbers) for name, numbers in further.items()}, {})
    differing = summary["differs_from_summary"]
    if differing:
        print(f"differs from summary.json in {', '.join(differing)}")
        return 1
    print("agrees with summary.json to the last digit")
    return 1 if summary["unanswered"] else 0


@dataclass(frozen=True)
class Asked:
    """What the words ask for: a run folder, trusted packages, overrides of protocols, a device, and where to write."""

    folder: Path
    trusted: list[str]
    overrides: list[str]
    device: str | None
    output: Path | None


def parse_words(words: list[str]) -> Asked:
    """The words by their meaning. ConfigError for a word that has none."""
    found = dict[str, str]()
    overrides: list[str] = []
    for word in words:
        key, _, value = word.partition("=") if "=" in word else ("run", "", word)
        if key.partition(".")[0] == PROTOCOL:
            overrides.append(word)
        elif key in KEYS:
            found[key] = value
        else:
            raise ConfigError(
                f"{word}: there is no such key.{nearest(key, KEYS)} Allowed: {', '.join(KEYS)}, {PROTOCOL}"
            )
    if "run" not in found:
        raise ConfigError("run=RUN_FOLDER is missing")
    folder, output = (Path(found[key]).expanduser().absolute() if found.get(key) else None for key in ("run", "output"))
    if folder is None:
        raise ConfigError("run=: name a run folder")
    trusted = found.get("trusted_packages", "").strip("[]")
    packages = [name.strip() for name in trusted.split(",") if name.strip()]
    return Asked(folder, packages, overrides, found.get("device"), output)


def compose_protocols(overrides: list[str]) -> dict[str, Any]:
    """The configuration of the protocols that these overrides choose, by name."""
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        nodes: dict[str, Any] = resolve(compose("train", overrides=overrides), overrides)[PROTOCOL]
    return nodes
