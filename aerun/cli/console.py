"""What the command line says: summaries, and errors in a line or two."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aerun.config.explain import composed
from aerun.config.settings import GROUPS
from aerun.errors import ConfigError

FLAGS = {
    *("--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--resolve", "--package", "-p", "--run", "-r"),
    *("--multirun", "-m", "--shell-completion", "-sc", "--config-path", "-cp", "--config-name", "-cn"),
    *("--config-dir", "-cd", "--experimental-rerun", "--info", "-i"),
}


# Those that take the next word as their value.
VALUED = {
    *("--cfg", "-c", "--package", "-p", "--shell-completion", "-sc", "--config-path", "-cp", "--config-name", "-cn"),
    *("--config-dir", "-cd", "--experimental-rerun", "--info", "-i"),
}


def flags_first(words: list[str]) -> list[str]:
    """The same command with its flags before its overrides: Hydra refuses overrides on both sides of a flag."""
    flags: list[str] = []
    others: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        is_flag = word.partition("=")[0] in FLAGS
        (flags if is_flag else others).append(word)
        if word in VALUED and rest and "=" not in rest[0] and not rest[0].startswith("-"):
            flags.append(rest.pop(0))
    return flags + others


def reject_unknown_flags(words: list[str]) -> None:
    """ConfigError for a flag that is none of Hydra's: people of other tools try ``--epochs 5``."""
    for word in words:
        flag = word.partition("=")[0]
        if re.fullmatch(r"--?[a-z][\w-]*", flag) and flag not in FLAGS:
            name = flag.lstrip("-").replace("-", "_")
            raise ConfigError(f"{flag}: is no flag; settings are written key=value, such as {suggest_override(name)}")


def suggest_override(name: str) -> str:
    """An override that whoever typed the flag ``--name`` may have meant."""
    config = composed([])
    inner = (f"{group}.{key}=…" for group in GROUPS for key in config[group] if key == name)
    return f"{name}=…" if name in config else next(inner, "trainer.epochs=5")


def print_summary(summary: Mapping[str, Any], folder: Path) -> None:
    """The test error with its baselines, and where to look."""
    print(f"\n{format_summary(summary, folder)}")


def format_summary(summary: Mapping[str, Any], folder: Path) -> str:
    """The test error with its baselines, what protocols found, and where to look."""
    shown = os.path.relpath(folder)
    shown = str(folder) if shown.startswith("..") else shown
    lines = [f"{'test error':<36}{'MSE per pixel':>16}{'PSNR (dB)':>12}"]
    for text, mse, psnr in error_rows(summary):
        number = f"{mse:.6f}" if mse < 1e4 else f"{mse:.6g}"
        lines.append(f"{text:<36}{number:>16}" + ("" if psnr is None else f"{psnr:12.2f}"))
    if not {"pca/mse", "linear/mse"} & summary["baselines"].keys():
        lines.append(f"(PCA of {summary['code_size']} components of images this large would take too long)")
    lines += protocol_lines(summary["test"], summary.get("protocols", {}), summary.get("unanswered", {}))
    rate = summary["images_per_second"]
    speed = f", {rate:,.0f} images/s" if rate else ""
    beside = Path(sys.executable).with_name("tensorboard")
    board = "tensorboard" if shutil.which("tensorboard") or not beside.exists() else os.path.relpath(beside)
    lines += ["", f"best epoch {summary['best_epoch']} of {summary['epochs']}{speed}"]
    return "\n".join([*lines, f"run folder   {shown}", f"look at it   {board} --logdir {shlex.quote(shown)}"])


def error_rows(summary: Mapping[str, Any]) -> list[tuple[str, float, float | None]]:
    """The autoencoder and each baseline: name, MSE per pixel, PSNR in dB where it is known."""
    noisy = "linear/mse" in summary["baselines"]
    draws = summary["baselines"].get("linear/draws")  # where it is an estimate
    names = {
        "mean_image": "mean image",
        "pca": f"PCA, {summary['code_size']} components" + (", clean input" if noisy else ""),
        "linear": "best linear map" + (f", {draws:g} draws" if draws else ""),
    }
    rows = [("autoencoder", "mse", "psnr", summary["test"])]
    rows += [(text, f"{key}/mse", f"{key}/psnr", summary["baselines"]) for key, text in names.items()]
    return [(text, values[mse], values.get(psnr)) for text, mse, psnr, values in rows if mse in values]


def print_protocols(
    numbers: Mapping[str, float], protocols: Mapping[str, Sequence[str]], unanswered: Mapping[str, str]
) -> None:
    """What each protocol found, a line a number; in one line why one found nothing."""
    for line in protocol_lines(numbers, protocols, unanswered):
        print(line)


def protocol_lines(
    numbers: Mapping[str, float], protocols: Mapping[str, Sequence[str]], unanswered: Mapping[str, str]
) -> list[str]:
    """What ``print_protocols`` prints."""
    lines = ["", f"{'protocol':<20}{'number':<36}{'value':>12}"] if protocols else []
    for protocol, names in protocols.items():
        for name in names:
            lines.append(f"{protocol:<20}{name:<36}{numbers[name]:>12.6g}")
            protocol = ""
    return lines + [f"protocol.{protocol}: {why}" for protocol, why in unanswered.items()]
