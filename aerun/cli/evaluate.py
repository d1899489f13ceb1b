"""``aerun-evaluate``: recompute the test metrics and figures of finished runs."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aerun.base.archive import is_file, is_folder
from aerun.base.program import version_line
from aerun.cli.command import guard
from aerun.cli.run_report import print_protocols, print_summary
from aerun.config.compose import initialized_hydra, resolve
from aerun.config.settings import PROTOCOL
from aerun.errors import ConfigError, nearest, visible
from aerun.runs.folder import CONFIG

KEYS = ("run", "device", "output", "trusted_packages")
LAUNCHER = ("hydra/launcher", "hydra.launcher", "sweep.gpus")
USAGE = """\
usage: {name} FOLDER … [protocol=[NAME,…] protocol.NAME.key=value …] [device=NAME] [output=FOLDER]
       [trusted_packages=[NAME]] [hydra/launcher=NAME hydra.launcher.key=value …]
Recompute the test metrics and figures of finished runs, with their own protocols or with others.
FOLDER, or run=FOLDER: a run, or a sweep, whose finished runs are evaluated.
device: auto, cpu, cuda or mps (default: as the run). output: where to write, instead of the run folder.
hydra/launcher: where many runs are evaluated: basic (default), joblib, slurm or ray, with its keys.
--version shows the versions of aerun, torch and Hydra."""


def main() -> int:
    """``aerun-evaluate run=FOLDER``. Returns the exit code."""
    return guard(lambda: evaluate(sys.argv[1:]))


def evaluate(words: list[str]) -> int:
    """Evaluate again, run further protocols, print. 1 if a number differs from summary.json or an evaluation fails."""
    if "-sc" in words:  # a shell asks for Hydra's completion
        return 0
    if "--version" in words:
        print(version_line())
        return 0
    if not words or words[0] in ("-h", "--help"):
        print(USAGE.format(name=Path(sys.argv[0]).name))
        return 0
    asked = parse_words(words)
    protocols = compose_protocols(asked.overrides) if asked.overrides else None
    folder, *others = asked.folders
    if asked.launcher or others or (is_folder(folder) and not is_file(folder / CONFIG)):
        return evaluate_many(asked, protocols)

    from aerun.runs.reopen import reevaluate

    summary = reevaluate(folder, asked.trusted, protocols, device=asked.device, output=asked.output)
    print_summary(summary, folder)
    further = summary["further"]
    flat = {name: value for numbers in further.values() for name, value in numbers.items()}
    print_protocols(flat, {name: list(numbers) for name, numbers in further.items()}, {})
    differing = summary["differs_from_summary"]
    if differing:
        print(f"differs from summary.json in {visible(', '.join(differing))}")
        return 1
    print("agrees with summary.json to the last digit")
    return 1 if summary["unanswered"] else 0


def evaluate_many(asked: Asked, protocols: dict[str, Any] | None) -> int:
    """Evaluate all finished runs in the folders, and those that are named themselves."""
    from aerun.compare import collect
    from aerun.sweep.evaluation import evaluate_runs
    from aerun.sweep.in_process import compose_launcher

    runs = collect(asked.folders)
    named = set(map(os.path.realpath, asked.folders))
    chosen = [run.folder for run in runs if run.finished or os.path.realpath(run.folder) in named]
    if len(chosen) < len(runs):
        left = [run.name for run in runs if run.folder not in chosen]
        print(f"{len(left)} of {len(runs)} runs have not finished, such as {left[0]}")
    if not chosen:
        raise ConfigError(f"{', '.join(map(str, asked.folders))}: no run has finished")
    options = {"trusted_packages": asked.trusted, "protocols": protocols, "device": asked.device}
    agree = evaluate_runs(chosen, compose_launcher(asked.launcher), asked.output, options)
    return 0 if agree and len(chosen) == len(runs) else 1


@dataclass(frozen=True)
class Asked:
    """What the words ask for: folders, trusted packages, overrides of protocols, a device, where to write, and
    overrides of the launcher."""

    folders: list[Path]
    trusted: list[str]
    overrides: list[str]
    device: str | None
    output: Path | None
    launcher: list[str] = field(default_factory=list)


def parse_words(words: list[str]) -> Asked:
    """The words by their meaning. ConfigError for a word that has none."""
    found = dict[str, str]()
    folders: list[str] = []
    overrides: list[str] = []
    launcher: list[str] = []
    for word in words:
        key, _, value = word.partition("=") if "=" in word else ("run", "", word)
        if key.partition(".")[0] == PROTOCOL:
            overrides.append(word)
        elif f"{key}.".startswith(tuple(f"{name}." for name in LAUNCHER)):
            launcher.append(word)
        elif key == "run":
            folders.append(value)
        elif key in KEYS:
            found[key] = value
        else:
            raise ConfigError(
                f"{word}: there is no such key.{nearest(key, (*KEYS, *LAUNCHER))} "
                f"Allowed: {', '.join(KEYS)}, {PROTOCOL}, {', '.join(LAUNCHER)}"
            )
    if not folders:
        raise ConfigError("run=RUN_FOLDER is missing")
    if not all(folders):
        raise ConfigError("run=: name a run folder")
    trusted = found.get("trusted_packages", "").strip("[]")
    packages = [name.strip() for name in trusted.split(",") if name.strip()]
    output = _absolute(found["output"]) if found.get("output") else None
    return Asked(list(map(_absolute, folders)), packages, overrides, found.get("device"), output, launcher)


def _absolute(path: str) -> Path:
    return Path(path).expanduser().absolute()


def compose_protocols(overrides: list[str]) -> dict[str, Any]:
    """The configuration of the protocols that these overrides choose, by name."""
    from hydra import compose

    with initialized_hydra():
        nodes: dict[str, Any] = resolve(compose("train", overrides=overrides), overrides)[PROTOCOL]
    return nodes
