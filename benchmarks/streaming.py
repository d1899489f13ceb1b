"""How fast a set trains that is ten times larger than the memory it may take, against the same set in memory.

    python benchmarks/streaming.py

A set of grey 28x28 images is generated in the layout of KMNIST, deterministically. Whole runs of `scripts/train.py`,
one thread each, take turns: resident, streamed, resident, ... A first run of each model, which is not counted,
decodes the set into the cache and computes the baselines. Both read from the machine's disk cache. Prints a section
and writes it to docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.machine import processor  # noqa: E402
from benchmarks.page import write_section  # noqa: E402

SIDE, TESTS = 28, 2000
BATCH = 512


class Measured(NamedTuple):
    """Of one run: training images a second, and the most bytes that its process held."""

    speed: float
    peak: int


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


def train(folder: Path, name: str, words: list[str]) -> Measured:
    """One run in a process of its own."""
    run = folder / "runs" / name
    run.parent.mkdir(exist_ok=True)
    command = [
        *(sys.executable, str(ROOT / "scripts" / "train.py"), "dataset=kmnist", f"dataset.root={folder / 'set'}"),
        *("dataset.validation=1000", f"trainer.batch_size={BATCH}", "trainer.device=cpu", "trainer.threads=1"),
        *("trainer.pictures=0", f"hydra.run.dir={run}", *words),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "AERUN_DATA": str(folder / "cache")}
    with (folder / "output.txt").open("w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit((folder / "output.txt").read_text())
    return Measured(json.loads((run / "summary.json").read_text())["images_per_second"], usage.ru_maxrss * 1024)


def compare(folder: Path, model: str, steps: int | None, limit: int, rounds: int) -> dict[str, list[Measured]]:
    """Resident and streamed runs of a model in turn."""
    words = [f"model={model}", f"trainer.steps={steps}" if steps else "trainer.epochs=1"]
    ways = {"resident": words, "streamed": [*words, f"dataset.memory_limit={limit}"]}
    train(folder, f"{model}-first", words)
    found: dict[str, list[Measured]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, overrides in ways.items():
            measured = train(folder, f"{model}-{name}-{number}", overrides)
            found[name].append(measured)
            print(f"{model} {name}: {measured.speed:,.0f} images/s, {measured.peak / 2**20:,.0f} MiB", flush=True)
    return found


def rows(model: str, found: dict[str, list[Measured]]) -> list[str]:
    """Lines of the table."""
    lines = []
    for name, runs in found.items():
        speeds = [run.speed for run in runs]
        lines.append(
            f"| {model} | {name} | {statistics.median(speeds):,.0f} | {min(speeds):,.0f} to {max(speeds):,.0f} "
            f"| {statistics.median(run.peak for run in runs) / 2**20:,.0f} |"
        )
    ratios = [b.speed / a.speed for a, b in zip(found["resident"], found["streamed"], strict=True)]
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    lines.append(f"| {model} | **streamed / resident** | **{statistics.median(ratios):.2f}** | {spread} | |")
    return lines


def main() -> None:
    """Measure, print, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=800_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100, help="of conv, which is slower; fc has a whole epoch")
    given = parser.parse_args()
    limit = given.images * SIDE * SIDE // 10
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "set").mkdir()
        generate(folder / "set", given.images)
        table = [
            line
            for model, steps in (("fc", None), ("conv", given.steps))
            for line in rows(model, compare(folder, model, steps, limit, given.rounds))
        ]
    size = given.images * SIDE * SIDE / 2**20
    text = f"""
## Bigger than memory

`python benchmarks/streaming.py`, {date.today()}, {processor()}, {os.cpu_count()} cores. {given.images:,} generated grey
images of {SIDE}x{SIDE} ({size:,.0f} MiB), `dataset.memory_limit` a tenth of that ({limit / 2**20:,.0f} MiB), batches of
{BATCH}, one thread, {given.rounds} rounds in turn from the machine's disk cache; fc: one epoch, conv: {given.steps}
steps. Medians; peak memory is that of the whole process, PyTorch and the mapped pages of files included.

| model | images | images/s | range | peak memory, MiB |
|---|---|---|---|---|
""" + "\n".join(table)
    print(text)
    write_section("streaming", text)


if __name__ == "__main__":
    main()
