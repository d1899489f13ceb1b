"""How much memory the data need, and how much is free."""

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
    """Parse a number of bytes, or text such as ``500MB`` or ``1.5 GiB``. ValueError for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kmgt]i?)?b?", str(text).strip().lower())
    count = int(float(found[1]) * UNITS[found[2] or ""]) if found else 0
    if count < 1:
        raise ValueError(f"memory_limit={text}: must be a number of bytes, or have a unit, such as 500MB or 2GiB")
    return count


def needed_bytes(splits: Sequence[tuple[Split, int]]) -> int:
    """Return the bytes that the given numbers of rows of each part need."""
    return sum(
        count * math.prod(images.shape[1:]) * images.dtype.itemsize
        for split, count in splits
        for images in {id(t): t for t in (split.inputs, split.targets)}.values()
    )


def free_memory(device: torch.device) -> float:
    """Return the free bytes on the device.

    On the CPU the tensors may already be in memory; the parts selected from them are copies and need free memory.
    """
    import torch

    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_memory()


def format_shapes(splits: Sequence[tuple[Split, int]]) -> str:
    """Format the number of rows of each part and their shapes for a message, ``1000x1x28x28 + 100x1x28x28``."""
    return " + ".join(f"{count}x{'x'.join(map(str, split.inputs.shape[1:]))}" for split, count in splits)


def check_memory(needed: int, shapes: str, device: str = "cpu", free: float | None = None) -> None:
    """Raise DataError unless ``needed`` bytes are free; ``free`` defaults to the free memory of this machine."""
    free = available_memory() if free is None else free
    if needed > free:
        raise DataError(
            f"the data ({shapes}) need {needed / 2**30:.2f} GiB, but {device} has {free / 2**30:.2f} GiB free: "
            "read them in chunks with dataset.memory_limit=1GiB, or use dataset.train_limit or smaller images"
        )


def available_memory() -> float:
    """Return the bytes that Linux can provide without swapping; infinity on systems that do not report it."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return math.inf
    return next((float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), math.inf)
