"""A sweep in the process that asks for it, without a command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode

from aerun.config.compose import initialized_hydra
from aerun.errors import ConfigError
from aerun.sweep.launcher import build_launcher
from aerun.sweep.launcher.contract import Launcher
from aerun.sweep.plugin import PointSweeper, plain, register


def prepare_sweep(words: Sequence[str], command: Sequence[str]) -> tuple[PointSweeper, list[str]]:
    """The sweeper of ``aerun-train -m`` with these words, and the arguments of its ``sweep``, which runs the jobs.

    ``command`` is what is recorded and shown as typed. ConfigError for a sweeper that is Hydra's own.
    """
    register()
    with initialized_hydra() as hydra:
        config = hydra.compose_config("train", list(words), RunMode.MULTIRUN)
        context = HydraContext(hydra.config_loader, Callbacks())
        sweeper = Plugins.instance().instantiate_sweeper(hydra_context=context, task_function=_unused, config=config)
    if not isinstance(sweeper, PointSweeper):
        raise ConfigError(f"hydra/sweeper: {type(sweeper).__name__} is Hydra's own, for the command line only")
    sweeper.command = list(command)
    return sweeper, list(sweeper.composer.typed)


def compose_launcher(words: Sequence[str]) -> Launcher:
    """The launcher that these words choose. ConfigError for one that is not aerun's."""
    with initialized_hydra() as hydra:
        config = hydra.compose_config("train", list(words), RunMode.RUN)
        return build_launcher(plain(config.hydra.launcher), plain(config.sweep)["gpus"])


def _unused(config: Any) -> None:
    """In place of what Hydra's launchers call; those of aerun call ``job_worker``."""
