"""The content of a checkpoint -> the weights of a model and the state of its optimizer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from aerun.base.typed import is_number
from aerun.errors import DataError

MODEL, OPTIMIZER, CALLBACK = "model.", "optimizer.", "callback."  # prefixes of tensors
IMPLEMENTATION_FLAGS = ("capturable", "fused", "foreach")  # machine-specific, not restored


@contextlib.contextmanager
def misfits(path: Path) -> Iterator[None]:
    """DataError for a checkpoint whose state does not fit the run's model, optimizer, scheduler or stages."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: does not fit this run ({type(error).__name__}: {reason})") from error


def restore_state(
    path: Path, tensors: dict[str, Tensor], about: dict[str, Any], model: nn.Module, optimizer: Optimizer
) -> None:
    """Restore model and optimizer from the content of a checkpoint."""
    restore_weights(path, tensors, model)
    state: dict[int, dict[str, Any]] = {
        int(index): dict(values) for index, values in about["optimizer"]["state"].items()
    }
    for key, value in tensors.items():
        if key.startswith(OPTIMIZER):
            index, _, name = key.removeprefix(OPTIMIZER).partition(".")
            state.setdefault(int(index), {})[name] = value
    groups = [
        _group(saved, built) for saved, built in zip(about["optimizer"]["groups"], optimizer.param_groups, strict=True)
    ]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                # The file has a contiguous layout; some optimizers require that of the parameter.
                restored = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False)
                values[name] = restored.copy_(value)


def _group(saved: Mapping[str, Any], built: Mapping[str, Any]) -> dict[str, Any]:
    """A group of the optimizer as saved, with the flags of this machine, and with options that the file lacks as they
    are built. TypeError for options of other types."""
    for key, value in saved.items():
        expected = built.get(key)
        if key not in IMPLEMENTATION_FLAGS and expected is not None and not _is_like(value, expected):
            raise TypeError(f"optimizer.{key}={value!r} in place of {expected!r}")
    added = {key: value for key, value in built.items() if key not in saved and key != "params"}
    return {**added, **saved, **{key: built[key] for key in IMPLEMENTATION_FLAGS if key in built}}


def _is_like(value: Any, expected: Any) -> bool:
    """Whether a JSON value has the type of a value that is expected; a whole number may stand for any number."""
    if isinstance(expected, bool | str | Mapping):
        return isinstance(value, type(expected))
    if isinstance(expected, int | float):
        return is_number(value) and not isinstance(value, bool)
    if isinstance(expected, list | tuple):
        return isinstance(value, list) and len(value) == len(expected) and all(map(_is_like, value, expected))
    return True


def restore_weights(path: Path, tensors: dict[str, Tensor], model: nn.Module) -> None:
    """DataError for weights of other names, shapes or kinds of numbers."""
    weights, own = with_prefix(MODEL, tensors), model.state_dict()
    try:
        for name, value in weights.items():
            if name in own and value.is_floating_point() != own[name].is_floating_point():
                raise RuntimeError(f"{name} is {value.dtype} in place of {own[name].dtype}")
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise DataError(f"{path}: contains the weights of another model ({reason})") from error


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names have the prefix, by name without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
