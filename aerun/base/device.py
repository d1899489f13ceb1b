"""Devices, CPU threads, and the machines of a Slurm job."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

from aerun.base.arguments import whole_number
from aerun.errors import ConfigError


def choose_device(name: str, key: str = "trainer.device") -> torch.device:
    """Return the device named by ``key``; ``auto`` is the fastest available one.

    ConfigError for a device that this machine does not have, and for a name that is not a device.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, here in available.items() if here))
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"{key}={name}: is not a device; allowed are auto, {', '.join(available)}") from error
    missing_card = device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
    if not available.get(device.type) or missing_card:
        here = ", ".join(kind for kind, is_here in available.items() if is_here)
        raise ConfigError(f"{key}={name}: is not available; this machine has {here} (torch {torch.__version__})")
    return device


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished all queued work."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def default_threads() -> int:
    """Return the default number of CPU threads: $OMP_NUM_THREADS, else the cores that the process may use.

    Cores are counted, not hardware threads: the two threads of a core share its arithmetic units. The quota of a
    container is an upper limit.
    """
    if asked := whole_number(os.environ.get("OMP_NUM_THREADS", "")):
        return asked
    return max(1, int(min(physical_cores(), processor_quota())))


def physical_cores(topology: Path = Path("/sys/devices/system/cpu")) -> int:
    """Return the number of cores that the process may use, or of hardware threads if cores are unknown."""
    usable = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else range(os.cpu_count() or 1)
    cores = set()
    for number in usable:
        try:
            cores.add((topology / f"cpu{number}" / "topology" / "thread_siblings_list").read_text())
        except OSError:
            return len(usable)
    return len(cores)


def processor_quota(groups: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> float:
    """Return how many processors the control group (version 2) of the process and its parents allow; else infinity."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return math.inf
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    folder = groups / own.lstrip("/")
    quota = math.inf
    for place in (folder, *folder.parents):
        try:
            allowed, period = (place / "cpu.max").read_text().split()
            quota = min(quota, math.inf if allowed == "max" else float(allowed) / float(period))
        except (OSError, ValueError):
            pass
        if place == groups:
            break
    return quota


def node_count(environment: Mapping[str, str]) -> int:
    """Return the number of machines of the job: those of the surrounding Slurm step or job, else 1."""
    names = ("SLURM_STEP_NUM_NODES", "SLURM_JOB_NUM_NODES")
    return next((count for name in names if (count := whole_number(environment.get(name, "")))), 1)


def ranks_per_node(processes: int, environment: Mapping[str, str]) -> int:
    """Return the number of ranks per machine. ConfigError if they cannot be distributed evenly."""
    machines = node_count(environment) if processes > 1 else 1
    if processes % machines:
        raise ConfigError(f"trainer.processes={processes}: must be a multiple of the Slurm job's {machines} nodes")
    return processes // machines


def choose_rank_device(name: str, processes: int, environment: Mapping[str, str]) -> torch.device:
    """Like ``choose_device``, for several ranks. ConfigError if there are fewer devices than ranks."""
    device, local = choose_device(name), ranks_per_node(processes, environment)
    if processes > 1 and device.type != "cpu":
        there = torch.cuda.device_count()
        if device.type != "cuda" or local > there:
            raise ConfigError(
                f"trainer.processes={processes}: each process needs its own CUDA device, and this machine has {there}; "
                "or use trainer.device=cpu"
            )
    return device
