"""``aerun-evaluate``: recompute a finished run's test metrics and figures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from aerun.base.conf import conf_dir
from aerun.base.program import version_line
from aerun.cli.command import guard
from aerun.cli.run_report import print_protocols, print_summary
from aerun.config.compose import resolve
from aerun.config.settings import PROTOCOL
from aerun.errors import ConfigError

USAGE = """\
usage: {name} run=RUN_FOLDER [protocol=[NAME,…] protocol.NAME.key=value …] [trusted_packages=[NAME]]
Recompute the test metrics and figures of a finished run, with its own protocols or with others.
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
    folder, trusted, overrides = parse_words(words)
    protocols = compose_protocols(overrides) if overrides else None

    from aerun.runs.reopen import reevaluate

    summary = reevaluate(folder, trusted, protocols)
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


def parse_words(words: list[str]) -> tuple[Path, list[str], list[str]]:
    """The run folder, the trusted packages, and the overrides of protocols."""
    folder: Path | None = None
    trusted: list[str] = []
    overrides: list[str] = []
    for word in words:
        key, _, value = word.partition("=") if "=" in word else ("", "", word)
        if key.partition(".")[0] == PROTOCOL:
            overrides.append(word)
        elif key == "trusted_packages":
            trusted = [name.strip() for name in value.strip("[]").split(",")]
        elif key in ("run", ""):
            folder = Path(value).expanduser().absolute()
        else:
            raise ConfigError(f"{word}: there is no such key. Allowed: run, protocol, trusted_packages")
    if folder is None:
        raise ConfigError("run=RUN_FOLDER is missing")
    return folder, trusted, overrides


def compose_protocols(overrides: list[str]) -> dict[str, Any]:
    """The configuration of the protocols that these overrides choose, by name."""
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        nodes: dict[str, Any] = resolve(compose("train", overrides=overrides), overrides)[PROTOCOL]
    return nodes
