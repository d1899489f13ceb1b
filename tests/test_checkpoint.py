"""Checkpoints: bit for bit, whole or refused, and nothing in them that could run."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.optim import SGD, Adam, AdamW, NAdam, Optimizer, RMSprop

from aerun.errors import DataError, StorageError
from aerun.model import FullyConnected
from aerun.training.checkpoint import load, load_model, save
from aerun.training.progress import Progress


class Halving(Optimizer):
    """Gradient descent whose state holds numbers that are no tensors."""

    def __init__(self, parameters: Any, lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                state["count"], state["rate"] = state.get("count", 0) + 1, state.get("rate", group["lr"]) / 2
                parameter.data -= state["rate"] / state["count"] * parameter.grad


PROGRESS = Progress(
    epoch=3,
    step=123456789012,
    best_epoch=2,
    best_loss=0.1 + 0.2,
    waited=1,
    train_seconds=1 / 3,
    train_images=7,
    scheduler={"best": 1e-300, "reduced": [1, 2], "name": "größer"},
)
OPTIMIZERS = [
    functools.partial(Adam, lr=0.01),
    functools.partial(Adam, lr=0.01, amsgrad=True, weight_decay=0.1),
    functools.partial(AdamW, lr=0.01, betas=(0.8, 0.99)),
    functools.partial(SGD, lr=0.01),
    functools.partial(SGD, lr=0.01, momentum=0.9, nesterov=True),
    functools.partial(RMSprop, lr=0.01, momentum=0.5, centered=True),
    functools.partial(NAdam, lr=0.01),
    functools.partial(Halving, lr=0.3),
]


def network(seed: int, hidden: int = 5) -> nn.Module:
    """With batch normalisation, whose buffers are floats and a whole number."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, 4))


def step(model: nn.Module, optimizer: Optimizer, steps: range) -> None:
    for position in steps:
        batch = torch.randn(8, 4, generator=torch.Generator().manual_seed(position))
        optimizer.zero_grad()
        (model(batch) - batch).square().mean().backward()
        optimizer.step()


def assert_same_bits(first: Any, second: Any) -> None:
    """Equal to the last bit, in type and shape too; a tuple may have become a list."""
    if isinstance(first, torch.Tensor):
        assert first.dtype == second.dtype and first.shape == second.shape and first.device == second.device
        assert first.numpy().tobytes() == second.numpy().tobytes()
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_same_bits(first[key], second[key])
    elif isinstance(first, list | tuple):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_same_bits(one, other)
    else:
        assert first == second and type(first) is type(second)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = network(0)
    optimizer = Adam(model.parameters())
    step(model, optimizer, range(3))
    save(tmp_path / "last.safetensors", model, optimizer, PROGRESS)
    return tmp_path / "last.safetensors"


def loads(path: Path) -> list[Callable[[], Progress]]:
    model = network(1)
    return [lambda: load_model(path, model), lambda: load(path, model, Adam(model.parameters()))]


def assert_refused(path: Path) -> None:
    for attempt in loads(path):
        with pytest.raises(DataError) as caught:
            attempt()
        assert str(path) in str(caught.value) and len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("build", OPTIMIZERS, ids=lambda build: f"{build.func.__name__}{build.keywords}")
def test_a_continued_run_equals_an_uninterrupted_one_bit_for_bit(
    build: Callable[..., Optimizer], tmp_path: Path
) -> None:
    model = network(0)
    optimizer = build(model.parameters())
    step(model, optimizer, range(5))
    save(tmp_path / "x.safetensors", model, optimizer, PROGRESS)
    step(model, optimizer, range(5, 12))

    other = network(1)
    resumed = build(other.parameters())
    assert load(tmp_path / "x.safetensors", other, resumed) == PROGRESS
    step(other, resumed, range(5, 12))
    assert_same_bits(model.state_dict(), other.state_dict())
    assert_same_bits(optimizer.state_dict()["state"], resumed.state_dict()["state"])


@pytest.mark.parametrize("build", OPTIMIZERS, ids=lambda build: f"{build.func.__name__}{build.keywords}")
def test_model_and_optimizer_come_back_bit_for_bit(build: Callable[..., Optimizer], tmp_path: Path) -> None:
    model = network(0)
    optimizer = build(model.parameters())
    step(model, optimizer, range(3))
    optimizer.param_groups[0]["lr"] = 0.1 + 0.2
    save(tmp_path / "x.safetensors", model, optimizer, PROGRESS)
    other = network(1)
    resumed = build(other.parameters())
    load(tmp_path / "x.safetensors", other, resumed)
    assert_same_bits(model.state_dict(), other.state_dict())
    assert_same_bits(optimizer.state_dict(), resumed.state_dict())


def content(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tensors as bytes, and the notes beside them."""
    with safe_open(path, framework="np") as file:
        tensors = {name: (str(file.get_tensor(name).dtype), file.get_tensor(name).tobytes()) for name in file.keys()}  # noqa: SIM118
        return tensors, json.loads(file.metadata()["aerun"])


def test_what_was_loaded_is_saved_again_as_it_was(saved: Path, tmp_path: Path) -> None:
    model = network(1)
    optimizer = Adam(model.parameters())
    progress = load(saved, model, optimizer)
    save(tmp_path / "again.safetensors", model, optimizer, progress)
    assert content(tmp_path / "again.safetensors") == content(saved)


def test_an_optimizer_that_has_not_stepped_can_be_saved(tmp_path: Path) -> None:
    model = network(0)
    save(tmp_path / "x.safetensors", model, Adam(model.parameters()), Progress())
    other = network(1)
    optimizer = Adam(other.parameters())
    assert load(tmp_path / "x.safetensors", other, optimizer) == Progress()
    assert optimizer.state_dict()["state"] == {}
    assert_same_bits(model.state_dict(), other.state_dict())


def test_tied_and_odd_weights_come_back(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"activation": "relu", "code_activation": "identity", "output_activation": "identity"}
    spec = FullyConnected(hidden=[6], code_size=3, tied=True, init="default", init_std=0.01, **keys)

    def build(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        codec = spec.build((1, 3, 4), (1, 3, 4), 1)
        return nn.ModuleDict({"encoder": codec.encoder, "decoder": codec.decoder})

    model, other = build(0), build(1)
    with torch.no_grad():
        next(model.parameters()).flatten()[:4] = torch.tensor([-0.0, float("inf"), float("nan"), 1e-45])
    save(tmp_path / "x.safetensors", model, SGD(model.parameters(), lr=0.1), Progress())
    load_model(tmp_path / "x.safetensors", other)
    assert_same_bits(model.state_dict(), other.state_dict())


def test_weights_that_are_not_contiguous_come_back(tmp_path: Path) -> None:
    model, other = nn.Linear(3, 4), nn.Linear(3, 4)
    model.weight = nn.Parameter(torch.randn(3, 4).t())
    save(tmp_path / "x.safetensors", model, SGD(model.parameters(), lr=0.1), Progress())
    load_model(tmp_path / "x.safetensors", other)
    assert torch.equal(model.weight, other.weight)


def test_saving_replaces_the_file_and_leaves_no_other(saved: Path) -> None:
    model = network(5)
    save(saved, model, Adam(model.parameters()), Progress(epoch=9))
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]
    assert load_model(saved, network(1)).epoch == 9


def test_a_save_that_fails_leaves_the_old_checkpoint(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    before = saved.read_bytes()
    model = network(5)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left") as caught:
        save(saved, model, Adam(model.parameters()), Progress())
    assert str(saved) in str(caught.value)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_the_file_is_plain_safetensors(saved: Path) -> None:
    model = network(1)
    load_model(saved, model)
    with safe_open(saved, framework="np") as file:
        names = set(file.keys())
        assert {f"model.{name}" for name in model.state_dict()} <= names
        assert all(name.startswith(("model.", "optimizer.")) for name in names)
        assert (file.get_tensor("model.0.weight") == model.state_dict()["0.weight"].numpy()).all()
        assert json.loads(file.metadata()["aerun"])["progress"]["epoch"] == 3
    whole = saved.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    ends = [entry["data_offsets"][1] for name, entry in json.loads(whole[8:start]).items() if name != "__metadata__"]
    assert start + max(ends) == len(whole)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.3, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_named(share: float, saved: Path) -> None:
    whole = saved.read_bytes()
    saved.write_bytes(whole[: round(share * len(whole))])
    assert_refused(saved)


def test_a_single_wrong_byte_is_refused(saved: Path) -> None:
    whole = saved.read_bytes()
    for position in [*range(0, len(whole), 37), len(whole) - 1]:
        saved.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        assert_refused(saved)


@pytest.mark.parametrize("other", [b"\xff" * 100, b"\x80\x04pickle", b"PK\x03\x04" * 30, b"\0" * 4096, b"{}" * 50])
def test_a_file_of_something_else_is_named(other: bytes, saved: Path) -> None:
    saved.write_bytes(other)
    assert_refused(saved)


def test_a_checkpoint_of_torch_is_refused_unread(saved: Path) -> None:
    torch.save(network(0).state_dict(), saved)
    assert_refused(saved)


def test_trailing_bytes_are_refused(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes() + b"more")
    assert_refused(saved)


def test_a_missing_file_or_a_folder_is_named(saved: Path, tmp_path: Path) -> None:
    assert_refused(tmp_path / "nowhere.safetensors")
    assert_refused(tmp_path)


@pytest.mark.parametrize("metadata", [None, {}, {"other": "{}"}, {"aerun": "{"}, {"aerun": "{}"}])
def test_weights_without_our_notes_are_refused(metadata: dict[str, str] | None, tmp_path: Path) -> None:
    tensors = {f"model.{name}": value for name, value in network(0).state_dict().items()}
    save_file(tensors, tmp_path / "x.safetensors", metadata=metadata)
    assert_refused(tmp_path / "x.safetensors")


@dataclass
class LaterProgress(Progress):
    """What a later version may know."""

    era: int = 0


def test_a_checkpoint_of_another_version_is_refused(saved: Path) -> None:
    model = network(0)
    save(saved, model, Adam(model.parameters()), LaterProgress())
    assert_refused(saved)


def test_the_weights_of_another_model_are_refused(saved: Path) -> None:
    for other in (network(1, hidden=6), nn.Linear(4, 4), nn.Sequential(network(1), nn.Linear(4, 4))):
        for attempt in (
            functools.partial(load_model, saved, other),
            functools.partial(load, saved, other, Adam(other.parameters())),
        ):
            with pytest.raises(DataError, match="another model") as caught:
                attempt()
            assert str(saved) in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_weights_of_whole_numbers_are_refused(tmp_path: Path) -> None:
    model = nn.Linear(2, 3)
    save(tmp_path / "x.safetensors", {name: value.int() for name, value in model.state_dict().items()}, None, PROGRESS)
    with pytest.raises(
        DataError, match=r"weights of another model \((weight|bias) is torch.int32 in place of torch.float32"
    ):
        load_model(tmp_path / "x.safetensors", model)


@pytest.mark.parametrize(
    ("key", "value"), [("lr", "x"), ("lr", None), ("lr", [0.1]), ("betas", 0.9), ("betas", [0.9]), ("amsgrad", "no")]
)
def test_options_of_another_type_are_refused(key: str, value: Any, tmp_path: Path) -> None:
    model, path = nn.Linear(2, 3), tmp_path / "x.safetensors"
    optimizer = Adam(model.parameters(), lr=0.1)
    kept = optimizer.param_groups[0][key]
    optimizer.param_groups[0][key] = value
    save(path, model, optimizer, PROGRESS)
    optimizer.param_groups[0][key] = kept
    with pytest.raises(DataError, match=f"{path}: does not fit this run .*optimizer.{key}"):
        load(path, model, optimizer)


def test_a_refused_file_leaves_the_model_as_it_was(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:-1])
    model = network(1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(DataError):
        load(saved, model, Adam(model.parameters()))
    assert_same_bits(before, dict(model.state_dict()))
