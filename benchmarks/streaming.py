"""How fast a set trains that is ten times larger than the memory it may take, against the same set in memory.

    python benchmarks/streaming.py

A set of gray 28x28 images is generated in the layout of KMNIST, deterministically. Speed: one process with one thread
holds it both ways, and trains a model by turns of a second, on the one and on the other, so that what else the machine
does meets both. A turn is the training step and the batches that the real loop would have. Memory: the peak of whole
runs of `scripts/train.py`, three each way, after a first one that decodes the set and computes the baselines. All read
from the machine's disk cache. Prints a section and writes it to docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from aerun.dataset.data import Batch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.machine import processor  # noqa: E402
from benchmarks.page import write_section  # noqa: E402

SIDE, TESTS = 28, 2000
BATCH = 512
MODELS = ("fc", "conv")


def generate(folder: Path, count: int) -> None:
    """Images that are smooth enough to be learned: shifted copies of a few random patterns."""
    draw = np.random.default_rng(0)
    patterns = draw.integers(0, 256, (256, 2 * SIDE, SIDE), np.uint8)
    for part, images in (("train", count), ("t10k", TESTS)):
        with (folder / f"{part}-images-idx3-ubyte").open("wb") as file:
            file.write(b"\0\0\x08\x03" + struct.pack(">3I", images, SIDE, SIDE))
            for start in range(0, images, 4096):
                size = min(4096, images - start)
                chosen, shifts = draw.integers(0, 256, size), draw.integers(0, SIDE, size)
                rows = shifts[:, None] + np.arange(SIDE)
                file.write(patterns[chosen[:, None], rows].tobytes())
        labels = draw.integers(0, 10, images, np.uint8)
        header = b"\0\0\x08\x01" + struct.pack(">I", images)
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())


def words(folder: Path, model: str, limit: int | None) -> list[str]:
    """The configuration of a run."""
    return [
        *(f"model={model}", "dataset=kmnist", f"dataset.root={folder / 'set'}", "dataset.validation=1000"),
        *(f"trainer.batch_size={BATCH}", "trainer.device=cpu", "trainer.threads=1", "trainer.pictures=0"),
        f"dataset.memory_limit={limit or 'null'}",
    ]


def peak(folder: Path, model: str, limit: int | None) -> float:
    """MiB that a whole run holds at most."""
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), *words(folder, model, limit), "trainer.steps=200"]
    with tempfile.TemporaryDirectory(dir=folder) as run, (folder / "output.txt").open("w") as output:
        process = subprocess.Popen([*command, f"hydra.run.dir={run}"], stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit((folder / "output.txt").read_text())
    return usage.ru_maxrss / 1024


def prepared(folder: Path, model: str, limit: int | None) -> tuple[Any, Iterator[Batch]]:
    """A training step, and batches without end."""
    import hydra
    import torch
    from hydra.core.global_hydra import GlobalHydra

    from aerun.base.conf import conf_dir
    from aerun.config.compose import run_config
    from aerun.config.parse import parse
    from aerun.training.batches import batches
    from aerun.training.build import build_parts, prepare
    from aerun.training.step import make_step

    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        settings = parse(run_config(hydra.compose("train", overrides=words(folder, model, limit)), ()))
    device = prepare(settings)
    data = settings.dataset.load(device)
    assert data.streamed == bool(limit)
    parts = build_parts(settings, data, device)
    source = batches(data, BATCH, 0, torch.device("cpu"))
    endless = itertools.chain.from_iterable(source.epoch(number) for number in itertools.count())
    return make_step(parts, learning_rate=lambda number: 1.0), endless


def turn(step: Any, batches: Iterator[Batch], count: int) -> float:
    """Images a second over so many steps."""
    clock = time.perf_counter()
    for number in range(count):
        step(next(batches), number)
    return count * BATCH / (time.perf_counter() - clock)


def speeds(folder: Path, model: str, limit: int, rounds: int) -> dict[str, list[float]]:
    """Of each way, turn by turn."""
    ways = {"resident": prepared(folder, model, None), "streamed": prepared(folder, model, limit)}
    for step, source in ways.values():
        turn(step, source, 10)
    step, source = ways["resident"]
    count = max(10, round(turn(step, source, 20) / BATCH))  # about a second
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (step, source) in ways.items():
            found[name].append(turn(step, source, count))
    return found


def rows(model: str, found: dict[str, list[float]], peaks: dict[str, float]) -> list[str]:
    """Lines of the table."""
    lines = []
    for name, values in found.items():
        span = f"{min(values):,.0f} to {max(values):,.0f}"
        lines.append(f"| {model} | {name} | {statistics.median(values):,.0f} | {span} | {peaks[name]:,.0f} |")
    ratios = [b / a for a, b in zip(found["resident"], found["streamed"], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    lines.append(f"| {model} | **streamed / resident** | **{middle:.2f}** | quartiles {low:.2f} to {high:.2f} | |")
    return lines


def main() -> None:
    """Measure, print, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=800_000)
    parser.add_argument("--rounds", type=int, default=31)
    given = parser.parse_args()
    limit = given.images * SIDE * SIDE // 10
    table = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        os.environ |= {"AERUN_DATA": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
        (folder / "set").mkdir()
        generate(folder / "set", given.images)
        ways = {"resident": None, "streamed": limit}
        peaks: dict[str, dict[str, float]] = {}
        # All of these first: a process inherits the peak of the one that starts it, and this one will grow.
        for model in MODELS:
            peak(folder, model, None)
            peaks[model] = {
                name: statistics.median(peak(folder, model, way) for _ in range(3)) for name, way in ways.items()
            }
        for model in MODELS:
            table += rows(model, speeds(folder, model, limit, given.rounds), peaks[model])
    size = given.images * SIDE * SIDE / 2**20
    text = f"""
## Bigger than memory

`python benchmarks/streaming.py`, {date.today()}, {processor()}, {os.cpu_count()} cores. {given.images:,} generated gray
images of {SIDE}x{SIDE} ({size:,.0f} MiB), `dataset.memory_limit` a tenth of that ({limit / 2**20:,.0f} MiB), batches of
{BATCH}, one thread, {given.rounds} turns of a second each, from the machine's disk cache. Medians; the ratio is that of
neighboring turns. Peak memory is that of a whole run, with PyTorch, the
median of three.

| model | images | images/s | range | peak memory, MiB |
|---|---|---|---|---|
""" + "\n".join(table)
    print(text)
    write_section("streaming", text)


if __name__ == "__main__":
    main()
