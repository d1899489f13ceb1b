"""Launchers: where the jobs of a sweep run, one module for each.

A launcher takes jobs, has the ``worker`` of each called (``aerun.sweep.job_worker.run_job``), and yields the jobs that
have ended. A job's result is in its folder; a launcher only adds the error of a job that was killed before it could
write it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aerun.config.schema import construct, locate
from aerun.errors import ConfigError
from aerun.sweep.launcher.contract import Launcher


def build_launcher(node: Mapping[str, Any], gpus: Sequence[int]) -> Launcher:
    """The launcher that the node ``hydra.launcher`` describes. ConfigError for one that is not aerun's."""
    target = str(node.get("_target_"))
    if target.startswith("hydra._internal.core_plugins.basic_launcher."):
        from aerun.sweep.launcher.basic import Basic

        return Basic(list(gpus))
    values = {str(key): value for key, value in node.items() if key != "_target_"}
    if not target.startswith("aerun.sweep.launcher."):
        raise ConfigError(
            f"hydra.launcher._target_={target}: must be basic, joblib, slurm or ray; launchers for Hydra's own "
            "sweeper need hydra/sweeper=basic, and do not resume"
        )
    launcher: Launcher = construct(locate(target), values, "hydra.launcher")
    if gpus:
        if launcher.gpus is None:
            raise ConfigError(f"sweep.gpus={list(gpus)}: is for local jobs; this launcher assigns devices itself")
        launcher.gpus = list(gpus)
    return launcher
