"""Arrays that are handed over in Python."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from aerun.dataset.base import Dataset
from aerun.dataset.data import Arrays
from aerun.errors import ConfigError, DataError


@dataclass(frozen=True, kw_only=True)
class Given(Dataset):
    """``arrays`` [N,F] or [N,C,H,W], float32: no option of the command line, which has nothing to hand over.

    A run folder that names this class can be loaded, but not trained or evaluated again: its data are not kept.
    """

    arrays: Any = field(default=None, metadata={"internal": True})

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("input_transform", "target_transform"):
            if getattr(self, key):
                raise ValueError(f"{key}: data that are handed over are taken as they are; transform them before")
        if self.classes is not None:
            raise ValueError("classes: data that are handed over have no labels; choose the rows before")

    def read(self) -> Arrays:
        if not isinstance(self.arrays, Arrays):
            raise DataError("the data of this run were handed over in Python, and are not kept")
        return self.arrays


def given(keys: dict[str, Any]) -> dict[str, Any]:
    """The node of a data set that is handed over, with those ``keys`` of another that all data sets have."""
    import dataclasses

    shared = {key.name for key in dataclasses.fields(Dataset)}
    if keys.get("_target_") != "aerun.dataset.Random":
        raise ConfigError("dataset: the data are those that are handed over; only dataset.key=value can be said")
    return {"_target_": "aerun.dataset.Given", **{key: value for key, value in keys.items() if key in shared}}
