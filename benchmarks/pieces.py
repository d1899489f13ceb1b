"""The pieces of a step and of a start, each in the ways that were tried: what docs/performance.md rests on.

    python benchmarks/pieces.py                   # about two minutes

Ways of one thing are timed in turn, on one core with one thread; ratios are to the first of them, round by round. Those
that change the process itself are timed in processes of their own. Writes its section of docs/performance.md.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from aerun.base.speed import eager_step, keep_freed_memory  # noqa: E402
from benchmarks.machine import circumstances, last_core  # noqa: E402
from benchmarks.page import write_section  # noqa: E402
from benchmarks.rounds import interleave, paired, spread, table  # noqa: E402
from benchmarks.workers import Worker, serve  # noqa: E402

PAGE = ROOT / "docs" / "performance.md"
Ways = Mapping[str, Callable[[], float]]
SIDE, IMAGES = 28, 60_000


def clocked(function: Callable[[], Any], seconds: float = 0.15) -> float:
    """Microseconds of a call, over as many as take so long."""
    function()
    count, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        function()
        count += 1
    return (time.perf_counter() - begun) / count * 1e6


def net(model: str) -> nn.Sequential:
    """784-64-784, or the convolutions of model=conv."""
    if model == "fc":
        layers: list[nn.Module] = [nn.Flatten(), nn.Linear(784, 64), nn.LeakyReLU(), nn.Linear(64, 784)]
        return nn.Sequential(*layers, nn.Unflatten(1, (1, SIDE, SIDE)))
    down = [nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2)]
    up = [nn.ConvTranspose2d(64, 32, 3, 2), nn.ReLU(), nn.ConvTranspose2d(32, 16, 3, 2, 1, 1), nn.ReLU()]
    return nn.Sequential(*down, *up, nn.ConvTranspose2d(16, 1, 3, 2, 1, 1), nn.Sigmoid())


def images() -> Tensor:
    """Noise: how fast it goes does not depend on what is seen."""
    return torch.randint(0, 256, (IMAGES, 1, SIDE, SIDE), dtype=torch.uint8)


def training(model: str, batch: int, change: Callable[[nn.Module], Any] = lambda module: module, cast: bool = False):
    """A whole step, in microseconds."""
    network = change(net(model))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    stored, rows = images(), torch.randperm(IMAGES)[:batch]

    def step() -> None:
        inputs = stored.index_select(0, rows).to(torch.float32).div_(255)
        with torch.autocast("cpu", torch.bfloat16, enabled=cast):
            outputs = network(inputs)
        loss = F.mse_loss(outputs.float(), inputs)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return functools.partial(clocked, step, 0.5)


def gathering() -> Ways:
    """512 images of 784 bytes, out of 60,000."""
    stored, rows = images(), torch.randperm(IMAGES)[:512]
    return {
        "images[rows]": lambda: clocked(lambda: stored[rows]),
        "images.index_select(0, rows)": lambda: clocked(lambda: stored.index_select(0, rows)),
    }


def converting() -> Ways:
    """uint8 to float in [0,1]."""
    batch = images()[:512]
    return {
        "batch / 255": lambda: clocked(lambda: batch / 255),
        "batch.to(float32).div_(255)": lambda: clocked(lambda: batch.to(torch.float32).div_(255)),
    }


def updating() -> Ways:
    """Adam over 784-64-784."""

    def optimizer(**way: Any) -> torch.optim.Adam:
        network = net("fc")
        for parameter in network.parameters():
            parameter.grad = torch.randn_like(parameter)
        return torch.optim.Adam(network.parameters(), lr=1e-3, **way)

    fused = optimizer(fused=True)
    return {
        "fused=True": functools.partial(clocked, fused.step),
        "fused=True, without torch's wrapping": functools.partial(clocked, eager_step(optimizer(fused=True))),
        "foreach=True": functools.partial(clocked, optimizer(foreach=True).step),
        "neither": functools.partial(clocked, optimizer(fused=False, foreach=False).step),
    }


def ordering(batch: int) -> Ways:
    """model=conv, by the memory order of weights and maps."""
    return {
        "contiguous": training("conv", batch),
        "channels-last": training("conv", batch, lambda module: module.to(memory_format=torch.channels_last)),
    }


def rounding() -> Ways:
    """784-64-784 at 512."""
    return {"float32": training("fc", 512), "bfloat16 autocast": training("fc", 512, cast=True)}


def compiling() -> Ways:
    """784-64-784 at 512; compiling itself is not in it."""
    return {"eager": training("fc", 512), "torch.compile": training("fc", 512, torch.compile)}


INSIDE: dict[str, Callable[[], Ways]] = {
    "gather a batch of 512": gathering,
    "uint8 to float, 512": converting,
    "Adam": updating,
    "model=conv, a step at 64": lambda: ordering(64),
    "model=conv, a step at 512": lambda: ordering(512),
    "784-64-784, a step at 512, precision": rounding,
    "784-64-784, a step at 512, compiled": compiling,
}
# what -> (way -> how the process is set up), and what it then times
APART = {
    "784-64-784, a step at 512, memory": ("fc", 512),
    "model=conv, a step at 512, memory": ("conv", 512),
}


def worker() -> None:
    """Answer in a process whose memory is kept, or left as it is."""
    torch.set_num_threads(1)
    if "keep" in sys.argv:
        keep_freed_memory()
    steps: dict[str, Callable[[], float]] = {}

    def answer(request: dict[str, Any]) -> dict[str, float]:
        name = request["name"]
        steps.setdefault(name, training(*APART[name]))
        return {"value": steps[name]()}

    serve(answer)


def rows_of(what: str, times: Mapping[str, list[float]]) -> list[list[str]]:
    """One row for each way; the first is what the others are compared with."""
    first = next(iter(times.values()))
    form = ",.0f" if max(first) >= 100 else ",.1f"
    return [
        [what if values is first else "", way, f"{spread(values):{form}}", f"{paired(values, first).median:.2f}"]
        for way, values in times.items()
    ]


def main() -> None:
    """Measure, print, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--core", type=int, default=last_core(), help="the core that it is bound to")
    parser.add_argument("--write", action=argparse.BooleanOptionalAction, default=True, help="docs/performance.md")
    given = parser.parse_args()
    where = circumstances("pieces.py", "cpu", "one core and one thread", ["torch"])
    if given.core is not None:
        os.sched_setaffinity(0, {given.core})
    torch.set_num_threads(1)
    rows = []
    command = [sys.executable, __file__, "--worker"]
    with (
        Worker([*command, "leave"], {"OMP_NUM_THREADS": "1"}, given.core) as leaving,
        Worker([*command, "keep"], {"OMP_NUM_THREADS": "1"}, given.core) as keeping,
    ):
        for what in APART:
            ways = {
                "given back after every step": functools.partial(leaving.ask, name=what),
                "kept for the next": functools.partial(keeping.ask, name=what),
            }
            for ask in ways.values():
                ask()  # the first finds nothing kept yet
            answers = interleave(ways, given.rounds)
            rows += rows_of(what, {way: [reply["value"] for reply in found] for way, found in answers.items()})
    keep_freed_memory()  # as in a run
    for what, ways_of in INSIDE.items():
        rows += rows_of(what, interleave(ways_of(), given.rounds))
    text = "\n\n".join([where, table(["what", "way", "microseconds", "ratio"], rows)])
    print(text)
    if given.write:
        write_section("pieces", text, PAGE)


if __name__ == "__main__":
    worker() if "--worker" in sys.argv else main()
