"""A data set that several processes read: decoded once, then mapped into each of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from aerun.base.files import atomic_write
from aerun.dataset.augment import Augment
from aerun.dataset.data import Data, Split
from aerun.sweep.job import SHARED

_latest: tuple[str, Data] | None = None  # of this process: a sweep's jobs mostly share one data set


def shared_path(sweep: Path, dataset: Mapping[str, Any]) -> Path:
    """Where the sweep's copy of a data set lies, by the settings that it was read with."""
    digest = hashlib.sha256(json.dumps(dataset, sort_keys=True).encode()).hexdigest()[:16]
    return sweep / SHARED / f"{digest}.safetensors"


def share(data: Data, path: Path) -> None:
    """Write data, which lie in the host's memory, for others to map."""
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    tensors: dict[str, Tensor] = {}
    for name, split in splits.items():
        if split is not None:
            assert isinstance(split.inputs, Tensor) and isinstance(split.targets, Tensor)
            tensors[f"{name}/inputs"] = split.inputs
            if split.targets is not split.inputs:
                tensors[f"{name}/targets"] = split.targets
            if split.labels is not None:
                tensors[f"{name}/labels"] = split.labels
    for name, pair in (("input", data.input_statistics), ("target", data.target_statistics)):
        if pair is not None:
            tensors |= {f"{name}_mean": pair[0].contiguous().clone(), f"{name}_deviation": pair[1].contiguous().clone()}
    about = {"checksum": data.checksum, "classes": json.dumps(data.classes), "binarise": str(data.train.binarise)}
    augment = data.train.augment
    assert isinstance(augment, Augment | None)
    about["augment"] = json.dumps(asdict(augment or Augment()))
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        save_file(_apart(tensors), temporary, about)


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, none in the memory of another: safetensors refuses a test part that is the training part."""
    result: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage().data_ptr()
        result[name] = tensor.clone(memory_format=torch.contiguous_format) if storage in seen else tensor.contiguous()
        seen.add(storage)
    return result


def mapped(path: Path, device: torch.device) -> Data:
    """Shared data on a device. On the host the processes share the pages; nothing is copied."""
    with safe_open(path, "pt") as file:
        about, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    tensors = {name: tensor.to(device) for name, tensor in tensors.items()}

    def split(name: str) -> Split | None:
        inputs = tensors.get(f"{name}/inputs")
        if inputs is None:
            return None
        return Split(inputs, tensors.get(f"{name}/targets", inputs), tensors.get(f"{name}/labels"))

    def statistics(name: str) -> tuple[Tensor, Tensor] | None:
        mean = tensors.get(f"{name}_mean")
        return None if mean is None else (mean, tensors[f"{name}_deviation"])

    train, test = split("train"), split("test")
    assert train is not None and test is not None
    train.binarise = about["binarise"] == "True"
    train.augment = Augment(**json.loads(about["augment"])) or None
    classes = json.loads(about["classes"])
    inputs, targets = statistics("input"), statistics("target")
    if inputs is not None and train.inputs is train.targets:
        targets = inputs
    return Data(train, split("validation"), test, classes, about["checksum"], inputs, targets)


@dataclass(frozen=True)
class Loader:
    """How a job gets its data: mapped if they are shared at ``path``, and kept for the next job of this process."""

    path: Path
    load: Callable[[torch.device], Data]

    def __call__(self, device: torch.device) -> Data:
        global _latest
        path = self.path
        key = f"{path} {path.stat().st_mtime_ns if path.exists() else None} {device}"
        if _latest is None or _latest[0] != key:
            _latest = None  # let go of the one before first
            if not path.exists():
                return self.load(device)
            _latest = key, mapped(path, device)
        return _latest[1]


def forget() -> None:
    """Let go of what is kept for the next job."""
    global _latest
    _latest = None
