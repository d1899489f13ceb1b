"""The machine that figures were measured on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

LOAD = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0  # before anything is measured


def processor() -> str:
    """The processor's name, where Linux tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def cores() -> int:
    """How many the process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def last_core() -> int | None:
    """The one to bind measurements to, where the system can: the first often has the system's own work."""
    return max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def versions(packages: Sequence[str]) -> str:
    """Python's and those of the packages that are installed here."""
    found = [f"Python {platform.python_version()}"]
    for name in packages:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"no {name}")
    return ", ".join(found)


def circumstances(script: str, device: str, threads: str, packages: Sequence[str]) -> str:
    """A paragraph: the command, the day, the machine, the versions."""
    words = (
        word for word, before in zip(sys.argv[1:], ["", *sys.argv[1:]], strict=False) if "--json" not in (word, before)
    )
    words = (re.sub(r"(^|=)/.*", r"\1RUN", word) for word in words)
    command = " ".join(["python", f"benchmarks/{script}", *words])  # where things lie is nobody else's matter
    place = f"{processor()}, {cores()} cores, {threads}"
    if device.startswith("cuda"):
        import torch

        place = f"{torch.cuda.get_device_name()}; {place}"
    return f"`{command}`, {date.today()}, {place}; load average before {LOAD:.1f}. {versions(packages)}."
