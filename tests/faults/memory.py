"""Many runs in one process, as a serial grid makes them: what grows?"""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path
from typing import Any

from tests.faults.kills import SMALL, Compose

KINDS = [["model=fc"], ["model=vae", "noise=masking"], ["model=conv", "sparsity=lifetime"], ["model=fc_deep"]]


def resident() -> int:
    """Bytes of memory that the process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def campaign(compose: Compose, folder: Path, count: int) -> dict[str, Any]:
    """So many short runs one after the other; memory, open files and threads after the tenth and at the end."""
    from aerun.config.parse import parse
    from aerun.runs.run import run

    readings = []
    for number in range(count):
        overrides = [o for o in SMALL if "epochs" not in o and "limit" not in o]
        config = compose([*overrides, "trainer.epochs=1", "dataset.train_limit=100", *KINDS[number % len(KINDS)]])
        run(parse(config), config, folder / str(number))
        gc.collect()
        readings.append((resident(), len(list(Path("/proc/self/fd").iterdir())), threading.active_count()))
    (memory, files, threads), (memory_end, files_end, threads_end) = readings[9], readings[-1]
    return {
        "runs": count,
        "memory growth": memory_end / memory - 1,
        "open files": (files, files_end),
        "threads": (threads, threads_end),
    }
