"""What belongs to a sweep as a whole: the ``sweep`` node of the configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from aerun.config.schema import Count, NonNegativeInt, construct
from aerun.errors import ConfigError


@dataclass(frozen=True)
class Sweep:
    """``name`` is the sweep's folder under outputs/; the same name again goes on with it.

    ``invalid``: what becomes of points that cannot work. ``retry_failed``: whether a repeated command tries jobs
    again that failed. ``max_failures``: no job is begun after so many have failed; ``fail_fast`` means the first.
    ``gpus``: local jobs are spread over these devices.
    """

    name: str | None
    invalid: Literal["fail", "skip"]
    dry_run: bool
    retry_failed: bool
    max_failures: Count | None
    fail_fast: bool
    gpus: list[NonNegativeInt]

    def __post_init__(self) -> None:
        if self.name is not None and not re.fullmatch(r"[\w][\w.+-]{0,99}", self.name):
            raise ValueError(f"name={self.name}: must be a folder's name: letters, digits, '.', '_', '+' and '-'")

    @property
    def allowed_failures(self) -> int | None:
        """How many failures end the sweep."""
        return 1 if self.fail_fast else self.max_failures


def parse_sweep(node: Any) -> Sweep:
    """The checked settings. ConfigError with one line."""
    if not isinstance(node, Mapping):
        raise ConfigError(f"sweep={node}: must be a group of keys: {', '.join(Sweep.__dataclass_fields__)}")
    sweep: Sweep = construct(Sweep, {str(key): value for key, value in node.items()}, "sweep")
    return sweep


def sweep_folder(folder: str, name: str | None) -> Path:
    """``folder`` as composed, unless the sweep has a name of its own: then beside it, under that name."""
    path = Path(folder).absolute()
    return path if name is None else path.parent / name
