"""``aerun-train``: compose the configuration with Hydra, check it, train, and report.

torch is imported only after the configuration has passed its checks.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from aerun.base.conf import conf_dir
from aerun.base.files import missing_folders, remove_empty
from aerun.base.program import rewritten_argv, start_words, version_line
from aerun.cli.command import FULL_ERROR, errors_in_a_line
from aerun.cli.hydra_flags import flags_first, reject_unknown_flags
from aerun.cli.run_report import print_summary
from aerun.config.compose import group_choices, guarded_files, run_config
from aerun.config.override_syntax import expand_words
from aerun.config.parse import parse
from aerun.config.settings import TRACKER, Settings
from aerun.errors import AerunError, ConfigError, DataError
from aerun.sweep.job import label_run

MULTIRUN = {"-m", "--multirun", "hydra.mode=MULTIRUN"}
FIRST_ERROR_SECONDS = 10  # torchrun ends all its processes when the first one ends


def main() -> int:
    """``aerun-train`` and scripts/train.py. Returns the exit code."""
    if "--version" in sys.argv[1:]:  # Hydra's own flag shows Hydra's version alone
        print(version_line())
        return 0
    reject_torchrun()
    words = expand_words(sys.argv[1:], bool(MULTIRUN & set(sys.argv)))
    with errors_in_a_line() as end, rewritten_argv(words):
        start_hydra()
    return end.code


def start_hydra() -> None:
    """Hand ``sys.argv`` to Hydra, which calls ``train``; raise what it would print."""
    reject_unknown_flags(sys.argv[1:])
    for flag, path in itertools.pairwise(sys.argv[1:]):
        if flag == "--experimental-rerun" and not Path(path).is_file():
            raise ConfigError(f"{flag} {path}: there is no such file")
    sys.argv[1:] = flags_first(sys.argv[1:])
    _SingleRun.error = None
    with guarded_files(_register_sweepers), _empty_folders_removed():
        raise_hydra_errors(train)
    if _SingleRun.error is not None:
        raise _SingleRun.error


def _register_sweepers() -> None:
    from aerun.sweep.plugin import register

    register()


@contextlib.contextmanager
def _empty_folders_removed() -> Iterator[None]:
    """A block after which the folders that Hydra made for a run, and that are still empty, are removed."""
    made: list[Path] = []
    before = HydraConfig.set_config

    def set_config(self: HydraConfig, config: DictConfig) -> None:
        before(self, config)
        folder = OmegaConf.select(config, "hydra.runtime.output_dir", throw_on_missing=False)
        if folder is not None:  # Hydra is about to make it
            made.extend(missing_folders(Path(folder)))

    HydraConfig.set_config = set_config  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        HydraConfig.set_config = before  # type: ignore[method-assign]
        remove_empty(sorted(made, key=lambda folder: -len(folder.parts)))


def raise_hydra_errors(entry_point: Callable[[], Any]) -> None:
    """Call Hydra's entry point so that it raises its errors: with HYDRA_FULL_ERROR=1 it does not print and exit."""
    before = os.environ.get(FULL_ERROR)
    os.environ[FULL_ERROR] = "1"
    try:
        entry_point()
    finally:
        if before is None:
            del os.environ[FULL_ERROR]
        else:
            os.environ[FULL_ERROR] = before


def run_folder(resume: str | None, choices: Mapping[str, str], overrides: Sequence[str]) -> str:
    """The folder of the run to resume, or a new folder under outputs/: named by what was chosen, and the time."""
    if resume:
        folder = Path(resume).expanduser().absolute()
        if not folder.is_dir():
            raise ConfigError(f"resume={resume}: there is no such run folder")
        return str(folder)
    label = label_run(choices, overrides)
    return str(Path.cwd() / "outputs" / f"{label}_{datetime.now():%Y-%m-%d_%H-%M-%S-%f}")


OmegaConf.register_new_resolver("run_folder", run_folder, replace=True, use_cache=True)


class _SingleRun:
    """The error of a single run, kept from Hydra, which would add a line of its own."""

    error: AerunError | None = None


@hydra.main(config_path=str(conf_dir()), config_name="train", version_base="1.3")
def train(config: DictConfig) -> float | None:
    """One job: check, then train. Returns the best value of ``trainer.monitor``, for Hydra's sweepers."""
    try:
        return _run_job(config)
    except AerunError as error:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise
        _SingleRun.error = error
        return None


def _run_job(config: DictConfig) -> float | None:
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    choices = group_choices(hydra_config.runtime.choices)
    typed = OmegaConf.to_container(hydra_config.overrides.task, resolve=False)
    overrides = [str(override) for override in typed] if isinstance(typed, list) else []
    try:
        settings, plain, folder = check_run(
            run_config(config, overrides, hydra_config.runtime.cwd), choices, overrides, folder
        )
        settings.dataset.check()

        from aerun.runs.run import run

        summary = run(settings, plain, folder, overrides=overrides)
    except KeyboardInterrupt:
        if (folder / "config.yaml").exists():
            word = shlex.quote(f"resume={os.path.relpath(folder)}")
            print(f"\naerun: {word} continues this run", file=sys.stderr)
        raise
    print_summary(summary, folder)
    if summary.get("unanswered"):
        raise DataError(f"protocol={','.join(summary['unanswered'])}: failed, see above; all other results are kept")
    loss: float | None = summary.get("best_loss")
    return loss


def check_run(
    plain: dict[str, Any], choices: dict[str, str], overrides: list[str], folder: Path
) -> tuple[Settings, dict[str, Any], Path]:
    """The settings, configuration and folder of a run: a new run in ``folder``, or a resumed one.

    ConfigError or DataError for everything that can be found wrong without the data.
    """
    for override in overrides:
        if override.lstrip("+~").startswith("sweep."):
            raise ConfigError(
                f"{override}: applies only to sweeps: with -m (in Python: aerun.run_sweep) and aerun's own sweepers"
            )
    if plain.get("resume") is not None:
        folder = Path(run_folder(plain["resume"], {}, []))  # with -m Hydra's folder is another one
        plain, choices = resume_config(folder, plain, overrides)
    return parse(plain, choices, overrides), plain, folder


def resume_config(folder: Path, plain: dict[str, Any], overrides: list[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """The configuration that continues the run in ``folder``, and the option chosen in each group.

    Only ``trainer.epochs`` and the trackers may change. ``trusted_packages`` comes from this command, not from the run
    folder, which somebody else may have written.
    """
    from aerun.runs.folder import read_choices, read_config

    config = read_config(folder)
    keys = [override.lstrip("+").partition("=")[0] for override in overrides]
    for key, override in zip(keys, overrides, strict=True):
        if key not in ("resume", "trainer.epochs", "trusted_packages") and key.partition(".")[0] != TRACKER:
            raise ConfigError(
                f"{override}: a resumed run keeps its settings; only trainer.epochs and tracker can be changed. "
                f"{shlex.quote(f'init_from={os.path.relpath(folder)}')} begins a new run from its weights"
            )
    if "trainer.epochs" in keys:
        config["trainer"]["epochs"] = plain["trainer"]["epochs"]
    config["trusted_packages"] = plain["trusted_packages"]
    if TRACKER not in config or any(key.partition(".")[0] == TRACKER for key in keys):
        config[TRACKER] = plain.get(TRACKER) or {}
    return {**config, "resume": str(folder)}, read_choices(folder)


def reject_torchrun() -> None:
    """Exit with code 2 under torchrun, which would start many runs; rank 0 prints the command that starts one run."""
    if not {"LOCAL_RANK", "WORLD_SIZE"} <= os.environ.keys():
        return
    if os.environ.get("RANK", "0") != "0":
        time.sleep(FIRST_ERROR_SECONDS)
    else:
        words = shlex.join([*start_words(sys.argv[0]), f"trainer.processes={os.environ['WORLD_SIZE']}", *sys.argv[1:]])
        print(f"aerun: a run starts its own processes; do not use torchrun, type: {words}", file=sys.stderr)
    sys.exit(2)
