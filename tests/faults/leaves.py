"""Every leaf of the configuration given every kind of bad value."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.faults.kills import Compose
from tests.keys import needed

BAD = ["abc", "", -1, -0.5, 0, 10**30, 1e30, float("nan"), float("inf"), None, [], ["abc"], {}, {"a": 1}, True]
TINY = ["dataset.validation=4", "trainer.batch_size=8", "trainer.epochs=1", "trainer.threads=1", "trainer.device=cpu"]


def options(compose: Compose, folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """A configuration around each option of each group, on little data."""
    import numpy as np
    from PIL import Image

    from aerun.base.conf import conf_dir
    from aerun.config.settings import GROUPS

    random = np.random.default_rng(0)
    np.save(folder / "x.npy", random.random((40, 3, 24, 24), np.float32))
    (folder / "pictures").mkdir()
    for index in range(20):
        Image.fromarray(random.integers(0, 256, (20, 30, 3), np.uint8)).save(folder / "pictures" / f"{index}.png")
    data = {
        "random": ["dataset.images=40"],
        "array": [f"dataset.root={folder / 'x.npy'}"],
        "image_folder": [f"dataset.root={folder / 'pictures'}", "dataset.size=16"],
    }
    yield "train", compose(["dataset=random", *data["random"], *TINY])
    for group in GROUPS:
        for path in sorted((conf_dir() / group).glob("*.yaml")):
            dataset = path.stem if group == "dataset" else "random"
            if dataset in data:  # the others have no keys of their own but root and download
                choice = [] if group == "dataset" else [f"{group}={path.stem}"]
                choice += needed(path.stem) if group == "model" else []
                colors = ["dataset.shape=[3,28,28]"] if path.stem == "recolor" else []
                yield f"{group}={path.stem}", compose([f"dataset={dataset}", *data[dataset], *choice, *colors, *TINY])


def leaves(node: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all values that are not mappings; not what a class of torch's is called with."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        elif key != "_args_":
            yield (*path, key)


def attempt(config: dict[str, Any]) -> None:
    """Check, build and take one step, as a run would."""
    from aerun.config.parse import parse
    from aerun.dataset.data import first_batch
    from aerun.training.build import build_parts, prepare
    from aerun.training.step import make_step

    settings = parse(config)
    settings.dataset.check()
    device = prepare(settings)
    data = settings.dataset.load(device)
    parts = build_parts(settings, data, device)
    step = make_step(
        parts,
        learning_rate=lambda number: settings.scheduler.multiplier(number, total_steps=9, steps_per_epoch=3),
        precision=settings.trainer.precision,
        clip_norm=settings.trainer.clip_norm,
        clip_value=settings.trainer.clip_value,
    )
    parts.autoencoder.train()
    step(first_batch(data.train, settings.trainer.batch_size), 0)


def campaign(compose: Compose, folder: Path) -> dict[str, Any]:
    """Put each bad value in the place of each leaf; each must train a step, or be refused in a line that names it."""
    import torch

    from aerun.errors import AerunError

    trained, refused, wrong, slowest, seen = 0, 0, [], 0.0, set()
    for name, base in options(compose, folder):
        for path in leaves(base):
            # Every leaf once, in the first configuration that has it under that class.
            target = base[path[0]].get("_target_") if len(path) > 1 else None
            if (target, path) in seen:
                continue
            seen.add((target, path))
            for value in BAD:
                config = copy.deepcopy(base)
                node = config
                for key in path[:-1]:
                    node = node[key]
                node[path[-1]] = value
                clock = time.perf_counter()
                try:
                    attempt(config)
                    trained += 1
                except AerunError as error:
                    refused += 1
                    if "\n" in str(error) or path[-1] not in str(error):
                        wrong.append((name, ".".join(path), value, f"does not name it: {error}"))
                except Exception as error:
                    wrong.append((name, ".".join(path), value, f"{type(error).__name__}: {error}"[:200]))
                slowest = max(slowest, time.perf_counter() - clock)
    torch.use_deterministic_algorithms(False)
    cases = trained + refused + sum("does not name" not in problem[3] for problem in wrong)
    return {"cases": cases, "trained": trained, "refused": refused, "wrong": wrong, "slowest": slowest}
