"""``aerun-evaluate``: compute a finished run's test metrics and figures again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from aerun.base.conf import conf_dir
from aerun.cli.command import guarded
from aerun.cli.console import print_protocols, print_summary
from aerun.config.compose import resolve
from aerun.config.settings import PROTOCOL
from aerun.errors import ConfigError


def evaluate_main() -> None:
    """``aerun-evaluate run=FOLDER`` and scripts/evaluate.py."""
    guarded(lambda: evaluate_run(sys.argv[1:]))


def evaluate_run(words: list[str]) -> None:
    """Recompute a finished run's test metrics and figures, and ask it further protocols."""
    if "-sc" in words:  # a shell that asks for Hydra's completion
        return
    if not words or words[0] in ("-h", "--help"):
        name = Path(sys.argv[0]).name
        print(f"usage: {name} run=RUN_FOLDER [protocol=[NAME,…] protocol.NAME.key=value …] [trusted_packages=[NAME]]")
        print(
            "Computes the test metrics and figures of a finished run again, with the protocols that it had, or others."
        )
        return
    folder, trusted, asked = None, [], []
    for word in words:
        key, _, value = word.partition("=") if "=" in word else ("", "", word)
        if key.partition(".")[0] == PROTOCOL:
            asked.append(word)
        elif key == "trusted_packages":
            trusted = [name.strip() for name in value.strip("[]").split(",")]
        elif key in ("run", ""):
            folder = Path(value).expanduser().absolute()
        else:
            raise ConfigError(f"{word}: there is no such key. Allowed: run, protocol, trusted_packages")
    if folder is None:
        raise ConfigError("run=RUN_FOLDER is missing")

    protocols = composed_protocols(asked) if asked else None

    from aerun.runs.reopen import reevaluate

    summary = reevaluate(folder, trusted, protocols)
    print_summary(summary, folder)
    further = summary["further"]
    flat = {name: value for numbers in further.values() for name, value in numbers.items()}
    print_protocols(flat, {name: list(numbers) for name, numbers in further.items()}, {})
    differing = summary["differs_from_summary"]
    if differing:
        print(f"differs from summary.json in {', '.join(differing)}")
        sys.exit(1)
    print("agrees with summary.json to the last digit")
    if summary["unanswered"]:
        sys.exit(1)


def composed_protocols(words: list[str]) -> dict[str, Any]:
    """The nodes of the protocols that these overrides choose."""
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        nodes: dict[str, Any] = resolve(compose("train", overrides=words))[PROTOCOL]
    return nodes
