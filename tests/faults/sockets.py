"""Sockets that listen while aerun runs, by the system's own list, and those of them that another machine reaches."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOOPBACK = {"0100007F", "00000000000000000000000001000000"}  # 127.0.0.1 and ::1
Socket = tuple[str, str]  # address and port in hexadecimal digits
TINY = (
    *("model=conv", "model.hidden=[3,4]", "model.code_size=4", "dataset.train_limit=200", "dataset.validation=100"),
    *("trainer.epochs=2", "trainer.batch_size=32", "trainer.device=cpu", "trainer.threads=1", "trainer.pictures=1"),
)
DEEP = ("model=fc_deep", "model.hidden=[16,8]", "model.code_size=4")
TWO, SEEDS = "trainer.processes=2", "seed=0,1"
BASIC, JOBLIB = ("hydra/launcher=basic",), ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


def _run(name: str, *words: str) -> tuple[str, ...]:
    """The words of a single run. The ones that are typed later count."""
    keys = {word.partition("=")[0] for word in words}
    tiny = [word for word in TINY if word.partition("=")[0] not in keys]
    return "train", *tiny, *words, f"hydra.run.dir=runs/{name}"


def _sweep(name: str, *words: str) -> tuple[str, ...]:
    return "train", "-m", *TINY, *words, SEEDS, f"sweep.name={name}"


# In this order: some use the run of the first.
KINDS: dict[str, tuple[str, ...]] = {
    "single": _run("single"),
    "resumed": ("train", "resume=runs/single", "trainer.epochs=3"),
    "greedy": _run("greedy", *DEEP, "trainer=greedy", "trainer.stage_epochs=1", "trainer.epochs=0"),
    "in stages": _run("stages", *DEEP, "trainer=greedy", "trainer.stage_epochs=[1,2,1]", "trainer.epochs=1"),
    "streaming": _run("streaming", "dataset.memory_limit=100kB"),
    "early stopping": _run("early", "trainer.epochs=50", "trainer.patience=1", "trainer.min_delta=1"),
    "two processes": _run("two", TWO),
    "two processes resumed": ("train", "resume=runs/two", "trainer.epochs=3"),
    "sweep, basic": _sweep("basic", *BASIC),
    "sweep, joblib": _sweep("joblib", *JOBLIB),
    "sweep of two processes, basic": _sweep("basic2", TWO, *BASIC),
    "sweep of two processes, joblib": _sweep("joblib2", TWO, *JOBLIB),
    "evaluate": ("evaluate", "run=runs/single"),
    "compare": ("compare", "runs", "--output", "report"),
    "doctor": ("doctor", "runs/single", "--device", "cpu"),
    "embed": ("embed", "runs/single", "pictures", "-o", "codes.npz", "--device", "cpu"),
    "search": ("search", "runs/single", "codes.npz", "--duplicates", "1", "--device", "cpu"),
    "organise": ("organise", "runs/single", "codes.npz", "-o", "clusters", "--clusters", "2", "--device", "cpu"),
    "map": ("map", "runs/single", "-o", "maps", "--device", "cpu"),
    "generate": ("generate", "samples", "runs/single", "-o", "made", "--device", "cpu"),
    "export": ("export", "runs/single", "exported"),
    "denoise": ("denoise", "runs/single", "pictures", "cleaned", "--device", "cpu"),
}


def listening_sockets(parent: int) -> set[Socket]:
    """The sockets at which a process, its children and theirs can be reached, as Linux lists them."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    family = {parent}
    while more := {child for child, above in parents.items() if above in family} - family:
        family |= more
    opened = set()
    for process in family:
        with contextlib.suppress(OSError):
            for path in Path(f"/proc/{process}/fd").iterdir():
                with contextlib.suppress(OSError):  # it is closed in this moment
                    opened.add(str(path.readlink()))
    found = set()
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in opened:
                address, _, port = fields[1].partition(":")
                found.add((address, port))
    return found


def watch(words: Iterable[str], folder: Path) -> set[Socket]:
    """Run a command to its end; the sockets that it opened. AssertionError if it fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "AERUN_DATA": str(folder / "cache")}
    with (folder / "printed").open("wb") as printed:
        process = subprocess.Popen(
            [sys.executable, "-m", "aerun", *words],
            cwd=folder,
            env=environment,
            stdout=printed,
            stderr=printed,
            start_new_session=True,
        )
        found = set[Socket]()
        try:
            while process.poll() is None:
                found |= listening_sockets(process.pid)
                time.sleep(0.05)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert process.returncode in (0, 2), (folder / "printed").read_text()  # 2: a diagnosis of the doctor's
    return found


def campaign(folder: Path, kinds: Iterable[str] = KINDS) -> dict[str, set[Socket]]:
    """The sockets of each kind of run, but for those that fail, which are printed."""
    import numpy as np
    from PIL import Image

    draw = np.random.default_rng(0)
    (folder / "pictures").mkdir(parents=True)
    for number in range(6):
        Image.fromarray(draw.integers(0, 256, (40, 40), np.uint8)).save(folder / "pictures" / f"{number}.png")
    found = {}
    for kind in kinds:
        try:
            found[kind] = watch(KINDS[kind], folder)
        except AssertionError as error:
            print(f"{kind}: {error}", file=sys.stderr)
    return found


def reachable(sockets: Iterable[Socket]) -> set[Socket]:
    """Those that another machine reaches."""
    return {(address, port) for address, port in sockets if address not in LOOPBACK}
