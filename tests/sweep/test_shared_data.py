"""Data sets that the processes of a sweep share through a file."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aerun.config.parse import parse
from aerun.dataset import shared
from aerun.dataset.data import Data, Split
from aerun.dataset.shared import SharedLoader, map_shared, write_shared
from aerun.runs.run import run
from aerun.sweep.job import shared_data_path
from tests.faults.kills import contents, differences

CPU = torch.device("cpu")
Compose = Callable[[Sequence[str]], dict[str, Any]]


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    """A folder of .npz files of each kind."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (40, 3, 9, 7), dtype=np.uint8)
    np.savez(tmp_path / "uint8.npz", images=images)
    np.savez(tmp_path / "float.npz", images=draw.random((40, 1, 5, 5), dtype=np.float32))
    np.savez(tmp_path / "labels.npz", images=images[:, :1], labels=np.arange(40) % 7)
    np.savez(tmp_path / "vectors.npz", images=draw.normal(size=(41, 13)))
    return tmp_path


KINDS = [
    ("uint8", []),
    ("uint8", ["dataset.validation=0"]),
    ("uint8", ["dataset.normalize=standardise"]),
    ("uint8", ["dataset.input_transform=[Grayscale]"]),
    ("uint8", ["dataset.input_transform=[Grayscale]", "dataset.normalize=standardise", "dataset.validation=5"]),
    ("float", ["dataset.train_limit=11"]),
    ("float", ["dataset.normalize=standardise", "dataset.validation=0"]),
    ("labels", []),
    ("labels", ["dataset.validation=0"]),
    ("vectors", []),
    ("vectors", ["dataset.normalize=standardise"]),
]


def relations(data: Data) -> list[tuple[str, str]]:
    """Pairs of names in the data that refer to the same tensor."""
    found: dict[str, Any] = {}
    for name in ("train", "validation", "test"):
        split = getattr(data, name)
        found |= {f"{name}.{part}": getattr(split, part, None) for part in ("inputs", "targets", "labels")}
    found |= {"input_statistics": data.input_statistics, "target_statistics": data.target_statistics}
    return [(a, b) for a in found for b in found if a < b and found[a] is not None and found[a] is found[b]]


def equal(first: Any, second: Any) -> bool:
    """Whether data are bit-identical, with the same types, shapes and layouts."""
    if isinstance(first, Data | Split):
        return type(first) is type(second) and all(
            equal(getattr(first, item.name), getattr(second, item.name)) for item in fields(first)
        )
    if isinstance(first, tuple):
        return len(first) == len(second) and all(map(equal, first, second))
    if isinstance(first, torch.Tensor):
        same = first.dtype == second.dtype and first.shape == second.shape and first.stride() == second.stride()
        return same and torch.equal(first.contiguous().view(torch.uint8), second.contiguous().view(torch.uint8))
    return bool(first == second)


@pytest.mark.parametrize(("name", "overrides"), KINDS)
def test_shared_data_equal_the_data(arrays: Path, compose: Compose, name: str, overrides: list[str]) -> None:
    config = compose(["dataset=array", f"dataset.root={arrays / name}.npz", *overrides])
    data = parse(config).dataset.load(CPU)
    write_shared(data, arrays / "shared" / "x.safetensors")
    again = map_shared(arrays / "shared" / "x.safetensors", CPU)
    assert equal(data, again)
    assert relations(data) == relations(again) and data.same == again.same
    assert [path.name for path in (arrays / "shared").iterdir()] == ["x.safetensors"]


def test_parts_that_share_memory_can_be_written(tmp_path: Path) -> None:
    """A data set of one's own may use its training images for testing, or return views of one array."""
    images = torch.arange(80, dtype=torch.uint8).reshape(20, 1, 2, 2)
    labels = torch.arange(20)
    whole = Split(images, images, labels)
    views = Split(images[:10], images[:10], labels[:10]), Split(images[10:], images[10:], labels[10:])
    overlapping = Split(images[:15], images[5:], labels[5:])
    for data in (
        Data(whole, None, whole, ["a", "ü"], "sum"),
        Data(views[0], views[1], views[1], None, "sum"),
        Data(overlapping, None, whole, None, "sum"),
    ):
        write_shared(data, tmp_path / "x.safetensors")
        again = map_shared(tmp_path / "x.safetensors", CPU)
        assert equal(data, again) and data.same == again.same


def test_a_transposed_tensor_is_shared_by_its_values(tmp_path: Path) -> None:
    images = torch.rand(6, 4, 5, 3).permute(0, 3, 1, 2)
    write_shared(Data(Split(images, images, None), None, Split(images[:2], images[:2], None), None, ""), tmp_path / "x")
    assert torch.equal(map_shared(tmp_path / "x", CPU).train.inputs, images)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux's /proc")
def test_mapped_data_use_the_memory_pages_of_the_file(tmp_path: Path) -> None:
    images = torch.randint(0, 256, (4000, 1, 32, 32), dtype=torch.uint8)  # 4 MB
    write_shared(
        Data(Split(images, images, None), None, Split(images[:1], images[:1], None), None, ""), tmp_path / "x.data"
    )
    data = map_shared(tmp_path / "x.data", CPU)
    assert int(data.train.inputs.sum()) == int(images.sum())  # every page is touched
    numbers = {"Rss": 0, "Private_Dirty": 0, "Anonymous": 0}
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            inside = line.endswith("x.data")
        key, _, value = line.partition(":")
        if inside and key in numbers:
            numbers[key] += int(value.split()[0])
    assert numbers["Rss"] >= 4000  # kB
    assert numbers["Private_Dirty"] == numbers["Anonymous"] == 0


@pytest.mark.parametrize(
    "overrides", [["noise=masking", "model=conv"], ["dataset.normalize=standardise", "optimizer=adamw"]]
)
def test_a_run_with_shared_data_equals_a_run_without(tmp_path: Path, compose: Compose, overrides: list[str]) -> None:
    tiny = ["dataset.train_limit=300", "dataset.validation=100", "trainer.epochs=1", "trainer.threads=1"]
    config = compose([*tiny, "trainer.pictures=0", "trainer.device=cpu", *overrides])
    settings = parse(config)
    path = shared_data_path(tmp_path, config["dataset"])
    write_shared(settings.dataset.load(CPU), path)
    run(settings, config, tmp_path / "alone")
    run(settings, config, tmp_path / "map_shared", load=SharedLoader(path, fail))
    assert differences(contents(tmp_path / "alone"), contents(tmp_path / "map_shared")) == []


def fail(device: torch.device) -> Data:
    raise AssertionError("loaded again")


def test_a_process_keeps_the_data_until_it_loads_others(tmp_path: Path) -> None:
    def data(value: int) -> Data:
        images = torch.full((4, 1, 2, 2), value, dtype=torch.uint8)
        return Data(Split(images, images, None), None, Split(images, images, None), None, str(value))

    shared.drop_cached()
    write_shared(data(1), tmp_path / "1")
    write_shared(data(2), tmp_path / "2")
    first = SharedLoader(tmp_path / "1", fail)(CPU)
    assert SharedLoader(tmp_path / "1", fail)(CPU) is first
    assert SharedLoader(tmp_path / "2", fail)(CPU).checksum == "2"
    assert SharedLoader(tmp_path / "1", fail)(CPU) is not first
    write_shared(data(3), tmp_path / "1")
    assert SharedLoader(tmp_path / "1", fail)(CPU).checksum == "3"
    assert SharedLoader(tmp_path / "none", lambda device: data(4))(CPU).checksum == "4"
    shared.drop_cached()


def test_data_sets_with_different_settings_have_different_files(compose: Compose, tmp_path: Path) -> None:
    words = [[], ["dataset.validation=100"], ["dataset.split_seed=1"], ["dataset.normalize=standardise"]]
    words += [["dataset=random"], ["dataset.input_transform=[Grayscale]"]]
    assert len({shared_data_path(tmp_path, compose(line)["dataset"]) for line in words}) == len(words)
    assert shared_data_path(tmp_path, compose(["seed=1"])["dataset"]) == shared_data_path(
        tmp_path, compose([])["dataset"]
    )
