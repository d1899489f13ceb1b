"""Whole processes: how soon a command answers, how soon it trains, what a run costs compared with a bare script.

    python benchmarks/startup.py                  # about five minutes
    python benchmarks/startup.py --rounds 9

Commands are started in turn, on one core with one thread each. Their first round, with an empty cache of aerun's, is
shown separately; the others find files and caches warm. Writes its section of docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import functools
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.images import EMBEDDED, images_folder  # noqa: E402
from benchmarks.machine import circumstances, last_core  # noqa: E402
from benchmarks.page import write_section  # noqa: E402
from benchmarks.rounds import interleave, paired, spread, table, verdict  # noqa: E402

TRAIN = str(ROOT / "scripts" / "train.py")
DEVICE = "trainer.device=cpu"
COMPLETION = "python scripts/train.py model=f"
# command -> words after the interpreter
QUICK = {
    "python -c pass": ["-c", "pass"],
    'python -c "import torch"': ["-c", "import torch"],
    "train.py --help": [TRAIN, "--help"],
    "train.py optimizer.lrr=1 (an error)": [TRAIN, "optimizer.lrr=1"],
    "tab completion": [TRAIN, "-sc", "query=bash"],
    "train.py, to its first step": [str(ROOT / "benchmarks" / "first_step.py"), DEVICE],
}
IMPORT, STEP, HELP = 'python -c "import torch"', "train.py, to its first step", "train.py --help"
RUN, BARE = "train.py model=fc", "bare.py"
# (what, over what or None for seconds, at most)
TARGETS = [(HELP, None, 1.0), (STEP, IMPORT, 1.7), (RUN, BARE, 1.25)]


@dataclass(frozen=True)
class Process:
    """Seconds from the start to the end, or to the clock that it printed; peak memory in MiB; processor seconds."""

    seconds: float
    peak: float
    processor: float


def timed(words: list[str], folder: Path, cache: Path, core: int | None) -> Process:
    """Run ``python words`` in a folder. What it prints goes to a file there."""
    environment = {
        "OMP_NUM_THREADS": "1",
        "AERUN_DATA": str(cache),
        "COMP_LINE": COMPLETION,
        "COMP_POINT": str(len(COMPLETION)),
    }
    pin = None if core is None else lambda: os.sched_setaffinity(0, {core})
    with (folder / "output.txt").open("w+") as output:
        begin = time.clock_gettime(time.CLOCK_MONOTONIC)
        process = subprocess.Popen(
            [sys.executable, *words],
            cwd=folder,
            env={**os.environ, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=pin,
        )
        _, status, usage = os.wait4(process.pid, 0)
        end = time.clock_gettime(time.CLOCK_MONOTONIC)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        lines = output.read().splitlines()
    expected = 1 if "optimizer.lrr=1" in words else 0
    if process.returncode != expected:
        raise RuntimeError(f"{' '.join(words)}: exit code {process.returncode}\n" + "\n".join(lines[-20:]))
    if "-sc" in words and "model=fc" not in lines[-1]:
        raise RuntimeError(f"the completion of {COMPLETION!r} is {lines}")
    if words[0].endswith("first_step.py"):
        end = float(lines[-1])
    return Process(end - begin, usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime)


def measured(commands: dict[str, list[str]], rounds: int, core: int | None) -> dict[str, list[Process]]:
    """So many rounds and a first one, with a cache that is empty at the start."""
    with tempfile.TemporaryDirectory() as place:
        folder, cache = Path(place) / "work", Path(place) / "cache"
        folder.mkdir()
        asks = {name: functools.partial(timed, words, folder, cache, core) for name, words in commands.items()}
        return interleave(asks, rounds + 1)


def rows_of(processes: dict[str, list[Process]]) -> list[list[str]]:
    """A row for each command."""
    return [
        [
            name,
            f"{spread([process.seconds for process in times[1:]]):.2f}",
            f"{times[0].seconds:.2f}",
            f"{spread([process.peak for process in times[1:]]).median:,.0f}",
        ]
        for name, times in processes.items()
    ]


def targets(processes: dict[str, list[Process]], large: dict[str, list[Process]]) -> list[str]:
    """One line for each target."""
    lines = []
    for name, other, most in TARGETS:
        values = [process.seconds for process in processes[name][1:]]
        if other is None:
            ratio = spread(values)
        else:
            ratio = paired(values, [process.seconds for process in processes[other][1:]])
        what = f"`{name}`, s" if other is None else f"`{name}` / `{other}`"
        lines.append(f"- {what}: {ratio:.2f}, {verdict(ratio.median, most, at_most=True)}")
    ours, theirs = ([process.peak for process in times[1:]] for times in large.values())
    ratio = paired(ours, theirs)
    lines.append(f"- peak memory, all images, aerun / bare.py: {ratio:.2f}, {verdict(ratio.median, 1.3, at_most=True)}")
    return lines


def main() -> None:
    """Measure, print, and write docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=30, help="of the whole run")
    parser.add_argument("--core", type=int, default=last_core(), help="the core they are bound to")
    parser.add_argument("--write", action=argparse.BooleanOptionalAction, default=True, help="docs/benchmarks.md")
    given = parser.parse_args()
    bare = str(ROOT / "benchmarks" / "bare.py")
    whole = {
        RUN: [TRAIN, "model=fc", DEVICE, f"trainer.epochs={given.epochs}"],
        BARE: [bare, str(EMBEDDED), str(given.epochs)],
    }
    small = measured(QUICK | whole, given.rounds, given.core)
    full = images_folder()
    data = [] if full == EMBEDDED else ["dataset=fashion_mnist", f"dataset.root={full}"]
    all_images = {
        "train.py model=fc, all images, one epoch": [TRAIN, "model=fc", DEVICE, "trainer.epochs=1", *data],
        "bare.py, all images, one epoch": [bare, str(full), "1"],
    }
    large = measured(all_images, min(given.rounds, 3), given.core)
    head = ["command", "seconds", "first round", "peak memory, MiB"]
    about = (
        f"{given.rounds} rounds, the commands in turn: median (lowest-highest) of the whole process; of the first "
        "step, from the process's start to the end of the first `optimizer.step()`. The round before them began with "
        "an empty cache of aerun's; it is shown separately and is in no ratio. Ratios are medians of the rounds' own. "
        "`bare.py`, of benchmarks/, trains what `train.py model=fc` trains, and saves one grid"
    )
    about += "; all images are 60,000." if full != EMBEDDED else "; the full Fashion-MNIST was not found."
    parts = [
        "## Start-up and whole processes",
        circumstances("startup.py", "cpu", "one core and one thread", ["torch", "torchvision", "numpy"]) + " " + about,
        table(head, [*rows_of(small), *rows_of(large)]),
        "\n".join(targets(small, large)),
    ]
    text = "\n\n".join(parts)
    print(text)
    if given.write:
        write_section("startup", text)


if __name__ == "__main__":
    main()
