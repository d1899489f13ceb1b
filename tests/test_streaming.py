"""Data sets above the memory limit: every image once per epoch, in an order that can be resumed anywhere."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aerun.config.parse import parse
from aerun.dataset import Data
from aerun.dataset.data import Arrays, Batch
from aerun.dataset.row_file import RowFile
from aerun.dataset.rows import Rows
from aerun.errors import ConfigError, DataError
from aerun.metrics.baselines import baselines
from aerun.metrics.evaluation import evaluate
from aerun.runs.run import run
from aerun.training.batches import Streamed, batches
from aerun.training.build import build_parts
from tests.conftest import ROOT
from tests.ends import EVERY_STEP, killed_and_resumed
from tests.faults.kills import SMALL, Compose
from tests.keys import PLAIN
from tests.test_dataset_cache import idx_set
from tests.test_dataset_parts import Given

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for this test."""
    monkeypatch.setenv("AERUN_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache" / "decoded"


def numbered(count: int) -> np.ndarray:
    """Random images [N,1,5,8] that contain their number in the first four bytes."""
    images = np.random.default_rng(0).integers(0, 256, (count, 40), np.uint8)
    images[:, :4] = np.arange(count, dtype="<u4").view(np.uint8).reshape(-1, 4)
    return images.reshape(count, 1, 5, 8)


def numbers(batch: Batch) -> list[int]:
    return np.ascontiguousarray(batch.inputs.flatten(1).numpy()[:, :4]).view("<u4")[:, 0].tolist()


def joined(batches: Iterable[list[int]]) -> list[int]:
    return list(itertools.chain.from_iterable(batches))


def stored(count: int, **keys: Any) -> Data:
    """A data set in a file: its limit is a quarter of it."""
    images = numbered(count)
    arrays = Arrays(images, images[:10], np.arange(count), np.arange(10))
    data = Given(arrays=arrays, **{**PLAIN, "memory_limit": count * 10, **keys}).load(CPU)
    assert data.streamed and isinstance(data.train.inputs, Rows)
    return data


def streamed(data: Data, batch_size: int, chunk_bytes: int | None = None) -> Streamed:
    assert data.chunk_bytes is not None
    return Streamed(data.train, batch_size, 5, CPU, chunk_bytes or data.chunk_bytes)


# images, validation, batch, bytes of a chunk
SHAPES = [
    (1000, 0, 64, 4000),
    (1000, 0.2, 64, 4000),
    (997, 0.3, 100, 16_000),
    (997, 0, 300, 4000),  # a batch of several chunks
    (64, 0, 64, 640),
    (50, 0, 7, 41),  # a row a chunk
    (3000, 0, 512, 1_000_000),  # one chunk
]


@pytest.mark.parametrize(("count", "validation", "batch", "chunk"), SHAPES)
def test_every_image_comes_once_and_an_epoch_can_be_taken_up_anywhere(
    count: int, validation: float, batch: int, chunk: int
) -> None:
    data = stored(count, validation=validation)
    source = streamed(data, batch, chunk)
    expected = sorted(numbers(Batch(data.train.inputs[:], data.train.inputs[:])))
    assert len(expected) == count - round(count * validation)
    orders = []
    for epoch in (0, 1):
        whole = [numbers(found) for found in source.epoch(epoch)]
        assert [len(part) for part in whole[:-1]] == [batch] * (len(whole) - 1)
        assert sorted(joined(whole)) == expected
        assert [numbers(found) for found in streamed(data, batch, chunk).epoch(epoch)] == whole
        step = max(1, len(whole) // 20)
        for begin in [*range(0, len(whole), step), len(whole) - 1, len(whole)]:
            assert [numbers(found) for found in source.epoch(epoch, begin)] == whole[begin:]
        orders.append(joined(whole))
    assert orders[0] != orders[1] and orders[0] != expected


def test_a_batch_holds_whole_images_of_the_right_targets() -> None:
    data = stored(500, target_transform=["RandomInvert"], input_transform=[{"RandomInvert": {"p": 0}}])
    images = numbered(500)
    resident = Given(
        arrays=Arrays(images, images[:10]),
        **{**PLAIN, "target_transform": ["RandomInvert"], "input_transform": [{"RandomInvert": {"p": 0}}]},
    ).load(CPU)
    assert not data.same
    for batch in streamed(data, 64).epoch(3):
        rows = numbers(batch)
        assert torch.equal(batch.inputs, torch.from_numpy(images[rows]))
        assert torch.equal(batch.targets, resident.train.targets[rows])
    assert not torch.equal(data.train.inputs[:], data.train.targets[:])


def test_inputs_that_are_the_targets_stay_the_same_tensor() -> None:
    batch = next(streamed(stored(300), 32).epoch(0))
    assert batch.inputs is batch.targets and batch.inputs.dtype == torch.uint8


def test_another_seed_is_another_order() -> None:
    data = stored(300)
    first, second = (joined(map(numbers, Streamed(data.train, 32, seed, CPU, 3000).epoch(0))) for seed in (0, 1))
    assert first != second and sorted(first) == sorted(second)


def test_a_batch_is_a_sample_of_the_whole_file() -> None:
    """As even as a uniform one, as far as its runs are many."""
    count, batch = 200_000, 2000
    source = streamed(stored(count), batch, 2_000_000)  # a quarter of the file
    assert (source.run_rows, source.chunk_runs) == (1638, 30)
    means = np.array([np.mean(numbers(found)) for found in source.epoch(0)])
    # The mean of the middles of 30 runs drawn of 123 without replacement, and of the rows within them.
    deviation = count / np.sqrt(12) * np.sqrt((123 - 30) / 122 / 30 + 1 / batch)
    assert 0.3 * deviation < np.std(means) < 2 * deviation
    assert abs(means - count / 2).max() < 4 * deviation


def test_what_comes_before_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    data = stored(4000)
    source = streamed(data, 100, 8000)
    whole = list(source.epoch(0))
    read: list[int] = []
    fill = RowFile._fill

    def counted(self: RowFile, view: memoryview, offset: int) -> None:
        read.append(len(view))
        fill(self, view, offset)

    monkeypatch.setattr(RowFile, "_fill", counted)
    assert [numbers(batch) for batch in source.epoch(0, len(whole) - 1)] == [numbers(whole[-1])]
    assert sum(read) <= 2 * 8000


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("reading images")]


def test_the_thread_ends_with_the_iterator() -> None:
    source = streamed(stored(1000), 50, 4000)
    iterator: Iterator[Batch] = source.epoch(0)
    next(iterator)
    assert len(readers()) == 1
    iterator.close()  # type: ignore[attr-defined]
    assert readers() == []
    for batch in source.epoch(0):
        del batch
        break
    assert readers() == []
    assert len(list(source.epoch(0))) == 20 and readers() == []


def test_a_file_that_is_cut_off_amid_training_is_told(cache: Path) -> None:
    source = streamed(stored(20_000), 50, 4000)
    iterator = source.epoch(0)
    next(iterator)
    [rows] = [path for path in cache.glob("*.rows") if path.stat().st_size > 20_000]
    os.truncate(rows, 20_000)
    with pytest.raises(DataError, match=rf"{rows}.*damaged.*ends at byte"):
        list(iterator)
    assert readers() == [] and not rows.with_suffix(".json").exists()


def test_a_byte_that_flips_amid_a_large_file_is_told(cache: Path) -> None:
    """Damage in blocks that were not read before: opening a large file does not read all of it."""
    count = 200_000
    data = stored(count)  # 8 MB; the checksum has read it, so it is opened again
    [rows] = [path for path in cache.glob("*.rows") if path.stat().st_size > 20_000]
    content = bytearray(rows.read_bytes())
    content[1_000_000] ^= 4
    rows.write_bytes(content)
    data = stored(count)
    with pytest.raises(DataError, match="damaged"):
        list(streamed(data, 512, 80_000).epoch(0))
    list(streamed(stored(count), 512, 80_000).epoch(0))


def test_a_disk_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    iterator = streamed(stored(1000), 50, 4000).epoch(0)
    next(iterator)

    def fail(*arguments: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(DataError, match="Input/output error"):
        list(iterator)


TINY = ["dataset.train_limit=800", "dataset.validation=300", "trainer.device=cpu", "trainer.threads=1"]
LIMIT = "dataset.memory_limit=100kB"


@pytest.mark.parametrize(
    "overrides",
    [
        ["noise=masking"],
        ["dataset.normalize=standardise", "model=conv", "model.output_activation=identity"],
        ["dataset.input_transform=[{GaussianBlur: {kernel_size: 3}}]"],
        ["loss=bce", "dataset.target_transform=[RandomInvert]"],
        ["dataset.binarise=static", "noise=masking"],
        ["dataset.binarise=dynamic", "dataset.split_seed=3"],
    ],
)
def test_evaluation_baselines_and_statistics_are_those_of_the_set_in_memory(
    compose: Compose, overrides: list[str]
) -> None:
    found = []
    for limit in ([], [LIMIT]):
        settings = parse(compose([*TINY, *overrides, *limit]))
        data = settings.dataset.load(CPU)
        assert data.streamed == bool(limit)
        torch.manual_seed(0)
        parts = build_parts(settings, data, CPU)
        assert data.validation is not None
        found.append(
            (
                [evaluate(parts.autoencoder, part, parts.noise, parts.loss) for part in (data.validation, data.test)],
                baselines(data, parts.noise, 16),
                [None if pair is None else [part.tolist() for part in pair] for pair in (data.input_statistics,)],
                data.checksum,
            )
        )
    assert found[0] == found[1]


def test_a_streamed_run_that_is_killed_ends_as_one_left_alone(tmp_path: Path, compose: Compose) -> None:
    config = compose([*SMALL, LIMIT, "noise=gaussian", "trainer.pictures=0", EVERY_STEP])
    assert killed_and_resumed(config, tmp_path) == []


def test_a_streamed_run_leaves_what_any_run_leaves(tmp_path: Path, compose: Compose) -> None:
    """And learns as much: one order of the images is as good as another."""
    errors = []
    for name, limit in (("resident", []), ("streamed", [LIMIT])):
        config = compose([*TINY, "trainer.epochs=5", "trainer.batch_size=32", *limit])
        summary = run(parse(config), config, tmp_path / name)
        errors.append(summary["test"]["mse"])
    names = [sorted(path.name for path in (tmp_path / name).rglob("*")) for name in ("resident", "streamed")]
    assert [n for n in names[0] if "tfevents" not in n] == [n for n in names[1] if "tfevents" not in n]
    assert errors[1] == pytest.approx(errors[0], rel=0.05)


def test_what_fits_is_in_memory(compose: Compose) -> None:
    data = parse(compose([*TINY, "dataset.memory_limit=10MB"])).dataset.load(CPU)
    assert not data.streamed and isinstance(data.train.inputs, torch.Tensor)
    assert not isinstance(batches(data, 10, 0, CPU), Streamed)


@pytest.mark.parametrize("value", ["5 apples", "GB", "-3", "0", "1e9", "'0.1B'", "[1]", "1.5"])
def test_limits_that_mean_nothing_are_refused(compose: Compose, value: str) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.memory_limit"):
        parse(compose([f"dataset.memory_limit={value}"]))


@pytest.mark.parametrize(
    ("text", "bytes_"), [(7, 7), ("512", 512), ("2GiB", 2**31), ("1.5 kB", 1500), ("3M", 3_000_000), ("1tib", 2**40)]
)
def test_limits_have_units(text: int | str, bytes_: int) -> None:
    from aerun.dataset.memory_limit import parse_bytes

    assert parse_bytes(text) == bytes_


PROBE = """
import sys, torch
from pathlib import Path
from aerun.dataset import KMNIST
from aerun.training.batches import batches
from tests.keys import PLAIN

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("RssAnon"))) * 1024

def load(root, limit):
    given = {**PLAIN, "validation": 0.1, "memory_limit": limit}
    data = KMNIST(root=root, download=False, **given).load(torch.device("cpu"))
    return batches(data, 128, 0, torch.device("cpu"))

# What modules, torch and threads take for themselves, whatever the set.
small = load(sys.argv[3], 100_000)
list(small.epoch(0))
before = most = anonymous()
source = load(sys.argv[1], int(sys.argv[2]))
count = 0
for epoch in range(2):
    for batch in source.epoch(epoch):
        count += len(batch)
        most = max(most, anonymous())
print(count, most - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_memory_stays_below_the_limit(tmp_path: Path) -> None:
    count, side = 40_000, 64
    root, limit = idx_set(tmp_path / "set", count, side), count * side * side // 10
    small = idx_set(tmp_path / "small", 1_000, side)
    command = [sys.executable, "-c", PROBE, str(root), str(limit), str(small)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for decoding in (True, False):
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
        assert result.returncode == 0, result.stderr
        images, grown = map(int, result.stdout.split())
        assert images == 2 * count * 9 // 10
        if not decoding:  # IDX files are read as a whole, once
            # Two chunks, a few batches (2 % of the limit each), and some 50 bytes an image for row numbers and labels.
            assert limit // 4 < grown < limit
