"""What a sweep costs in addition to its training, and against the way it is usually done.

    python benchmarks/sweep.py                     # needs: pip install lightning
    python benchmarks/sweep.py --python OTHER      # Lightning in another environment
    python benchmarks/sweep.py --long 30 100 250   # adds runs of other lengths and the default model, without Lightning

16 runs of model=fc on the embedded images, every process with one thread, the two ways in turn:

- aerun with hydra/launcher=joblib, everything that a run leaves behind included;
- Hydra's basic launcher with a Lightning trainer over a DataLoader: the same network, optimizer, batches and epochs,
  with Lightning's own logger and checkpoints (``lightning_app.py`` in this folder). Once over torchvision's data set
  with ToTensor, as the tutorials have it, and once over floats that were decoded before.

Writes its sections of docs/sweep.md.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.machine import processor  # noqa: E402
from benchmarks.page import write_section  # noqa: E402

JOBS = 16
PAGE = ROOT / "docs" / "sweep.md"
LONGER = """### Longer runs, and the default model

The sweep alone, {jobs} runs of the model and the epochs in the table (`--long`, {date}, {processor}, repeats:
{repeats}); the goal for 16 default runs of 30 epochs is 1.15:"""
MODELS = ("fc", "mlp")  # 784-64-784, and 784-256-32-256-784, the default
NOTE = """
What a run does in addition to its steps (test metrics, figures and projector at the end, validation after every
epoch, and the start of torch and matplotlib in each process) is a large share of runs of a few seconds, and a small
one of longer runs.
"""
IMAGES = ROOT / "aerun" / "data" / "fashion_mnist_mini"


def timed(command: list[str], folder: Path) -> float:
    """Seconds of a whole process with one thread; its output goes to a file."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (folder / "output.txt").open("w") as output:
        clock = time.perf_counter()
        subprocess.run(command, cwd=folder, env=environment, stdout=output, stderr=output, check=True)
        return time.perf_counter() - clock


def aerun(folder: Path, epochs: int, model: str = "fc") -> tuple[float, float]:
    """Seconds of the sweep, and of all its training steps together."""
    words = [
        f"model={model}",
        f"seed=range({JOBS})",
        f"trainer.epochs={epochs}",
        "trainer.device=cpu",
        "sweep.name=sweep",
    ]
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), "-m", *words, "hydra/launcher=joblib"]
    wall = timed(command, folder)
    runs = sorted((folder / "outputs" / "sweep").glob("*/summary.json"))
    assert len(runs) == JOBS, f"{len(runs)} of {JOBS} runs finished"
    return wall, sum(json.loads(run.read_text())["train_seconds"] for run in runs)


def lightning(folder: Path, epochs: int, python: str, decoded: bool) -> float:
    """Seconds of the same runs under Hydra's basic launcher and Lightning."""
    raw = folder / "FashionMNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for path in IMAGES.glob("*.gz"):
        (raw / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    app = Path(__file__).resolve().parent / "lightning_app.py"
    words = [f"seed=range({JOBS})", f"epochs={epochs}", f"root={folder}", f"decoded={decoded}"]
    return timed([python, str(app), "-m", *words], folder)


def add_long(lengths: list[int], repeats: int, cores: int) -> None:
    """Measure longer runs, and write their table to docs/sweep.md."""
    text = [LONGER.format(jobs=JOBS, date=date.today(), processor=processor(), repeats=repeats), ""]
    seconds_of = ["sweep", "training steps / cores", "import torch"]
    head = ["model", "epochs a run", *(f"{name}, s" for name in seconds_of), "(sweep - import) / training"]
    text += ["| " + " | ".join(head) + " |"]
    text += ["|---|---|---|---|---|---|"]
    for model, epochs in itertools.product(MODELS, lengths):
        rows = []
        for _ in range(repeats):
            with tempfile.TemporaryDirectory() as folder:
                importing = timed([sys.executable, "-c", "import torch"], Path(folder))
                wall, training = aerun(Path(folder), epochs, model)
            rows.append((wall, training / cores, importing, (wall - importing) / (training / cores)))
            print(f"{model}, {epochs}: " + ", ".join(f"{value:.2f}" for value in rows[-1]), flush=True)
        *seconds, shares = zip(*rows, strict=True)
        cells = [f"{statistics.median(column):.1f}" for column in seconds]
        share = f"**{statistics.median(shares):.2f}** ({min(shares):.2f}-{max(shares):.2f})"
        text.append(f"| {model} | {epochs} | {' | '.join(cells)} | {share} |")
    write_section("longer", "\n".join(text), PAGE)
    print("\n".join(text))


def main() -> None:
    """Measure, print, and write docs/sweep.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--python", default=sys.executable, help="an interpreter that has lightning and hydra-core")
    parser.add_argument(
        "--long", type=int, nargs="+", metavar="EPOCHS", help="add what the sweep costs for longer runs, alone"
    )
    given = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    if given.long:
        add_long(given.long, given.repeats, cores)
        return
    rows = []
    for number in range(given.repeats):
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
            importing = timed([sys.executable, "-c", "import torch"], Path(one))
            wall, training = aerun(Path(one), given.epochs)
            usual, decoded = (lightning(Path(two), given.epochs, given.python, flag) for flag in (False, True))
        share = (wall - importing) / (training / cores)
        rows.append((wall, training / cores, importing, share, usual, usual / wall, decoded, decoded / wall))
        print(f"{number + 1}: " + ", ".join(f"{value:.2f}" for value in rows[-1]), flush=True)
    names = [
        "aerun's sweep, s",
        f"its training steps / {cores} cores, s",
        "import torch, s",
        "(sweep - import) / training",
        "Hydra basic + Lightning over torchvision's data set, s",
        "the same / aerun's sweep",
        "Hydra basic + Lightning over decoded floats, s",
        "the same / aerun's sweep",
    ]
    text = [
        f"Made by `python benchmarks/sweep.py --epochs {given.epochs}` on {date.today()}, {processor()}. "
        f"{JOBS} runs of model=fc, {given.epochs} epochs each, on the 10,000 embedded images, one thread a process, "
        f"repeats: {given.repeats}, in turn.",
        NOTE,
        "| | median | lowest | highest |",
        "|---|---|---|---|",
    ]
    for name, column in zip(names, zip(*rows, strict=True), strict=True):
        text.append(f"| {name} | {statistics.median(column):.2f} | {min(column):.2f} | {max(column):.2f} |")
    print("\n".join(text))
    write_section("cost", "\n".join(text), PAGE)


if __name__ == "__main__":
    main()
