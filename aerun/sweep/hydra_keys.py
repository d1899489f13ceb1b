"""What Hydra documents for each job: its effect in aerun's sweeps, whose jobs Hydra does not start, or a refusal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from aerun.base.conf import conf_dir
from aerun.errors import ConfigError

INSTEAD = "hydra/sweeper=basic starts jobs by Hydra's own launchers, where it has"
JOB_EVENTS = ("on_job_start", "on_job_end")


def check_hydra_keys(hydra: Mapping[str, Any], callbacks: Iterable[Any]) -> None:
    """ConfigError for a key of ``hydra.job``, ``hydra.sweep`` or ``hydra.callbacks`` that would have no effect.

    ``hydra``: the sweep's node, not resolved; ``callbacks``: Hydra's callback objects.
    """
    default = yaml.safe_load((conf_dir() / "train.yaml").read_text())["hydra"]
    for node, key, reason in (
        ("job", "chdir", "jobs share the working directory of the sweep"),
        ("job", "name", "a job's log is always aerun.log"),
        ("sweep", "subdir", "a job's folder is named by the keys that vary"),
    ):
        value = hydra[node].get(key)
        if value != default[node][key]:
            raise ConfigError(f"hydra.{node}.{key}={value}: has no effect, because {reason}; {INSTEAD}")
    for callback in callbacks:
        for event in JOB_EVENTS:
            if _defines(callback, event):
                raise ConfigError(
                    f"hydra.callbacks: {type(callback).__name__}.{event} is not called in sweeps; use an observer, "
                    "callback=[NAME], or hydra/sweeper=basic"
                )


def _defines(callback: Any, event: str) -> bool:
    """Whether a callback does something at an event: its method is not the one of Hydra's base class."""
    owner = next((cls for cls in type(callback).__mro__ if event in vars(cls)), None)
    return owner is not None and owner.__module__ != "hydra.experimental.callback"


def job_environment(hydra: Mapping[str, Any]) -> dict[str, str]:
    """The environment variables of ``hydra.job.env_set`` and ``env_copy``, which jobs inherit from the sweep's process.

    ConfigError for jobs in a running Ray cluster, which do not.
    """
    variables = {str(name): str(value) for name, value in (hydra["job"].get("env_set") or {}).items()}
    if variables and hydra["launcher"].get("address") is not None:
        raise ConfigError(
            f"hydra.job.env_set.{next(iter(variables))}: has no effect in a running Ray cluster; set the variable "
            "where the cluster is started"
        )
    return variables
