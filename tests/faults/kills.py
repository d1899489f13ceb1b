"""Runs that are killed at random moments and continued, compared bit for bit with undisturbed ones.

A run is a forked child of a process that has torch loaded, so that a kill costs no start-up.
"""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

CONFIGURATIONS = [
    ["model=fc", "sparsity=topk", "noise=gaussian"],
    ["model=vae", "loss=bce", "loss.reduction=sum", "noise=masking", "scheduler=cosine"],
    ["model=fc_deep", "sparsity=kl", "model.tied=true", "scheduler=plateau", "scheduler.patience=0"],
    ["model=conv", "sparsity=lifetime", "noise=salt_pepper", "optimizer=sgd", "trainer.patience=2"],
    ["model=conv_fc", "sparsity=l1", "optimizer=rmsprop", "scheduler=multistep", "dataset.normalize=standardise"],
    ["model=fc_vae", "optimizer=nadam", "trainer.clip_norm=1", "trainer.evaluate_every_epochs=2"],
    ["model=conv", "sparsity=topk_lifetime", "sparsity.k=2", "optimizer=adamw", "dataset.validation=0"],
]
SMALL = [
    "dataset.train_limit=500",
    "dataset.validation=200",
    "trainer.epochs=4",
    "trainer.batch_size=32",
    "trainer.device=cpu",
    "trainer.threads=1",
    "trainer.log_every_steps=5",
    "trainer.pictures=2",
    # Many checkpoints within an epoch: kills should find all kinds of moments.
    "checkpoint.every_minutes=0.002",
]
SPEED = "train/images_per_second"
Compose = Callable[[list[str]], dict[str, Any]]


def start(config: dict[str, Any], folder: Path, errors: Path | None = None, die_at: int = 0) -> int:
    """Fork a process that runs ``config`` in ``folder``; returns its number. Its errors go to a file beside it.

    ``die_at``: it dies as it renames a file for that time, before the renaming if odd and after it if even.
    """
    from aerun.config.parse import parse
    from aerun.runs.run import run

    child = os.fork()
    if child:
        return child
    code = 1
    try:
        logging.disable()
        if die_at:
            die_at_renaming(die_at)
        sys.stderr = (errors or folder.parent / f"{folder.name}.err").open("a")
        run(parse(config), config, folder)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def die_at_renaming(number: int) -> None:
    """Make this process die at its ``number``-th renaming of a file."""
    rename, count = Path.replace, 0

    def counted(self: Path, target: Path) -> Path:
        nonlocal count
        count += 1
        if count == number and number % 2:
            os._exit(9)
        result = rename(self, target)
        if count == number:
            os._exit(9)
        return result

    Path.replace = counted  # type: ignore[method-assign, assignment]


def finish(child: int) -> int:
    """Wait for a process; its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def wait_for(path: Path, child: int) -> None:
    """Wait until a running process has made a file. AssertionError if it ends without."""
    while not path.exists():
        assert os.waitpid(child, os.WNOHANG) == (0, 0), f"ended without {path.name}"
        time.sleep(0.002)


def contents(folder: Path) -> dict[str, Any]:
    """All that a run leaves that should not depend on how often it was killed."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    summary = json.loads((folder / "summary.json").read_text())
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0}).Reload()
    found: dict[str, Any] = {
        "metrics.jsonl": [{k: v for k, v in line.items() if not k.endswith(SPEED)} for line in lines],
        "summary": {
            k: v for k, v in summary.items() if k not in ("train_seconds", "wall_seconds", "images_per_second")
        },
    }
    for path in (folder / "figures").glob("*.png"):
        found[path.name] = path.read_bytes()
    for name in ("last", "best"):
        tensors = load_file(folder / "checkpoints" / f"{name}.safetensors")
        found |= {f"{name}/{key}": tensor.numpy().tobytes() for key, tensor in tensors.items()}
    for tag in events.Tags()["scalars"]:
        found[f"scalar {tag}"] = [(e.step, 0 if tag.endswith(SPEED) else e.value) for e in events.Scalars(tag)]
    for tag in events.Tags()["images"]:
        found[f"image {tag}"] = [(e.step, e.encoded_image_string) for e in events.Images(tag)]
    return found


def differences(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """The names of what is not the same."""
    return sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))


def campaign(compose: Compose, folder: Path, count: int, seed: int = 0) -> dict[str, Any]:
    """Kill ``count`` runs, half of them twice, and continue each to its end; returns what was found."""
    draw = random.Random(seed)
    references: dict[int, tuple[dict[str, Any], float]] = {}
    kills, identical, failed = 0, 0, []
    for number in range(count):
        kind = number % len(CONFIGURATIONS)
        config = compose([*SMALL, *CONFIGURATIONS[kind]])
        if kind not in references:
            clock = time.perf_counter()
            assert finish(start(config, folder / f"reference-{kind}")) == 0
            references[kind] = contents(folder / f"reference-{kind}"), time.perf_counter() - clock
        expected, seconds = references[kind]
        run_folder = folder / f"run-{number}"
        for _ in range(1 + number % 2):
            child = start(config, run_folder)
            time.sleep(draw.uniform(0, seconds))
            os.kill(child, signal.SIGKILL)
            kills += finish(child) == -signal.SIGKILL
        code = finish(start(config, run_folder))
        wrong = differences(expected, contents(run_folder)) if code == 0 else [f"exit code {code}"]
        identical += not wrong
        failed += [(number, CONFIGURATIONS[kind], wrong[:5])] if wrong else []
    return {"runs": count, "kills": kills, "identical": identical, "failed": failed}


def renaming_campaign(compose: Compose, folder: Path, points: list[int]) -> dict[str, Any]:
    """Kill a run at each of these renamings, twice over, and continue it; every rename is a point of commitment."""
    overrides = [override for override in SMALL if "every_minutes" not in override and "batch" not in override]
    config = compose([*overrides, "checkpoint.every_minutes=0.000001", "trainer.batch_size=170", "noise=gaussian"])
    assert finish(start(config, folder / "reference")) == 0
    expected, failed = contents(folder / "reference"), []
    for point in points:
        run_folder = folder / f"at-{point}"
        codes = [finish(start(config, run_folder, die_at=at)) for at in (point, 5)]
        code = finish(start(config, run_folder))
        wrong = differences(expected, contents(run_folder)) if code == 0 else [f"exit code {code}"]
        left = [path.name for path in run_folder.rglob(".*") if path.is_file() and path.name != ".lock"]
        failed += [(point, codes, wrong[:5], left)] if wrong or left else []
    return {"points": len(points), "failed": failed}
