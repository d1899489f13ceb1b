"""The cache of decoded images equals what decoding returns, is built once, and is never used when damaged."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from aerun.dataset import CIFAR10, KMNIST, Data, ImageFolder, placement
from aerun.dataset import cache as caching
from aerun.dataset.decoder import Decoder
from aerun.dataset.idx import write_idx
from aerun.dataset.row_file import BLOCK, RowFile
from aerun.dataset.rows import Rows
from aerun.errors import DataError
from tests.keys import PLAIN
from tests.test_dataset_folder import folder
from tests.test_dataset_vision import FakeCIFAR10, place

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for this test."""
    monkeypatch.setenv("AERUN_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache" / "decoded"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Random pictures of several sizes in two subfolders, and two files that cannot be decoded."""
    root = tmp_path / "pictures"
    draw = np.random.default_rng(0)
    for index in range(40):
        path = root / ("a", "b")[index % 2] / f"{index:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (60 + index, 80, 3), np.uint8)).save(path)
    (root / "a" / "07x.png").write_bytes(b"no picture")
    (root / "b" / "99.jpg").write_bytes(b"")
    return root


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Record the pictures that are decoded."""
    seen: list[Path] = []
    decode = Decoder._decode

    def counted(self: Decoder, path: Path, *more: Any) -> Any:
        seen.append(path)
        return decode(self, path, *more)

    monkeypatch.setattr(Decoder, "_decode", counted)
    return seen


def load(root: Path, **keys: Any) -> Data:
    return folder(root, **{"size": 48, **keys}).load(CPU)


def images_of(data: Data) -> list[np.ndarray]:
    return [np.asarray(part.inputs[:]) for part in (data.train, data.validation, data.test) if part is not None]


def same(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    return len(first) == len(second) and all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def plain(root: Path, **keys: Any) -> list[np.ndarray]:
    """Load the parts without a cache."""
    arrays = folder(root, **{"size": 48, **keys}).read()
    assert isinstance(arrays.train, np.ndarray) and isinstance(arrays.test, np.ndarray)
    return [arrays.train, arrays.test]


def files(cache: Path, ending: str) -> list[Path]:
    return sorted(cache.glob(f"*.{ending}"))


def test_the_cache_holds_what_decoding_gives(pictures: Path, cache: Path) -> None:
    arrays = folder(pictures, size=48).read()
    assert isinstance(arrays.train, np.ndarray) and isinstance(arrays.test, np.ndarray)
    assert arrays.train_labels is not None and arrays.test_labels is not None
    for _ in range(2):
        data = load(pictures)
        assert same(images_of(data), [arrays.train, arrays.test])
        assert data.train.labels is not None and data.train.labels.tolist() == arrays.train_labels.tolist()
        assert data.classes == ["a", "b"] and not data.streamed
    # What runs have remembered their data by since before there was a cache.
    digest = hashlib.sha256(repr(([], [])).encode())
    for array in (arrays.train, arrays.test, arrays.train_labels, arrays.test_labels):
        digest.update(f"{array.shape}{array.dtype}".encode() + array.tobytes())
    assert data.checksum == digest.hexdigest()[:16]
    assert len(files(cache, "rows")) == len(files(cache, "json")) == 1


def test_a_second_load_decodes_nothing_and_names_what_is_bad(
    pictures: Path, count: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        first = load(pictures)
        messages = [record.getMessage() for record in caplog.records]
        assert len(messages) == 2 and len(count) == 42
        caplog.clear()
        again = load(pictures)
    assert len(count) == 42
    assert [record.getMessage() for record in caplog.records] == messages
    assert same(images_of(first), images_of(again))
    with pytest.raises(DataError, match=r"07x\.png: cannot be decoded.*on_error=skip"):
        load(pictures, on_error="fail")
    assert len(count) == 42


def test_other_parts_of_the_same_pictures_decode_nothing(pictures: Path, count: list[Path]) -> None:
    load(pictures)
    for keys in (
        {"split_seed": 3},
        {"test": 0.5},
        {"validation": 0.2},
        {"train_limit": 5},
        {"normalize": "standardise"},
    ):
        data = load(pictures, **keys)
        assert len(data.train) > 0
    assert len(count) == 42
    assert same(images_of(load(pictures, split_seed=3)), plain(pictures, split_seed=3))


def change(root: Path) -> None:
    Image.new("RGB", (70, 70), "red").save(root / "a" / "00.png")


def change_unseen_by_the_clock(root: Path) -> None:
    path = root / "a" / "00.png"
    before = path.stat()
    path.write_bytes(path.read_bytes() + b" ")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def swap_of_equal_size(root: Path) -> None:
    path = root / "a" / "00.png"
    content = path.read_bytes()
    path.write_bytes(content[:-20] + b"\0" * 20)


@pytest.mark.parametrize(
    "change",
    [
        change,
        change_unseen_by_the_clock,
        swap_of_equal_size,
        lambda root: Image.new("RGB", (70, 70), "red").save(root / "b" / "new.png"),
        lambda root: (root / "a" / "02.png").unlink(),
        lambda root: (root / "a" / "02.png").rename(root / "b" / "02.png"),
    ],
)
def test_changed_pictures_are_decoded_again(
    change: Callable[[Path], object], pictures: Path, count: list[Path]
) -> None:
    load(pictures)
    change(pictures)
    count.clear()
    data = load(pictures)
    assert len(count) >= 41
    assert same(images_of(data), plain(pictures))


@pytest.mark.parametrize("keys", [{"size": 32}, {"size": [48, 32]}, {"fit": "pad"}, {"channels": 1}])
def test_other_settings_are_decoded_again(keys: dict[str, Any], pictures: Path, count: list[Path]) -> None:
    load(pictures)
    count.clear()
    data = load(pictures, **keys)
    assert len(count) == 42
    assert same(images_of(data), plain(pictures, **keys))


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path, Path], object]] = {
    "truncated": lambda rows, notes: os.truncate(rows, rows.stat().st_size - 1),
    "emptied": lambda rows, notes: os.truncate(rows, 0),
    "longer": lambda rows, notes: rows.write_bytes(rows.read_bytes() + b"x"),
    "gone": lambda rows, notes: rows.unlink(),
    "first byte": lambda rows, notes: flip(rows, 0),
    "last byte": lambda rows, notes: flip(rows, -1),
    "a byte amid": lambda rows, notes: flip(rows, 3 * BLOCK + 17),
    "no notes": lambda rows, notes: notes.unlink(),
    "notes cut off": lambda rows, notes: os.truncate(notes, 40),
    "notes flipped": lambda rows, notes: flip(notes, 60),
    "notes of text": lambda rows, notes: notes.write_text("[1]"),
    "another cache": lambda rows, notes: notes.write_text(notes.read_text().replace("pictures", "picturez")),
}


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_a_damaged_cache_is_rebuilt(
    damage: str, pictures: Path, cache: Path, count: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    before = load(pictures)
    [rows], [notes] = files(cache, "rows"), files(cache, "json")
    DAMAGE[damage](rows, notes)
    count.clear()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        again = load(pictures)
    assert len(count) == 42
    assert same(images_of(again), images_of(before)) and again.checksum == before.checksum
    messages = [record.getMessage() for record in caplog.records if "rebuilding" in record.getMessage()]
    assert len(messages) == (damage != "no notes") and all(str(cache) in line for line in messages)
    count.clear()
    load(pictures)
    assert count == []


def test_a_whole_cache_of_other_data_is_not_used(pictures: Path, cache: Path, count: list[Path]) -> None:
    load(pictures, fit="pad")
    others = {path.suffix: path for path in (*files(cache, "rows"), *files(cache, "json"))}
    before = load(pictures)
    for ending, other in others.items():
        [own] = set(files(cache, ending[1:])) - {other}
        shutil.copy(other, own)
    count.clear()
    assert same(images_of(load(pictures)), images_of(before)) and len(count) == 42


def test_every_byte_is_watched(pictures: Path, cache: Path) -> None:
    """Also in blocks that are not looked at as the file is opened."""
    load(pictures)
    [rows] = files(cache, "rows")
    whole = rows.read_bytes()
    notes = files(cache, "json")[0].read_text()
    key = json.loads(notes)["key"]
    for position in np.random.default_rng(0).integers(0, len(whole), 40).tolist():
        rows.with_suffix(".json").write_text(notes)
        rows.write_bytes(whole)
        flip(rows, position)
        with pytest.raises(DataError, match="are damaged"):
            RowFile(rows.with_suffix(""), key).memory_map()
        assert not rows.with_suffix(".json").exists()


def test_rows_are_read_as_an_array_would_be(tmp_path: Path, cache: Path) -> None:
    whole = np.random.default_rng(1).integers(0, 256, (3000, 1, 9, 11), np.uint8)
    file = caching.cached_rows("key", lambda: iter([whole[:1], whole[1:1700], whole[1700:]]))
    assert file is not None and file.shape == whole.shape
    chosen = np.flatnonzero(np.random.default_rng(2).random(3000) < 0.3)
    for rows, expected in ((Rows(file), whole), (Rows(file, chosen), whole[chosen])):
        assert np.array_equal(rows.tensor(), expected) and rows.shape == expected.shape
        assert len(rows) == len(expected) and rows.dtype == torch.uint8
        for start, stop in ((0, 1), (5, 700), (0, len(rows)), (len(rows) - 1, len(rows) + 5), (7, 7)):
            assert np.array_equal(rows[start:stop], expected[start:stop])
        assert np.array_equal(torch.cat(list(rows.split(77))), expected)
        positions = torch.arange(3, len(rows), 7)
        assert np.array_equal(rows.select(positions)[:], expected[positions])


@pytest.mark.parametrize("place", ["below a file", "full", "fails"])
def test_without_room_for_a_cache_the_run_goes_on(
    place: str, pictures: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if place == "below a file":
        cache.parent.write_text("")
    elif place == "full":
        usage = shutil.disk_usage(pictures)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    else:

        def refuse(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", refuse)
    with caplog.at_level(logging.WARNING):
        data = load(pictures)
    assert same(images_of(data), plain(pictures))
    messages = [record.getMessage() for record in caplog.records if "not cached" in record.getMessage()]
    assert len(messages) == 1 and str(cache.parent) in messages[0] and len(messages[0].splitlines()) == 1
    assert not cache.is_dir() or files(cache, "rows") == []


def forked(action: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            logging.disable()
            action()
            code = 0
        finally:
            os._exit(code)
    return child


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_processes_at_once_decode_once(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decode = Decoder._decode

    def noted(self: Decoder, path: Path, *more: Any) -> Any:
        with (tmp_path / "decoded").open("a") as file:
            file.write(f"{path.name}\n")
        time.sleep(0.02)  # so that the others come while it is being built
        return decode(self, path, *more)

    expected = plain(pictures)
    monkeypatch.setattr(Decoder, "_decode", noted)

    def job() -> None:
        assert same(images_of(load(pictures)), expected)

    children = [forked(job) for _ in range(4)]
    assert [ended(child) for child in children] == [0] * 4
    assert len((tmp_path / "decoded").read_text().splitlines()) == 42


def test_a_killed_builder_leaves_nothing_that_is_used(
    pictures: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, count: list[Path]
) -> None:
    monkeypatch.setattr("aerun.dataset.decoder.CHUNK", 1)  # several chunks, so that some are written
    decode = Decoder._decode

    def deadly(self: Decoder, path: Path, *more: Any) -> Any:
        if path.name == "30.png":
            os.kill(os.getpid(), signal.SIGKILL)
        return decode(self, path, *more)

    with monkeypatch.context() as patch:
        patch.setattr(Decoder, "_decode", deadly)
        assert ended(forked(lambda: str(load(pictures)) and None)) == -signal.SIGKILL
    assert [path for path in cache.iterdir() if path.name.count(".") > 2]  # what it was writing
    assert files(cache, "json") == []
    data = load(pictures)
    assert len(count) == 42 and same(images_of(data), plain(pictures))
    assert [path for path in cache.iterdir() if path.name.count(".") > 2] == []


TRANSFORMS = [
    {"input_transform": ["RandomHorizontalFlip"]},
    {"input_transform": ["Grayscale"], "target_transform": []},
    {"input_transform": [{"RandomCrop": {"size": 20}}], "target_transform": [{"Resize": {"size": 9}}]},
    {"input_transform": [{"ToDtype": {"dtype": torch.float32, "scale": True}}]},
]


@pytest.mark.parametrize("keys", TRANSFORMS)
def test_transforms_in_chunks_are_those_of_the_whole(
    keys: dict[str, Any], pictures: Path, monkeypatch: pytest.MonkeyPatch, count: list[Path]
) -> None:
    monkeypatch.setattr(placement, "CHUNK", 7 * 48 * 48 * 3)
    for _ in range(2):
        before = torch.get_rng_state()
        data = load(pictures, **keys)
        assert torch.equal(torch.get_rng_state(), before)
        with monkeypatch.context() as patch:
            patch.setattr(ImageFolder, "read_cached", lambda self: None)
            expected = load(pictures, **keys)
        for part, whole in ((data.train, expected.train), (data.test, expected.test)):
            assert part.inputs.dtype == whole.inputs.dtype
            assert torch.equal(part.inputs[:], whole.inputs[:]) and torch.equal(part.targets[:], whole.targets[:])
        assert data.checksum == expected.checksum and data.same == expected.same
        # The second time they are read: no image is transformed again.
        monkeypatch.setattr("aerun.dataset.placement._transformed_chunks", lambda *arguments: pytest.fail())


def test_cifar10_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", FakeCIFAR10)
    place(tmp_path, FakeCIFAR10)
    first = CIFAR10(root=str(tmp_path), download=False, **PLAIN).load(CPU)
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", None)
    again = CIFAR10(root=str(tmp_path), download=False, **PLAIN).load(CPU)
    assert torch.equal(first.train.inputs[:], again.train.inputs[:]) and first.checksum == again.checksum
    assert again.train.labels is not None and again.train.labels.tolist() == [7, 3]
    assert again.classes == CIFAR10.class_names


def idx_set(root: Path, count: int, side: int = 28) -> Path:
    """A set in KMNIST's layout, whose files carry no published checksum."""
    root.mkdir()
    for part, size in (("train", count), ("t10k", 100)):
        images = np.random.default_rng(size).integers(0, 256, (size, side, side), np.uint8)
        (root / f"{part}-images-idx3-ubyte").write_bytes(write_idx(images))
        (root / f"{part}-labels-idx1-ubyte").write_bytes(write_idx(np.arange(size).astype(np.uint8) % 10))
    return root


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux's /proc")
def test_a_set_used_as_a_whole_lies_in_the_files_own_pages(tmp_path: Path) -> None:
    root = idx_set(tmp_path / "set", 6000)
    KMNIST(root=str(root), download=False, **PLAIN).load(CPU)
    data = KMNIST(root=str(root), download=False, **PLAIN).load(CPU)
    assert isinstance(data.train.inputs, torch.Tensor) and int(data.train.inputs.sum()) > 0
    numbers, inside = {"Rss": 0, "Private_Dirty": 0, "Anonymous": 0}, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            inside = line.endswith(".rows")
        key, _, value = line.partition(":")
        if inside and key in numbers:
            numbers[key] += int(value.split()[0])
    assert numbers["Rss"] >= 6000 * 784 // 1024
    assert numbers["Private_Dirty"] == numbers["Anonymous"] == 0
