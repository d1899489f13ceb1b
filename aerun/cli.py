"""The command line: composes the configuration with Hydra, checks it, runs, and says what came out.

Nothing here imports torch before the configuration has been found good.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from aerun.conf import conf_dir
from aerun.errors import AerunError, ConfigError
from aerun.settings import parse, unknown_key
from aerun.spec import nearest

FULL_ERROR = "HYDRA_FULL_ERROR"


def run_folder(resume: str | None, name: str) -> str:
    """The folder of the run that is resumed, or a new one under outputs/ whose name cannot be taken."""
    if resume:
        return str(Path(resume).expanduser().absolute())
    slug = re.sub(r"[^\w.-]+", "_", name)
    return str(Path.cwd() / "outputs" / f"{slug}_{datetime.now():%Y-%m-%d_%H-%M-%S-%f}")


OmegaConf.register_new_resolver("run_folder", run_folder, replace=True, use_cache=True)


@hydra.main(config_path=str(conf_dir()), config_name="train", version_base="1.3")
def train(config: DictConfig) -> float | None:
    """One job: check everything, then run. Returns the monitored loss, for sweepers that minimise it."""
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    choices = {str(key): str(value) for key, value in hydra_config.runtime.choices.items() if "/" not in str(key)}
    typed = OmegaConf.to_container(hydra_config.overrides.task, resolve=False)
    overrides = [str(override) for override in typed] if isinstance(typed, list) else []
    try:
        plain = resolve(config)
        if plain.get("resume") is not None:
            plain, choices = continued(folder, allowed_epochs(plain, overrides))
        settings = parse(plain, choices, overrides)
        if hasattr(settings.dataset, "check"):
            settings.dataset.check()

        from aerun.experiment import run

        summary = run(settings, plain, folder, overrides=overrides)
    except AerunError:
        remove_if_empty(folder)
        raise
    print_summary(summary, folder)
    loss: float | None = summary["best_loss"]
    return loss


def resolve(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain values. ConfigError for an interpolation that leads nowhere."""
    try:
        plain = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        key = f"{error.full_key}: " if error.full_key else ""
        raise ConfigError(f"{key}{str(error).splitlines()[0]}") from error
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def continued(folder: Path, epochs: int | None) -> tuple[dict[str, Any], dict[str, str]]:
    """The configuration to continue the run in ``folder`` with, ``epochs`` long if given, and its choices."""
    from aerun.runfolder import read_choices, read_config

    config = read_config(folder)
    if epochs is not None:
        config["trainer"]["epochs"] = epochs
    return {**config, "resume": str(folder)}, read_choices(folder)


def allowed_epochs(plain: dict[str, Any], overrides: list[str]) -> int | None:
    """How many epochs the user asks a resumed run to have, if at all; ConfigError for any other change."""
    keys = [override.lstrip("+").partition("=")[0] for override in overrides]
    for key, override in zip(keys, overrides, strict=True):
        if key not in ("resume", "trainer.epochs"):
            raise ConfigError(f"{override}: a resumed run keeps its settings; only trainer.epochs may be changed")
    epochs: int | None = plain["trainer"]["epochs"] if "trainer.epochs" in keys else None
    return epochs


def remove_if_empty(folder: Path) -> None:
    """Leave no folder behind for a run that never began."""
    for path in (folder / "checkpoints", folder):
        with contextlib.suppress(OSError):
            path.rmdir()


def print_summary(summary: dict[str, Any], folder: Path) -> None:
    """The test error beside its baselines, and where to look."""
    shown = os.path.relpath(folder)
    shown = str(folder) if shown.startswith("..") else shown
    rows = [("autoencoder", "mse", "psnr", summary["test"])]
    names = {
        "mean_image": "mean image",
        "pca": f"PCA, {summary['code_size']} components",
        "linear": "best linear map",
    }
    rows += [(text, f"{key}/mse", f"{key}/psnr", summary["baselines"]) for key, text in names.items()]
    print(f"\n{'test error':<24}{'MSE per pixel':>16}{'PSNR (dB)':>12}")
    for text, mse, psnr, values in rows:
        if mse in values:
            decibels = f"{values[psnr]:12.2f}" if psnr in values else f"{'':>12}"
            print(f"{text:<24}{values[mse]:16.6f}{decibels}")
    rate = summary["images_per_second"]
    speed = f", {rate:,.0f} images/s" if rate else ""
    print(f"\nbest epoch {summary['best_epoch']} of {summary['epochs']}{speed}")
    print(f"run folder   {shown}")
    print(f"look at it   tensorboard --logdir {shlex.quote(shown)}")


def guarded(function: Callable[[], Any]) -> Any:
    """Call ``function``; errors meant for the user become one or two lines and exit code 1.

    HYDRA_FULL_ERROR=1 shows every traceback. It is also how Hydra is told to raise instead of printing.
    """
    if os.environ.get(FULL_ERROR) == "1":
        return function()
    before = os.environ.get(FULL_ERROR)
    os.environ[FULL_ERROR] = "1"
    try:
        return function()
    except (AerunError, HydraException, OmegaConfBaseException, OSError) as error:
        print(f"aerun: {explain(error)}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt as error:
        print(f"aerun: stopped by {error or 'SIGINT'}; resume=RUN_FOLDER goes on from there", file=sys.stderr)
        sys.exit(128 + getattr(error, "number", 2))
    finally:
        if before is None:
            del os.environ[FULL_ERROR]
        else:
            os.environ[FULL_ERROR] = before


def explain(error: Exception) -> str:
    """The error in one or two lines."""
    if isinstance(error, AerunError):
        return str(error)
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, option = (error.missing_cfg_file or "").rpartition("/")
        allowed = ", ".join(error.options)
        return f"{group}={option}: there is no such option.{nearest(option, error.options)} Allowed: {allowed}"
    if isinstance(error, ConfigCompositionException):
        match = re.search(r"Could not override '([^']+)'", str(error))
        if match:
            return str(unknown_key(match.group(1).partition("@")[0], composed()))
    lines = [line.strip() for line in f"{error}".splitlines() if line.strip()]
    return " ".join(lines[:3])


def composed() -> dict[str, Any]:
    """The configuration without anything that the user typed, to look for the nearest key in."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        groups = [token for token in sys.argv[1:] if re.fullmatch(r"\w+=[\w/]+", token)]
        try:
            config = compose("train", overrides=groups)
        except Exception:
            config = compose("train")
    plain = OmegaConf.to_container(config, resolve=False)
    return {str(key): value for key, value in plain.items()} if isinstance(plain, dict) else {}


def main() -> None:
    """``aerun-train`` and scripts/train.py."""
    guarded(train)


def evaluate_main() -> None:
    """``aerun-evaluate run=FOLDER`` and scripts/evaluate.py."""
    guarded(lambda: evaluate_run(sys.argv[1:]))


def evaluate_run(arguments: list[str]) -> None:
    """Recompute a finished run's test metrics and figures."""
    usage = "usage: evaluate.py run=RUN_FOLDER\nComputes the test metrics and figures of a finished run again."
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage)
        return
    for argument in arguments:
        if not argument.startswith("run="):
            raise ConfigError(f"{argument}: there is no such key. Allowed: run")
    folder = Path(arguments[-1].removeprefix("run=")).expanduser()

    from aerun.experiment import reevaluate

    summary = reevaluate(folder)
    print_summary(summary, folder.absolute())
    differing = summary["differs_from_summary"]
    print(
        "agrees with summary.json to the last digit" if not differing else f"differs from summary.json in {differing}"
    )
