"""The command line: composes the configuration with Hydra, checks it, runs, and says what came out.

Nothing here imports torch before the configuration has been found good.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from aerun.base.conf import conf_dir
from aerun.cli.command import guarded, raising
from aerun.cli.console import flags_first, print_summary, reject_unknown_flags
from aerun.config.compose import group_choices, run_config
from aerun.config.parse import parse
from aerun.config.settings import GROUPS, Settings
from aerun.errors import AerunError, ConfigError, DataError


def run_folder(resume: str | None, name: str) -> str:
    """The folder of the run that is resumed, or a new one under outputs/ whose name cannot be taken."""
    if resume:
        folder = Path(resume).expanduser().absolute()
        if not folder.is_dir():
            raise ConfigError(f"resume={resume}: there is no such run folder")
        return str(folder)
    slug = re.sub(r"[^\w.-]+", "_", name)
    return str(Path.cwd() / "outputs" / f"{slug}_{datetime.now():%Y-%m-%d_%H-%M-%S-%f}")


OmegaConf.register_new_resolver("run_folder", run_folder, replace=True, use_cache=True)


class _Failure:
    """The error of a single run. It is kept here, since one that Hydra sees gets a second line from it."""

    error: AerunError | None = None


@hydra.main(config_path=str(conf_dir()), config_name="train", version_base="1.3")
def train(config: DictConfig) -> float | None:
    """One job: check everything, then run. Returns the monitored loss, for sweepers that minimise it."""
    try:
        return _job(config)
    except AerunError as error:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise
        _Failure.error = error
        return None


def _job(config: DictConfig) -> float | None:
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    choices = group_choices(hydra_config.runtime.choices)
    typed = OmegaConf.to_container(hydra_config.overrides.task, resolve=False)
    overrides = [str(override) for override in typed] if isinstance(typed, list) else []
    try:
        settings, plain, folder = check_run(run_config(config), choices, overrides, folder)

        from aerun.runs.run import run

        summary = run(settings, plain, folder, overrides=overrides)
    except KeyboardInterrupt:
        if (folder / "config.yaml").exists():
            print(f"\naerun: resume={os.path.relpath(folder)} goes on from here", file=sys.stderr)
        raise
    finally:
        remove_if_empty(folder)
    print_summary(summary, folder)
    if summary.get("unanswered"):
        raise DataError(
            f"protocol={','.join(summary['unanswered'])}: no answer, see above; all else of the run is there"
        )
    loss: float | None = summary["best_loss"]
    return loss


def check_run(
    plain: dict[str, Any], choices: dict[str, str], overrides: list[str], folder: Path
) -> tuple[Settings, dict[str, Any], Path]:
    """The settings, configuration and folder of a run, new in ``folder`` or resumed. ConfigError for all that can be
    wrong before torch is imported."""
    for override in overrides:
        if override.lstrip("+~").startswith("sweep."):
            raise ConfigError(f"{override}: is read in a sweep, with -m and a sweeper of aerun's own")
    if plain.get("resume") is not None:
        folder = Path(run_folder(plain["resume"], ""))  # under -m Hydra's folder is another
        plain, choices = resume_config(folder, plain, overrides)
    settings = parse(plain, choices, overrides)
    settings.dataset.check()
    return settings, plain, folder


def resume_config(folder: Path, plain: dict[str, Any], overrides: list[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """The configuration to continue the run in ``folder`` with, and the options chosen in it.

    Beside ``resume`` only a number of epochs may be asked for. Whose classes the run may use is said anew: a
    run folder may come from somebody else.
    """
    from aerun.runs.folder import read_choices, read_config

    config = read_config(folder)
    keys = [override.lstrip("+").partition("=")[0] for override in overrides]
    for key, override in zip(keys, overrides, strict=True):
        if key not in ("resume", "trainer.epochs", "trusted_packages"):
            raise ConfigError(f"{override}: a resumed run keeps its settings; only trainer.epochs may be changed")
    if "trainer.epochs" in keys:
        config["trainer"]["epochs"] = plain["trainer"]["epochs"]
    config["trusted_packages"] = plain["trusted_packages"]
    return {**config, "resume": str(folder)}, read_choices(folder)


def remove_if_empty(folder: Path) -> None:
    """Leave no folder behind for a run that never began."""
    for path in (folder / "checkpoints", folder):
        with contextlib.suppress(OSError):
            path.rmdir()


def reject_torchrun() -> None:
    """Many processes of one run would be many runs: say, from one of them, what starts them as one."""
    if not {"LOCAL_RANK", "WORLD_SIZE"} <= os.environ.keys():
        return
    if os.environ.get("RANK", "0") != "0":
        time.sleep(10)  # the first that ends is the end of all
    else:
        script = ["python", sys.argv[0]] if sys.argv[0].endswith(".py") else [Path(sys.argv[0]).name]
        words = shlex.join([*script, f"trainer.processes={os.environ['WORLD_SIZE']}", *sys.argv[1:]])
        print(f"aerun: a run starts its processes itself; instead of torchrun, type: {words}", file=sys.stderr)
    sys.exit(2)


def main() -> None:
    """``aerun-train`` and scripts/train.py."""
    reject_torchrun()
    sys.argv[1:] = expand_words(sys.argv[1:])

    def start() -> None:
        reject_unknown_flags(sys.argv[1:])
        sys.argv[1:] = flags_first(sys.argv[1:])
        if {"-m", "--multirun", "hydra.mode=MULTIRUN"} & set(sys.argv):
            from aerun.sweep.plugin import register
            from aerun.sweep.points import defer_group_keys

            register()
            sys.argv[1:] = defer_group_keys(sys.argv[1:], GROUPS)
        _Failure.error = None
        raising(train)
        if _Failure.error is not None:
            raise _Failure.error

    guarded(start)


def expand_words(words: Sequence[str]) -> list[str]:
    """``key=~/...`` with the home folder, which a shell expands only at the start of a word, and ``noise=[a,b]`` as
    Hydra composes it: options of one group that are listed need names."""
    result = []
    for word in words:
        word = re.sub(r"^([\w.+/]+=)~(?=/|$)", rf"\1{Path.home()}", word)
        listed = re.fullmatch(r"noise=(\[[\w\s,-]*\])", word)
        result += ["noise=several", f"noise/parts={listed[1]}"] if listed else [word]
    return result
