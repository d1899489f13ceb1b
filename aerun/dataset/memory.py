"""How much memory there is, and how much data need."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aerun.errors import DataError

if TYPE_CHECKING:
    import torch

    from aerun.dataset.data import Split

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def parse_bytes(text: int | str) -> int:
    """A number of bytes, or text such as ``500MB`` or ``1.5 GiB``. ValueError for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kmgt]i?)?b?", str(text).strip().lower())
    count = int(float(found[1]) * UNITS[found[2] or ""]) if found else 0
    if count < 1:
        raise ValueError(f"memory_limit={text}: must be a number of bytes, or one with a unit, such as 500MB or 2GiB")
    return count


def needed_bytes(splits: Sequence[tuple[Split, int]]) -> int:
    """Of so many rows of each part."""
    return sum(
        count * math.prod(images.shape[1:]) * images.dtype.itemsize
        for split, count in splits
        for images in {id(t): t for t in (split.inputs, split.targets)}.values()
    )


def free_memory(device: torch.device) -> float:
    """Bytes that are free on the device.

    On the CPU tensors may be in memory already; what is needed is room for the parts that are selected from them.
    """
    import torch

    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_memory()


def shapes_of(splits: Sequence[tuple[Split, int]]) -> str:
    """Of so many rows of each part, for a message."""
    return " + ".join(f"{count}x{'x'.join(map(str, split.inputs.shape[1:]))}" for split, count in splits)


def check_room(needed: int, shapes: str, device: str = "cpu", free: float | None = None) -> None:
    """DataError unless ``needed`` bytes are free (on this machine, unless told)."""
    free = available_memory() if free is None else free
    if needed > free:
        raise DataError(
            f"the data ({shapes}) take {needed / 2**30:.2f} GiB, {device} has {free / 2**30:.2f} GiB free: "
            "dataset.memory_limit=1GiB, say, reads them in chunks; or use dataset.train_limit, or smaller images"
        )


def available_memory() -> float:
    """Bytes that Linux says can be had without swapping; unlimited where it cannot be asked."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return math.inf
    return next((float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), math.inf)
