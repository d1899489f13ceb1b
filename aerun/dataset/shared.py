"""A data set that several processes share: decoded once into a file, which each of them maps into memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from aerun.base.files import atomic_write, make_subfolder
from aerun.dataset.augment import Augment
from aerun.dataset.data import Data, Split

_cached: tuple[str, Data] | None = None  # the latest data of this process, for the next job of its sweep


def write_shared(data: Data, path: Path) -> None:
    """Write data that are in CPU memory to a file for other processes to map."""
    splits = {"train": data.train, "validation": data.validation, "test": data.test, "anomalies": data.anomalies}
    tensors: dict[str, Tensor] = {} if data.masks is None else {"masks": data.masks}
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
    make_subfolder(path.parent.parent, path.parent.name)
    with atomic_write(path) as temporary:
        save_file(_without_aliases(tensors), temporary, about)


def _without_aliases(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors that share memory with an earlier one: safetensors refuses a test part that is the training part."""
    result: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage().data_ptr()
        result[name] = tensor.clone(memory_format=torch.contiguous_format) if storage in seen else tensor.contiguous()
        seen.add(storage)
    return result


def map_shared(path: Path, device: torch.device) -> Data:
    """Read shared data onto a device. On the CPU, processes share the memory pages and nothing is copied."""
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
    data = Data(train, split("validation"), test, classes, about["checksum"], inputs, targets)
    data.anomalies, data.masks = split("anomalies"), tensors.get("masks")
    return data


@dataclass(frozen=True)
class SharedLoader:
    """Loads a job's data: from the file ``path`` if it exists, otherwise by ``load``.

    Data from the file stay in memory for the next job of this process.
    """

    path: Path
    load: Callable[[torch.device], Data]

    def __call__(self, device: torch.device) -> Data:
        global _cached
        path = self.path
        key = f"{path} {path.stat().st_mtime_ns if path.exists() else None} {device}"
        if _cached is None or _cached[0] != key:
            _cached = None  # frees the previous data first
            try:
                _cached = key, map_shared(path, device)
            except FileNotFoundError:
                return self.load(device)
        return _cached[1]


def drop_cached() -> None:
    """Free the data that are kept for the next job."""
    global _cached
    _cached = None
