"""What the present code says of the kit's runs, by its public doors alone: the console commands and ``aerun.load``.

``python measure_runs.py KIT OUT.json NAME...`` writes into KIT, which must be a copy. All commands are called in this
one process: a hundred processes would take minutes.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import json
import os
import platform
import shutil
import sys
import tomllib
import traceback
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kit import EXPORTED, HERE, KIT, OWN, PLACE, Run

ROOT = HERE.parent.parent
LIBRARIES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "pillow")
SUMMARY = ("test", "baselines", "protocols", "best_epoch", "best_loss", "monitored", "epochs", "steps", "code_size")
ALSO = ("parameters", "dataset_checksum", "verdicts", "stages")


def environment(scratch: Path) -> dict[str, str]:
    """The environment variables to measure with: one thread, this checkout's code, no cache but an empty one."""
    path = [str(ROOT), str(OWN), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    own = {"OMP_NUM_THREADS": "1", "AERUN_DATA": str(scratch / "data"), "PYTHONPATH": os.pathsep.join(path)}
    return {**os.environ, **own}


def machine() -> dict[str, Any]:
    """What the last digits depend on."""
    import torch

    about = dict.fromkeys(("vendor_id", "cpu family", "model", "model name"), "")
    if Path("/proc/cpuinfo").exists():
        lines = (line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines())
        about |= {key.strip(): value.strip() for key, _, value in lines if key.strip() in about}
    return {
        "processor": [platform.machine(), *about.values(), torch.backends.cpu.get_cpu_capability()],
        "threads": 1,
        "versions": {name: version(name) for name in LIBRARIES},
    }


def console(name: str) -> Callable[[], None]:
    """The function behind a console command, as pyproject.toml of this checkout names it."""
    commands = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = commands[name].partition(":")
    main: Callable[[], None] = getattr(importlib.import_module(module), function)
    return main


def call(name: str, *words: str) -> tuple[int, str]:
    """Exit code and standard output of a console command, called in this process."""
    before, out = sys.argv, io.StringIO()
    sys.argv = [name, *words]
    try:
        with contextlib.redirect_stdout(out):
            console(name)()
        code: Any = 0
    except SystemExit as leaving:
        code = leaving.code
    finally:
        sys.argv = before
    return int(code or 0), out.getvalue()


def train(run: Run, kit: Path, folder: Path) -> int:
    """Train ``run`` from its beginning into ``folder``; the exit code."""
    words = [word.replace(f"{PLACE}/", f"{kit}/") for word in run.overrides()]
    return call("aerun-train", f"--config-dir={OWN / 'conf'}", *words, f"hydra.run.dir={folder}")[0]


def resume(run: Run, folder: Path, epochs: int | None = None) -> int:
    """Continue the run in ``folder``, up to so many epochs; the exit code."""
    trusted = [] if run.trusted is None else [f"trusted_packages=[{run.trusted}]"]
    longer = [] if epochs is None else [f"trainer.epochs={epochs}"]
    return call("aerun-train", f"resume={folder}", *longer, *trusted)[0]


def weights(folder: Path) -> dict[str, str]:
    """SHA-256 of the model's tensors, their names included, in each checkpoint but that before the last."""
    from safetensors.torch import load_file

    result = {}
    for path in sorted((folder / "checkpoints").glob("*.safetensors")):
        digest = hashlib.sha256()
        for name, tensor in sorted(load_file(path).items()):
            if name.startswith("model."):
                digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
                digest.update(tensor.contiguous().numpy().tobytes())
        result[path.stem] = digest.hexdigest()
    result.pop("previous", None)
    return result


def state(folder: Path) -> dict[str, Any]:
    """How a run stands: its status, its summary but for times, and its weights."""
    summary = folder / "summary.json"
    content = json.loads(summary.read_text()) if summary.exists() else {}
    return {
        "state": json.loads((folder / "status.json").read_text())["state"],
        "summary": {key: content[key] for key in (*SUMMARY, *ALSO) if key in content},
        "weights": weights(folder),
    }


def evaluated(run: Run, folder: Path) -> dict[str, Any]:
    """The numbers of ``aerun-evaluate``, and whether it says that they agree with the run's summary."""
    trusted = [] if run.trusted is None else [f"trusted_packages=[{run.trusted}]"]
    code, _ = call("aerun-evaluate", f"run={folder}", *trusted)
    numbers = json.loads((folder / "evaluation.json").read_text())
    return {"agrees": code == 0, "test": numbers["test"], "baselines": numbers["baselines"]}


def diagnosed(run: Run, folder: Path, *words: str) -> list[list[str]]:
    """Name and severity of the doctor's verdicts."""
    trusted = [] if run.trusted is None else ["--trust", run.trusted]
    _, out = call("aerun-doctor", "--json", str(folder), "--device", "cpu", *trusted, *words)
    return [[verdict["name"], verdict["severity"]] for verdict in json.loads(out)["verdicts"]]


def opened(run: Run, folder: Path) -> dict[str, Any]:
    """What ``aerun.load`` gives, on fixed images: shapes, digests and moments of codes and reconstructions."""
    import numpy as np

    import aerun

    model = aerun.load(folder, trusted_packages=[run.trusted] if run.trusted else [])
    images = np.random.default_rng(0).random((5, *model.input_shape), dtype=np.float32)
    codes = model.encode(images)
    result = {}
    for name, values in ("codes", codes), ("decoded", model.decode(codes)), ("outputs", model.reconstruct(images)):
        numbers = values.numpy().astype(np.float64)
        result[name] = {
            "shape": list(values.shape),
            "sha256": hashlib.sha256(values.contiguous().numpy().tobytes()).hexdigest(),
            "mean": float(numbers.mean()),
            "square": float((numbers**2).mean()),
        }
    return result


def measure(name: str, kit: Path) -> dict[str, Any]:
    """Everything about one run. Its folder keeps its weights; what trains further is a copy."""
    run, folder = KIT[EXPORTED.get(name, name)], kit / name
    if name in EXPORTED:
        return {"opened": opened(run, folder), "evaluated": evaluated(run, folder), "doctor": diagnosed(run, folder)}
    result: dict[str, Any] = {
        "doctor": diagnosed(run, folder),
        "doctor without data": diagnosed(run, folder, "--no-data"),
        "written": state(folder),
    }
    if (folder / "checkpoints" / "best.safetensors").exists():
        result["opened"] = opened(run, folder)
    if run.ends == "finished":
        result["evaluated"] = evaluated(run, folder)
    if run.ends == "diverged":
        return result
    again = kit / f"{name}.again"
    result["trained again"] = {"exit code": train(run, kit, again), **state(again)}
    longer = shutil.copytree(folder, kit / f"{name}.longer")
    if run.ends == "stopped":
        result["resumed"] = {"exit code": resume(run, longer), **state(longer)}
    elif run.epochs is not None:
        result["longer"] = {"exit code": resume(run, longer, run.epochs + 1), **state(longer)}
    return result


def measured(names: list[str], kit: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each run's numbers; where something raised, its traceback."""
    for name in names:
        try:
            yield name, measure(name, kit)
        except Exception:
            yield name, {"error": traceback.format_exc()}


if __name__ == "__main__":
    place, out, *wanted = sys.argv[1:]
    Path(out).write_text(json.dumps(dict(measured(wanted, Path(place)))))
