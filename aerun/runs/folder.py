"""The files of a run folder: configuration, environment, status, metrics, summary. Reading them needs no torch."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import traceback
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from aerun.base.files import write_text
from aerun.errors import DataError, DivergedError, PrunedError, StorageError

if TYPE_CHECKING:
    import torch

    from aerun.dataset.data import Data

log = logging.getLogger(__name__)
LOG, LOG_FORMAT = "aerun.log", "[%(asctime)s][%(name)s][%(levelname)s] %(message)s"
CONFIG, OVERRIDES, ENVIRONMENT = "config.yaml", "overrides.yaml", "environment.json"
STATUS, SUMMARY, METRICS = "status.json", "summary.json", "metrics.jsonl"
CHECKPOINTS, FIGURES, PROBES = "checkpoints", "figures", "probes.npz"
WEIGHTS = "model.safetensors"  # of an exported run
MAX_C_PARSED_CHARACTERS = 8000


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

    write_text(folder / CONFIG, yaml.safe_dump({**config, "resume": None}, sort_keys=False))
    if not (folder / OVERRIDES).exists():
        typed = {"overrides": list(overrides), "choices": dict(choices)}
        write_text(folder / OVERRIDES, yaml.safe_dump(typed, sort_keys=False))
    shapes = {"input_shape": list(data.input_shape), "output_shape": list(data.output_shape)}
    counts = {"train": len(data.train), "validation": len(data.validation or ()), "test": len(data.test)}
    dataset = {"checksum": data.checksum, "images": counts, **shapes, "in_unit_range": data.in_unit_range}
    write_text(
        folder / ENVIRONMENT,
        json.dumps({**environment(device), "dataset": dataset, "declared": dict(declared)}, indent=2) + "\n",
    )


def _read_yaml(path: Path) -> Any:
    """Read a YAML file with the C parser, if it is installed: it is ten times faster.

    The C parser recurses on the machine's stack. So Python's parser reads long texts, which may be deeply nested, and
    names of files with bytes that are not UTF-8, which only it takes.
    """
    text = path.read_text(encoding="utf-8")
    fast = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
    return yaml.load(text, fast if len(text) < MAX_C_PARSED_CHARACTERS and "\\uDC" not in text else yaml.SafeLoader)


def read_config(folder: Path) -> dict[str, Any]:
    """A run folder's resolved configuration. DataError if the folder is not that of a run."""
    path = folder / CONFIG
    try:
        config = _read_yaml(path)
    except FileNotFoundError:
        raise DataError(f"{folder}: is not a run folder (it does not contain {CONFIG})") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise DataError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error
    if not isinstance(config, dict) or not isinstance(config.get("trainer"), dict):
        raise DataError(f"{path}: is not the configuration of a run")
    return config


def read_choices(folder: Path) -> dict[str, str]:
    """The option chosen in each group of a run folder; empty if unknown."""
    try:
        typed = _read_yaml(folder / OVERRIDES)
        return {str(group): str(option) for group, option in typed["choices"].items()}
    except (OSError, ValueError, RecursionError, yaml.YAMLError, TypeError, KeyError, AttributeError):
        return {}


def read_overrides(folder: Path) -> list[str]:
    """The overrides that the user typed for a run folder's configuration; empty if unknown."""
    try:
        return [str(override) for override in _read_yaml(folder / OVERRIDES)["overrides"]]
    except (OSError, ValueError, RecursionError, yaml.YAMLError, TypeError, KeyError):
        return []


def read_summary(folder: Path) -> dict[str, Any] | None:
    """A finished run's summary; None for a run that has not finished. DataError if it is damaged."""
    path = folder / SUMMARY
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if not isinstance(summary, dict) or not {"epochs", "steps", "test", "baselines"} <= summary.keys():
        raise DataError(f"{path}: is not the summary of a run")
    return summary


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl. A damaged line is skipped with a warning; the last line may be incomplete without
    one."""
    lines: list[dict[str, Any]] = []
    path = folder / METRICS
    try:
        content = path.read_bytes().splitlines()
    except FileNotFoundError:
        return lines
    for number, line in enumerate(content, 1):
        try:
            numbers = json.loads(line)
        except (ValueError, RecursionError):
            numbers = None
        if isinstance(numbers, dict) and all(type(numbers.get(key)) is int for key in ("epoch", "step")):
            lines.append(numbers)
        elif number < len(content):
            log.warning("%s: line %d is damaged and was skipped", path, number)
    return lines


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
    write_text(folder / STATUS, json.dumps(status, indent=2) + "\n")


def read_status(folder: Path) -> dict[str, Any] | None:
    """A run folder's status; None if it does not exist or cannot be read."""
    try:
        return load_status(folder)
    except DataError:
        return None


def load_status(folder: Path) -> dict[str, Any] | None:
    """A run folder's status; None if it does not exist. DataError if it cannot be read."""
    path = folder / STATUS
    try:
        status = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if not isinstance(status, dict) or not isinstance(status.get("state"), str):
        raise DataError(f"{path}: is not the status of a run")
    return status


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


def flatten_settings(config: Mapping[str, Any], choices: Mapping[str, str]) -> dict[str, bool | float | str]:
    """Settings by dotted key, for a table: numbers are floats, lists are text, nulls are omitted.

    The key of a group contains its option, or the name of its class if the option is unknown.
    """
    result: dict[str, bool | float | str] = {}

    def add(node: Mapping[str, Any], path: str) -> None:
        for key, value in node.items():
            dotted = f"{path}.{key}" if path else str(key)
            if isinstance(value, Mapping):
                add(value, dotted)
            elif key == "_target_":
                result[path] = choices.get(path) or str(value).rpartition(".")[2]
            elif value is not None:
                is_number = isinstance(value, int | float) and not isinstance(value, bool)
                result[dotted] = float(value) if is_number else value if isinstance(value, bool) else str(value)

    add(config, "")
    return result
