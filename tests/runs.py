"""Run folders written by hand, for tools that read nothing but their files."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import yaml

CLASSES = {"fc": "FullyConnected", "conv": "Convolutional", "none": "NoSparsity", "topk": "TopK"}


def write_run(
    folder: Path,
    mse: float | None = None,
    *,
    model: str = "fc",
    sparsity: str = "none",
    lr: float = 0.001,
    seed: int = 0,
    state: str = "finished",
    error: str | None = None,
    losses: tuple[float, ...] = (0.3, 0.2, 0.1),
    pca: float = 0.02,
    code_size: int = 64,
    summary: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
) -> Path:
    """A run folder as the README describes it; a summary only where there is an error ``mse``."""
    folder.mkdir(parents=True, exist_ok=True)
    code = {"_target_": f"aerun.sparsity.{CLASSES[sparsity]}", **({"k": 16} if sparsity == "topk" else {})}
    settings = {
        "model": {"_target_": f"aerun.model.{CLASSES[model]}", **({"code_size": 64} if model == "fc" else {})},
        "sparsity": code,
        "optimizer": {"_target_": "aerun.optimizer.Adam", "lr": lr, "betas": [0.9, 0.999]},
        "trainer": {"_target_": "aerun.trainer.Joint", "epochs": 3},
        "seed": seed,
        "resume": None,
        **(config or {}),
    }
    overrides = [f"model={model}", f"sparsity={sparsity}", f"optimizer.lr={lr}", f"seed={seed}"]
    choices = {"model": model, "sparsity": sparsity, "optimizer": "adam", "trainer": "joint", "experiment": "None"}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    (folder / "overrides.yaml").write_text(yaml.safe_dump({"overrides": overrides, "choices": choices}))
    status = {"state": state, "error": error, "traceback": error and f"Traceback:\n  <module>\n{error}"}
    (folder / "status.json").write_text(json.dumps(status | {"host": platform.node(), "process": 1}))
    lines = [{"epoch": i, "step": i, "train/loss": v, "validation/loss": v} for i, v in enumerate(losses, 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if mse is not None:
        content = {
            "test": {"mse": mse, "psnr": 20.0, "output_spread": 0.5},
            "baselines": {"mean_image/mse": 0.8, "pca/mse": pca},
            **{"epochs": 3, "steps": 3, "code_size": code_size, "train_seconds": 2.0},
            **(summary or {}),
        }
        (folder / "summary.json").write_text(json.dumps(content))
    return folder


def write_sweep(folder: Path, jobs: dict[str, dict[str, Any]]) -> None:
    """A sweep.json that names jobs by their folders, with what varied."""
    content = {
        name: {"overrides": [f"{key}={value}" for key, value in values.items()], "values": values, "hash": "0" * 8}
        for name, values in jobs.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sweep.json").write_text(json.dumps({"name": folder.name, "command": ["train.py"], "jobs": content}))
