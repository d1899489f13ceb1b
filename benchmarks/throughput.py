"""Training images per second: aerun, a bare loop, the usual loop, pythae and Lightning, and what the arithmetic allows.

    python benchmarks/throughput.py                                   # all of it, about a quarter of an hour
    python benchmarks/throughput.py --models fc --batches 512 --only aerun,bare
    python benchmarks/throughput.py --device cuda

Every contestant trains the same layers with the same loss, Adam and batch size in a process of its own, on one core
with one thread, and they are asked in turn. pythae and Lightning take part where they are installed:
``pip install -e '.[bench]'``. A run over all of them writes its section of docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import importlib
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.images import images_folder  # noqa: E402
from benchmarks.machine import circumstances, last_core  # noqa: E402
from benchmarks.page import write_section  # noqa: E402
from benchmarks.rounds import interleave  # noqa: E402
from benchmarks.throughput_report import LEGEND, report  # noqa: E402
from benchmarks.workers import Absent, Worker, serve  # noqa: E402

MODELS = ["fc", "fc_deep", "big", "conv", "conv_fc", "vae"]
BATCHES = [64, 512]
# name -> module of benchmarks/contestants and what its prepare() gets in addition to the task
CONTESTANTS: dict[str, tuple[str, dict[str, bool]]] = {
    "bound": ("bound", {}),
    "bare": ("bare", {}),
    "aerun": ("ours", {}),
    "quiet": ("ours", {"quiet": True}),
    "bare_adam": ("bare", {"fused": False}),
    "loader": ("loader", {}),
    "pythae": ("pythae_peer", {}),
    "lightning_loader": ("lightning_peer", {}),
    "lightning_tensors": ("lightning_peer", {"tensors": True}),
}
SAME_STEPS = ("bare", "aerun", "quiet")  # long rounds, of as many steps each
WARM_UP = 10  # steps
Ask = Callable[[], dict[str, float]]


def answering(name: str, device: str) -> Callable[[dict[str, Any]], dict[str, float]]:
    """The side of the worker: train as asked, and tell what it took."""
    import torch

    from benchmarks.contestants.task import Task, Train

    torch.set_num_threads(1)
    # On a GPU all have aerun's arithmetic: full float32, and the fastest algorithm for a convolution.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    module, keywords = CONTESTANTS[name]

    @functools.lru_cache(maxsize=1)
    def prepared(model: str, batch: int) -> Train:
        prepare = importlib.import_module(f"benchmarks.contestants.{module}").prepare
        train: Train = prepare(Task(model, batch, device, images_folder()), **keywords)
        return train

    def answer(request: dict[str, Any]) -> dict[str, float]:
        round = prepared(request["model"], request["batch"])(request["steps"])
        return dataclasses.asdict(round)

    return answer


def calibrated(workers: dict[str, Worker], model: str, batch: int, seconds: float, short: float) -> dict[str, Ask]:
    """Each one's next round, after a warm-up that is not kept and that tells how many steps a round takes."""
    asks: dict[str, Ask] = {}
    common = 0
    for name, worker in workers.items():
        worker.ask(model=model, batch=batch, steps=WARM_UP)
        steps = common
        if name not in SAME_STEPS or not common:
            tried = worker.ask(model=model, batch=batch, steps=WARM_UP)
            length = seconds if name in SAME_STEPS else short
            steps = max(3, round(length * tried["images"] / tried["seconds"] / batch))
        if name in SAME_STEPS:
            common = steps
        asks[name] = functools.partial(worker.ask, model=model, batch=batch, steps=steps)
    return asks


def remove_absent(workers: dict[str, Worker], model: str, batch: int) -> dict[str, str]:
    """Take those out that lack something, and say what."""
    absent = {}
    for name in list(workers):
        try:
            workers[name].ask(model=model, batch=batch, steps=1)
        except Absent as error:
            print(f"{name} is left out: {error}", flush=True)
            absent[name] = str(error)
            del workers[name]
    return absent


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """All rounds: {"MODEL BATCH": {contestant: [round, ...]}}, and who could not take part."""
    results: dict[str, Any] = {}
    core = given.core if given.device == "cpu" else None
    with contextlib.ExitStack() as stack:
        cache = stack.enter_context(tempfile.TemporaryDirectory())
        environment = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "AERUN_DATA": cache}
        command = [sys.executable, __file__, "--device", given.device, "--worker"]
        workers = {
            name: stack.enter_context(Worker([*command, name], environment, core))
            for name in CONTESTANTS
            if name in given.only
        }
        absent = remove_absent(workers, given.models[0], given.batches[0])
        for model in given.models:
            for batch in given.batches:
                asks = calibrated(workers, model, batch, given.seconds, given.peer_seconds)
                rounds = interleave(asks, given.rounds)
                results[f"{model} {batch}"] = rounds
                speeds = {name: rounds[name][-1]["images"] / rounds[name][-1]["seconds"] for name in rounds}
                print(f"{model} {batch}: " + ", ".join(f"{n} {s:,.0f}" for n, s in speeds.items()), flush=True)
    return {"rounds": results, "absent": absent}


def names(allowed: list[str]) -> Callable[[str], list[str]]:
    """A reader of comma-separated names."""

    def read(text: str) -> list[str]:
        chosen = text.split(",")
        if strange := set(chosen) - set(allowed):
            raise argparse.ArgumentTypeError(f"{', '.join(strange)}: choose from {','.join(allowed)}")
        return chosen

    return read


def main() -> None:
    """Measure, print, and write docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--only", type=names(list(CONTESTANTS)), default=list(CONTESTANTS), metavar="NAME,NAME")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="of steps in a round of aerun and the bare loop")
    parser.add_argument("--peer-seconds", type=float, default=0.6, help="of steps in a round of the others")
    parser.add_argument("--device", default="cpu", help="cpu (one thread, one core) or cuda")
    parser.add_argument("--core", type=int, default=last_core(), help="the core they are bound to")
    parser.add_argument("--json", type=Path, help="write every round here")
    parser.add_argument(
        "--write", action=argparse.BooleanOptionalAction, help="docs/benchmarks.md; default: if complete"
    )
    parser.add_argument("--worker", choices=CONTESTANTS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        serve(answering(given.worker, given.device))
        return
    measured = measure(given)
    if given.json:
        given.json.write_text(json.dumps({**measured, "argv": sys.argv[1:]}, indent=1) + "\n")
    text = report(measured["rounds"], given.device)
    print(text)
    complete = (given.models, given.batches, given.only) == (MODELS, BATCHES, list(CONTESTANTS))
    if complete if given.write is None else given.write:
        on_gpu = given.device != "cpu"
        name, title = (
            ("throughput-gpu", "## Training speed on a GPU") if on_gpu else ("throughput", "## Training speed")
        )
        write_section(name, "\n\n".join([title, about(given, measured["absent"]), text]))


def about(given: argparse.Namespace, absent: dict[str, str]) -> str:
    """Where and how it was measured."""
    from benchmarks.contestants.task import EVALUATED, read_images

    images = len(read_images(images_folder())[0])
    where = "one core, one thread" if given.device == "cpu" else "one host thread"
    packages = ["torch", "torchvision", "numpy", "pythae", "lightning"]
    return (
        f"{circumstances('throughput.py', given.device, where, packages)} "
        f"{images:,} training images of Fashion-MNIST. {given.rounds} rounds, the contestants in turn, "
        f"each in its own process; a round is about {given.seconds:g} s of steps of the bare loop and of aerun, "
        f"{given.peer_seconds:g} s of the others, after a warm-up that is not counted. Evaluation ({EVALUATED:,} "
        f"images) and everything else is timed separately. big is 784-1000-500-250-30 and its mirror."
        + "".join(f" {name} is left out: {why}." for name, why in absent.items())
        + "\n"
        + LEGEND.rstrip()
    )


if __name__ == "__main__":
    main()
