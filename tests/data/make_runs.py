"""Write the kit of small run folders, and what the present code says of them: ``python tests/data/make_runs.py``.

Only runs that are in ``kit.py`` and not yet in the kit are written. A run folder must open, evaluate and resume for
ever, so no run is written again when the code changes. ``--out FOLDER`` writes another kit.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from kit import EXPECTED, EXPORTED, HERE, IMAGES, KIT, OWN, PICTURES, PLACE, RUNS, Run, copy_kit
from measure_runs import ROOT, call, environment, machine, train

KEPT = ("config.yaml", "overrides.yaml", "environment.json", "status.json", "summary.json", "metrics.jsonl")


def draw_images(path: Path, count: int = 96, side: int = 12) -> None:
    """Grey images of four kinds, with the kind as label: a spot, an upright bar, a slanting bar, a box."""
    random, (y, x) = np.random.default_rng(0), np.mgrid[:side, :side]
    images, labels = [], np.arange(count) % 4
    for label in labels:
        (u, v), size, angle = random.uniform(3, side - 3, 2), random.uniform(1.2, 2.5), random.uniform(0, 3.14)
        across = (x - u) * np.cos(angle) + (y - v) * np.sin(angle)
        kinds = (
            np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * size**2)),
            1.0 * (abs(x - u) < size),
            np.exp(-(across**2) / size**2),
            1.0 * ((abs(x - u) < size + 1) & (abs(y - v) < size + 1)),
        )
        images.append(np.round(255 * random.uniform(0.6, 1) * kinds[label]).astype(np.uint8))
    np.savez_compressed(path, images=np.stack(images)[:, None], labels=labels)


def draw_pictures(folder: Path, count: int = 14, side: int = 24) -> None:
    """Small coloured pictures in two folders, which are their labels."""
    from PIL import Image

    random, (y, x) = np.random.default_rng(1), np.mgrid[:side, :side] / side
    for index in range(count):
        phases, turns = random.uniform(0, 6.3, 3), random.uniform(1, 7, (3, 2))
        waves = [np.sin(turn[0] * x + turn[1] * y + phase) for turn, phase in zip(turns, phases, strict=True)]
        place = folder / ("even", "odd")[index % 2] / f"{index:02}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.round(127.5 * (1 + np.stack(waves, 2))).astype(np.uint8)).save(place, optimize=True)


@contextlib.contextmanager
def stop_after(updates: int | None) -> Iterator[None]:
    """Send this process SIGTERM in its so many-th update; None: never."""
    backward, seen = torch.Tensor.backward, 0

    def counting(*args: Any, **keys: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == updates:
            signal.raise_signal(signal.SIGTERM)
        backward(*args, **keys)

    torch.Tensor.backward = counting  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.Tensor.backward = backward  # type: ignore[method-assign]


def write(name: str, run: Run, kit: Path) -> None:
    """Train one run, to its end or not, and make its folder small and free of this machine."""
    folder = kit / name
    with stop_after(run.stop_after):
        code = train(run, kit, folder)
    ends = json.loads((folder / "status.json").read_text())["state"]
    if ends != run.ends:
        raise SystemExit(f"{name}: {ends}, not {run.ends} (exit code {code})")
    prune(folder)
    scrub(folder, kit)
    leave_out(folder / "config.yaml", run.without)


def prune(folder: Path) -> None:
    """Delete what is not needed to open, evaluate, resume or diagnose a run."""
    for path in folder.iterdir():
        if path.is_dir() and path.name != "checkpoints":
            shutil.rmtree(path)
        elif path.is_file() and path.name not in KEPT:
            path.unlink()
    for path in (folder / "checkpoints").glob("*"):
        if path.name == "previous.safetensors":
            path.unlink()


def scrub(folder: Path, kit: Path) -> None:
    """Put PLACE for the kit's folder, and forget who wrote it where."""
    for name in KEPT:
        path = folder / name
        if not path.exists():
            continue
        text = path.read_text().replace(str(kit), PLACE)
        if name in ("environment.json", "status.json"):
            content = json.loads(text)
            forgotten = {"host": "somewhere", "platform": "Linux", "command": [], "traceback": None}
            content |= {key: value for key, value in forgotten.items() if key in content}
            text = json.dumps(content, indent=2) + "\n"
        path.write_text(text.replace(f"--config-dir={OWN / 'conf'}", "--config-dir=own/conf"))


def leave_out(path: Path, keys: tuple[str, ...]) -> None:
    """Delete dotted keys from a configuration."""
    if not keys:
        return
    config = yaml.safe_load(path.read_text())
    for key in keys:
        node, *parents = config, *key.split(".")[:-1]
        for parent in parents:
            node = node[parent]
        del node[key.rpartition(".")[2]]
    path.write_text(yaml.safe_dump(config, sort_keys=False))


def measure(kit: Path, scratch: Path, names: list[str]) -> dict[str, Any]:
    """What the present code says of a copy of the kit, by the same process as the test starts."""
    copy_kit(kit, scratch / "kit")
    out = scratch / "measured.json"
    words = [sys.executable, str(HERE / "measure_runs.py"), str(scratch / "kit"), str(out), *names]
    subprocess.run(words, check=True, env=environment(scratch), cwd=scratch / "kit", stderr=subprocess.DEVNULL)
    runs: dict[str, Any] = json.loads(out.read_text())
    for name, found in runs.items():
        if "error" in found:
            raise SystemExit(f"{name}: {found['error']}")
        if "trained again" in found:
            whole = found["resumed"] if KIT[name].ends == "stopped" else found["written"]
            if whole["weights"] != found["trained again"]["weights"]:
                raise SystemExit(f"{name}: trained a second time it has other weights")
    return runs


def export(name: str, kit: Path, scratch: Path) -> None:
    """Write an exported model of a run of the kit."""
    copy_kit(kit, scratch / name)
    call("aerun-export", str(scratch / name / EXPORTED[name]), str(kit / name), "--format", "safetensors")
    scrub(kit / name, scratch / name)


def main() -> None:
    """Write what the kit lacks, then measure a copy of it."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--out", type=Path, default=RUNS, help="the kit's folder")
    kit = words.parse_args().out.absolute()
    expected = EXPECTED if kit == RUNS else kit.with_suffix(".json")
    content = json.loads(expected.read_text()) if expected.exists() else {"machine": machine(), "runs": {}}
    if content["machine"] != machine():
        raise SystemExit(f"{expected}: was written on another machine, or with other libraries: {content['machine']}")
    new = [name for name in (*KIT, *EXPORTED) if not (kit / name).exists()]
    kit.mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, str(OWN))
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        os.environ.update(environment(scratch))
        if not (kit / IMAGES).exists():
            draw_images(kit / IMAGES)
            draw_pictures(kit / PICTURES)
        for name in new:
            print(name, flush=True)
            export(name, kit, scratch) if name in EXPORTED else write(name, KIT[name], kit)
        content["runs"] |= measure(kit, scratch, new)
    expected.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
