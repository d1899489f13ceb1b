"""Weights and training state in safetensors files: tensors, and JSON beside them. Nothing is pickled."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor, nn
from torch.optim import Optimizer

from aerun.errors import DataError
from aerun.files import replacing

LAST, BEST = "last.safetensors", "best.safetensors"
MODEL, OPTIMIZER = "model.", "optimizer."


@dataclass
class Progress:
    """Where a run stands: what a continued run must know beside weights and optimizer state."""

    epoch: int = 0
    step: int = 0
    best_epoch: int | None = None
    best_loss: float | None = None
    waited: int = 0
    train_seconds: float = 0.0
    train_images: int = 0
    scheduler: dict[str, Any] = field(default_factory=dict)


def save(path: Path, model: nn.Module, optimizer: Optimizer, progress: Progress) -> None:
    """Write everything needed to continue the run; the file appears whole or not at all."""
    tensors = {f"{MODEL}{name}": value for name, value in model.state_dict().items()}
    state = optimizer.state_dict()
    scalars: dict[str, dict[str, Any]] = {}
    for index, values in state["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{OPTIMIZER}{index}.{name}"] = value
            else:
                scalars.setdefault(str(index), {})[name] = value
    metadata = {
        "progress": asdict(progress),
        "optimizer": {"groups": state["param_groups"], "state": scalars},
    }
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        temporary.write_bytes(serialise(contiguous, metadata={"aerun": json.dumps(metadata)}))


def load_model(path: Path, model: nn.Module) -> Progress:
    """Put the weights of ``path`` into ``model``; DataError names a file that is damaged or of another model."""
    tensors, metadata = _read(path)
    weights = {name.removeprefix(MODEL): value for name, value in tensors.items() if name.startswith(MODEL)}
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise DataError(
            f"{path}: holds the weights of another model ({str(error).splitlines()[-1].strip()})"
        ) from error
    return Progress(**metadata["progress"])


def load(path: Path, model: nn.Module, optimizer: Optimizer) -> Progress:
    """As load_model, and put the optimizer where it was."""
    progress = load_model(path, model)
    tensors, metadata = _read(path)
    state: dict[int, dict[str, Any]] = {
        int(index): dict(values) for index, values in metadata["optimizer"]["state"].items()
    }
    for key, value in tensors.items():
        if key.startswith(OPTIMIZER):
            index, _, name = key.removeprefix(OPTIMIZER).partition(".")
            state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": metadata["optimizer"]["groups"]})
    return progress


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if not path.is_file():
        raise DataError(f"{path}: there is no such checkpoint")
    try:
        with safe_open(path, framework="pt") as file:
            tensors: dict[str, torch.Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, json.loads(file.metadata()["aerun"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: is not a whole checkpoint of aerun ({error})") from error
