"""The ``sweep`` node of the configuration: settings of a sweep as a whole."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from aerun.config.schema import construct
from aerun.contracts import Count, NonNegativeInt
from aerun.errors import ConfigError


@dataclass(frozen=True)
class SweepSettings:
    """Settings of a sweep. ``name``: its folder under outputs/; the same name again continues the sweep.

    ``where``: only the points that meet this condition; see ``aerun.compare.conditions``. ``invalid``: fail if any
    point is invalid, or skip such points. ``retry_failed``: a repeated command retries failed jobs. ``max_failures``:
    start no job after so many have failed; ``fail_fast``: after the first. ``gpus``: devices over which local jobs are
    spread.
    """

    name: str | None
    where: str | None
    invalid: Literal["fail", "skip"]
    dry_run: bool
    retry_failed: bool
    max_failures: Count | None
    fail_fast: bool
    gpus: list[NonNegativeInt]

    def __post_init__(self) -> None:
        if self.name is not None and not re.fullmatch(r"[\w][\w.+-]{0,99}", self.name):
            raise ValueError(f"name={self.name}: must be a folder name of letters, digits, '.', '_', '+' and '-'")

    @property
    def allowed_failures(self) -> int | None:
        """The number of failures after which no job is started; None for no limit."""
        return 1 if self.fail_fast else self.max_failures


def parse_sweep_settings(node: Any) -> SweepSettings:
    """The ``sweep`` node as checked settings. ConfigError if it is invalid."""
    if not isinstance(node, Mapping):
        raise ConfigError(
            f"sweep={node}: must be a group with the keys {', '.join(SweepSettings.__dataclass_fields__)}"
        )
    settings: SweepSettings = construct(SweepSettings, {str(key): value for key, value in node.items()}, "sweep")
    return settings


def sweep_folder(folder: str, name: str | None) -> Path:
    """The sweep's folder: ``folder`` as composed, or its sibling called ``name``."""
    path = Path(folder).absolute()
    return path if name is None else path.parent / name
