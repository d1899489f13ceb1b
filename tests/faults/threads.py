"""Work in several threads of one process, which take turns every ten microseconds: the same bits as alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

THREADS, SWITCH_SECONDS = (2, 4, 8), 1e-5
TINY = ("model=conv", "model.hidden=[3,4]", "model.code_size=4", "trainer.epochs=2", "trainer.batch_size=16")
TINY += ("noise=gaussian", "trainer.device=cpu", "trainer.threads=1", "trainer.pictures=0", "dataset.validation=10")
Work = Callable[[int], bytes]


@contextmanager
def quick_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def weights(model: object) -> bytes:
    """The bytes of all parameters and buffers."""
    import torch

    assert isinstance(model, torch.nn.Module)
    return b"".join(tensor.detach().numpy().tobytes() for tensor in model.state_dict().values())


def works(folder: Path) -> dict[str, Work]:
    """What is done for a seed, by name, and the bytes that come out."""
    from PIL import Image

    import aerun
    from aerun.sklearn import Autoencoder
    from aerun.use.opened_run import open_run

    draw = np.random.default_rng(0)
    images = draw.random((50, 1, 12, 12), np.float32)
    (folder / "art").mkdir(parents=True)
    for number in range(12):
        Image.fromarray(draw.integers(0, 256, (20, 16), np.uint8)).save(folder / "art" / f"{number}.png")
    run = aerun.train(*TINY, data=images, out=folder / "run", verbose=False)
    assert run.folder == folder / "run"
    scans = draw.random((8, 1, 20, 16), np.float32)

    def fit(seed: int) -> bytes:
        rows = images.reshape(50, -1)
        keys = {"code_size": 4, "hidden": [8], "epochs": 2, "batch_size": 16, "device": "cpu", "threads": 1}
        fitted = Autoencoder(**keys, random_state=seed).fit(rows)
        return bytes(fitted.transform(rows).tobytes())

    def train(seed: int) -> bytes:
        place = folder / f"run-{seed}-{next(numbers)}"
        return weights(aerun.train(*TINY, f"seed={seed}", data=images, out=place, verbose=False).model)

    numbers = iter(range(10**9))
    return {
        "fit": fit,
        "load": lambda seed: weights(aerun.load(folder / "run")),
        "denoise": lambda seed: aerun.denoise(
            open_run(folder / "run", "cpu"), scans[seed % 8 : seed % 8 + 1]
        ).tobytes(),
        "embed": lambda seed: aerun.embed(open_run(folder / "run", "cpu"), folder / "art").codes.tobytes(),
        "train": train,
    }


def campaign(folder: Path, seeds: int, threads: tuple[int, ...] = THREADS) -> dict[str, tuple[int, int]]:
    """For each kind of work, and for all kinds mixed: how many results are those of the work alone, of how many."""
    done = works(folder)
    alone = {(name, seed): work(seed) for name, work in done.items() for seed in range(seeds)}
    listed = {name: [(name, seed) for seed in range(seeds)] for name in done}
    listed["all of these, mixed"] = [(name, seed) for seed in range(seeds) for name in done]
    found = {}
    for kind, jobs in listed.items():
        same = total = 0
        for count in threads:
            with quick_switches(), ThreadPoolExecutor(count) as pool:
                results = list(pool.map(lambda job: done[job[0]](job[1]), jobs))
            same += sum(result == alone[job] for job, result in zip(jobs, results, strict=True))
            total += len(jobs)
        found[kind] = (same, total)
    return found
