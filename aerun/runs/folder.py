"""The files of a run folder: configuration, environment, status, metrics, summary. Reading them needs no torch."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import platform
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import yaml

from aerun.base.bounded import read_arrays, read_json, read_yaml
from aerun.base.files import write_json, write_text
from aerun.base.typed import Check
from aerun.config.schema import column_type, known_class
from aerun.errors import DataError, DivergedError, PrunedError, StorageError
from aerun.runs.folder_schema import (
    CONFIG_SCHEMA,
    ENVIRONMENT_SCHEMA,
    OVERRIDES_SCHEMA,
    STATUS_SCHEMA,
    SUMMARY_SCHEMA,
    SWEEP_SCHEMA,
)

if TYPE_CHECKING:
    import numpy as np
    import torch

    from aerun.dataset.data import Data

log = logging.getLogger(__name__)
LOG, LOG_FORMAT = "aerun.log", "[%(asctime)s][%(name)s][%(levelname)s] %(message)s"
CONFIG, OVERRIDES, ENVIRONMENT = "config.yaml", "overrides.yaml", "environment.json"
STATUS, SUMMARY, METRICS = "status.json", "summary.json", "metrics.jsonl"
CHECKPOINTS, FIGURES, PROBES = "checkpoints", "figures", "probes.npz"
SWEEP = "sweep.json"  # in the folder of a sweep
WEIGHTS = "model.safetensors"  # of an exported run


def write_description(
    folder: Path,
    config: Mapping[str, Any],
    choices: Mapping[str, str],
    overrides: Sequence[str],
    data: Data,
    device: torch.device,
    declared: Mapping[str, Any],
) -> None:
    """Write the configuration, what the user typed, and the environment. ``declared``: what the parts declare."""
    from aerun.base.environment import environment

    write_config(folder, config)
    if not (folder / OVERRIDES).exists():
        typed = {"overrides": list(overrides), "choices": dict(choices)}
        write_text(folder / OVERRIDES, yaml.safe_dump(typed, sort_keys=False))
    shapes = {"input_shape": list(data.input_shape), "output_shape": list(data.output_shape)}
    counts = {"train": len(data.train), "validation": len(data.validation or ()), "test": len(data.test)}
    dataset = {"checksum": data.checksum, "images": counts, **shapes, "in_unit_range": data.in_unit_range}
    if data.label_count is not None:
        dataset["classes"] = data.label_count
    write_json(folder / ENVIRONMENT, {**environment(device), "dataset": dataset, "declared": dict(declared)})


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write a run's resolved configuration."""
    write_text(folder / CONFIG, yaml.safe_dump({**config, "resume": None}, sort_keys=False))


def read_config(folder: Path) -> dict[str, Any]:
    """A run folder's resolved configuration. DataError if the folder is not that of a run."""
    path = folder / CONFIG
    try:
        config: dict[str, Any] = _read(path, read_yaml, CONFIG_SCHEMA, "is not the configuration of a run")
    except FileNotFoundError:
        raise DataError(f"{folder}: is not a run folder (it does not contain {CONFIG})") from None
    return config


def read_typed(folder: Path) -> tuple[dict[str, str], list[str]]:
    """The option chosen in each group of a run folder, and the overrides that the user typed; empty if unknown.

    A damaged file is reported in a warning.
    """
    try:
        content = _read(folder / OVERRIDES, read_yaml, OVERRIDES_SCHEMA, "is damaged")
    except FileNotFoundError:
        return {}, []
    except DataError as error:
        log.warning("%s; the names of the options are not known", error)
        return {}, []
    return {group: str(option) for group, option in content["choices"].items()}, content["overrides"]


def read_choices(folder: Path) -> dict[str, str]:
    """The option chosen in each group of a run folder; empty if unknown."""
    return read_typed(folder)[0]


def read_environment(folder: Path) -> dict[str, Any]:
    """The environment of a run; empty if there is no such file. DataError if it is damaged."""
    return _read_record(folder / ENVIRONMENT, ENVIRONMENT_SCHEMA, "is not the environment of a run") or {}


def read_data_facts(folder: Path) -> dict[str, Any]:
    """The checksum and the shapes of a run's data, from its environment. DataError if they are not known."""
    found = read_environment(folder).get("dataset")
    if found is None:
        raise DataError(f"{folder / ENVIRONMENT}: dataset, which contains the shape of the data, is missing")
    facts: dict[str, Any] = found
    return facts


def read_summary(folder: Path) -> dict[str, Any] | None:
    """A finished run's summary; None for a run that has not finished. DataError if it is damaged."""
    return _read_record(folder / SUMMARY, SUMMARY_SCHEMA, "is not the summary of a run")


def read_sweep(folder: Path) -> dict[str, Any] | None:
    """The content of a sweep's sweep.json; None if there is none. DataError if it is damaged."""
    return _read_record(folder / SWEEP, SWEEP_SCHEMA, "cannot be read")


def read_probes(folder: Path) -> dict[str, np.ndarray] | None:
    """The ``targets`` and ``reconstructions`` of a run's first test images, uint8 [N,C,H,W]; None if it has none.

    DataError if they are damaged.
    """
    path = folder / PROBES
    try:
        probes = read_arrays(path, ("targets", "reconstructions"))
    except FileNotFoundError:
        return None
    shapes = [images.shape for images in probes.values() if images.dtype == "uint8" and images.size]
    if len(shapes) != 2 or shapes[0] != shapes[1] or len(shapes[0]) != 4 or shapes[0][1] not in (1, 3):
        raise DataError(f"{path}: does not contain images")
    return probes


def _read_record(path: Path, schema: Check, otherwise: str) -> dict[str, Any] | None:
    """Like ``_read`` for a JSON file; None if there is no such file."""
    try:
        content: dict[str, Any] = _read(path, read_json, schema, otherwise)
    except FileNotFoundError:
        return None
    return content


def _read(path: Path, parse: Callable[[Path], Any], schema: Check, otherwise: str) -> Any:
    """The content of a file. DataError, with the text ``otherwise``, if it does not have the schema."""
    content = parse(path)
    try:
        schema("", content)
    except ValueError as error:
        raise DataError(f"{path}: {otherwise} ({error})") from error
    return content


def record_status(folder: Path, state: str, error: BaseException | str | None = None, began: str | None = None) -> None:
    """Write status.json: the state, the error and its traceback, host, process and times."""
    now = datetime.now().isoformat(timespec="seconds")
    raised = error if isinstance(error, BaseException) else None
    status = {
        "state": state,
        "error": error if raised is None else f"{type(raised).__name__}: {raised}",
        "traceback": None if raised is None else "".join(traceback.format_exception(raised)),
        "host": platform.node(),
        "process": os.getpid(),
        "began": began or now,
        "time": now,
    }
    write_json(folder / STATUS, status)


def correct_status(folder: Path) -> None:
    """Record that a finished run has finished, if it was killed after its last file."""
    status = read_status(folder)
    if status is not None and (status["state"] != "finished" or status.get("error")):
        record_status(folder, "finished", began=status.get("began"))


def read_status(folder: Path) -> dict[str, Any] | None:
    """A run folder's status; None if it does not exist or cannot be read."""
    try:
        return load_status(folder)
    except DataError:
        return None


def load_status(folder: Path) -> dict[str, Any] | None:
    """A run folder's status; None if it does not exist. DataError if it cannot be read."""
    return _read_record(folder / STATUS, STATUS_SCHEMA, "is not the status of a run")


@contextlib.contextmanager
def recorded_status(folder: Path) -> Iterator[None]:
    """Write status.json: ``running`` during the block, then ``finished`` or the error."""
    began = datetime.now().isoformat(timespec="seconds")
    record_status(folder, "running", began=began)
    try:
        yield
    except BaseException as error:
        # If the folder cannot be written, the first error is the one that matters.
        with contextlib.suppress(StorageError):
            record_status(folder, state_after(error), error, began)
        raise
    record_status(folder, "finished", began=began)


def state_after(error: BaseException) -> str:
    """The state of a run that ended with this error."""
    # A scheduler's handler may raise SystemExit to requeue the job.
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return "stopped"
    return "diverged" if isinstance(error, DivergedError) else "pruned" if isinstance(error, PrunedError) else "failed"


# Keys of a configuration that say how a run is started and where it is shown, not what it computes.
UNSHOWN_KEYS = ("resume", "trusted_packages", "checkpoint", "tracker")


def shown_settings(config: Mapping[str, Any], choices: Mapping[str, str]) -> dict[str, bool | float | str]:
    """As ``flatten_settings``, without UNSHOWN_KEYS, and with the experiment, if there is one."""
    shown = flatten_settings({key: value for key, value in config.items() if key not in UNSHOWN_KEYS}, choices)
    experiment = choices.get("experiment", "None")
    return shown if experiment == "None" else shown | {"experiment": experiment}


def flatten_settings(config: Mapping[str, Any], choices: Mapping[str, str]) -> dict[str, bool | float | str]:
    """Settings by dotted key, for a table: numbers are floats, lists are text, nulls are omitted.

    The key of a group contains its option, or the name of its class if the option is unknown. A key of one of aerun's
    classes that may have values of several types (``trainer.graph``: auto, true, false) is text in every run.
    """
    result: dict[str, bool | float | str] = {}

    def add(node: Mapping[str, Any], path: str) -> None:
        types = _column_types(str(node.get("_target_")))
        for key, value in node.items():
            dotted = f"{path}.{key}" if path else str(key)
            if isinstance(value, Mapping):
                add(value, dotted)
            elif key == "_target_":
                result[path] = choices.get(path) or str(value).rpartition(".")[2]
            elif value is not None:
                result[dotted] = _cell(value, types.get(str(key)))

    add(config, "")
    return result


@functools.cache
def _column_types(target: str) -> dict[str, type]:
    """The type of each key of one of aerun's classes in a table."""
    cls = known_class(target)
    return {} if cls is None else {name: column_type(hint) for name, hint in get_type_hints(cls).items()}


def _cell(value: Any, wanted: type | None) -> bool | float | str:
    """A setting in a table; as it is typed, if its column has text."""
    if not isinstance(value, bool | int | float):
        return str(value)
    if wanted is not str:
        return value if isinstance(value, bool) else float(value)
    return str(value).lower() if isinstance(value, bool) else repr(int(value) if float(value).is_integer() else value)
