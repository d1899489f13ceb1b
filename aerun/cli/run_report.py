"""The report that ``train`` and ``evaluate`` print at the end."""

from __future__ import annotations

import math
import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aerun.errors import visible
from aerun.metrics.declared import baseline_labels, image_values

LEAST_LEAD = 0.0005  # of PCA's error, below which neither is better


def print_summary(summary: Mapping[str, Any], folder: Path) -> None:
    """Print ``format_summary``."""
    print(f"\n{format_summary(summary, folder)}")


def format_summary(summary: Mapping[str, Any], folder: Path) -> str:
    """The test error with its baselines, the numbers of protocols, and, if the run has event files, the command that
    opens TensorBoard."""
    relative = os.path.relpath(folder)
    shown = visible(str(folder) if relative.startswith("..") else relative)
    lines = [f"{'test error':<36}{'MSE per pixel':>16}{'PSNR (dB)':>12}"]
    for text, mse, psnr in error_rows(summary):
        number = f"{mse:.6f}" if mse < 1e4 else f"{mse:.6g}"
        lines.append(f"{text:<36}{number:>16}" + ("" if psnr is None else f"{psnr:12.2f}"))
    if not {"pca/mse", "linear/mse"} & summary["baselines"].keys():
        size, values = summary.get("code_size"), image_values(summary)
        is_larger = size is not None and values is not None and size >= values
        reason = f"the code has {size} values, an image {values}" if is_larger else "too slow for images of this size"
        lines.append(f"(no PCA{'' if is_larger else f' of {size} components'}: {reason})")
    lines += _note_of_pca(summary, shown)
    lines += protocol_lines(summary["test"], summary.get("protocols", {}), summary.get("unanswered", {}))
    rate = summary.get("images_per_second")
    speed = f", {rate:,.0f} images/s" if rate else ""
    installed = Path(sys.executable).with_name("tensorboard")
    board = "tensorboard" if shutil.which("tensorboard") or not installed.exists() else os.path.relpath(installed)
    lines += ["", f"best epoch {summary.get('best_epoch')} of {summary['epochs']}{speed}"]
    lines.append(f"run folder   {shown}")
    if any(folder.glob("events.out.tfevents.*")):
        lines.append(f"look at it   {board} --logdir {shlex.quote(shown)}")
    return "\n".join(lines)


def _note_of_pca(summary: Mapping[str, Any], shown: str) -> list[str]:
    """A line if PCA, which gets the same clean inputs, reconstructs better."""
    ours, pca = summary["test"].get("mse"), summary["baselines"].get("pca/mse")
    size, values = summary.get("code_size"), image_values(summary)
    if ours is None or pca is None or "input_psnr" in summary["test"] or (size and values and size >= values):
        return []
    if not ours > (1 + LEAST_LEAD) * pca > 0 or "bits" in summary["test"]:  # indices are smaller than components
        return []
    more = f"{ours / pca:.1f} times its error" if ours > 2 * pca else f"{ours / pca - 1:.1%} more error"
    return [f"PCA with codes of the same size is better: the autoencoder has {more}; aerun-doctor {shlex.quote(shown)}"]


def error_rows(summary: Mapping[str, Any]) -> list[tuple[str, float, float | None]]:
    """The autoencoder, its noisy input and each baseline: name, MSE per pixel, and PSNR in dB if known."""
    rows = [("autoencoder", "mse", "psnr", summary["test"])]
    rows += [
        (text, f"{key}/mse", f"{key}/psnr", summary["baselines"]) for key, text in baseline_labels(summary).items()
    ]
    found = [(text, values[mse], values.get(psnr)) for text, mse, psnr, values in rows if mse in values]
    pooled = summary["test"].get("input_psnr_pooled")
    if pooled is not None:  # of targets in [0,1], to which the noisy input is clipped
        found.insert(1, ("noisy input", 10 ** (-pooled / 10), summary["test"]["input_psnr"]))
    return found


def print_protocols(
    numbers: Mapping[str, float], protocols: Mapping[str, Sequence[str]], failed: Mapping[str, str]
) -> None:
    """Print ``protocol_lines``."""
    for line in protocol_lines(numbers, protocols, failed):
        print(line)


def protocol_lines(
    numbers: Mapping[str, float], protocols: Mapping[str, Sequence[str]], failed: Mapping[str, str]
) -> list[str]:
    """One line for each number of each protocol, then one line with the reason for each protocol that failed."""
    lines = ["", f"{'protocol':<20}{'number':<36}{'value':>12}"] if protocols else []
    for protocol, names in protocols.items():
        for name in names:
            lines.append(f"{protocol:<20}{name:<36}{numbers.get(name, math.nan):>12.6g}")
            protocol = ""
    return lines + [f"protocol.{protocol}: {reason}" for protocol, reason in failed.items()]
