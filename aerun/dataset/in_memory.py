"""Arrays passed from Python."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from aerun.dataset.base import Dataset
from aerun.dataset.data import Arrays
from aerun.errors import ConfigError, DataError


@dataclass(frozen=True, kw_only=True)
class InMemory(Dataset):
    """``arrays`` [N,F] or [N,C,H,W], float32, passed from Python; not an option of the command line.

    A run folder that names this class can be loaded, but not trained or evaluated again: the data are not saved.
    """

    arrays: Any = field(default=None, metadata={"internal": True})

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, transforms in (("input_transform", self.input_transform), ("target_transform", self.target_transform)):
            if transforms:
                raise ValueError(
                    f"{key}: arrays passed from Python are not transformed; transform them yourself before"
                )
        if self.classes is not None or self.exclude is not None:
            key = "classes" if self.classes is not None else "exclude"
            raise ValueError(f"{key}: arrays passed from Python have no labels; select the rows yourself before")

    def read(self) -> Arrays:
        if not isinstance(self.arrays, Arrays):
            raise DataError("the data of this run were passed from Python and are not saved")
        return self.arrays


def in_memory_config(keys: dict[str, Any]) -> dict[str, Any]:
    """Return the ``dataset`` node for arrays passed from Python, with those of ``keys`` that all data sets share."""
    shared = {key.name for key in fields(Dataset)}
    if keys.get("_target_") != "aerun.dataset.Random":
        raise ConfigError("dataset: the data are the arrays passed from Python; only dataset.KEY=VALUE is allowed")
    return {"_target_": "aerun.dataset.InMemory", **{key: value for key, value in keys.items() if key in shared}}
