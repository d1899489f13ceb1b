"""Starts the ranks of one machine and waits for them. It reports those that were killed; all others report their own
errors.

Nothing here listens: ranks find each other by a file in the folder for outcomes, which only the user can read.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aerun.errors import KilledError
from aerun.runs.outcome import write_outcome

POLL_S = 0.1
WORKER = "aerun.ranks.worker"


def main() -> None:
    """Start the ranks of this machine for a run folder and the order of ``launch``; exit with code 1 if one fails."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # a scheduler sends them to every process; the job passes them on
    folder, order = sys.argv[1], json.loads(sys.argv[2])
    words = [sys.executable, "-m", WORKER, folder, sys.argv[2]]
    ranks = {
        rank: subprocess.Popen(words, env=rank_environment(rank, order)) for rank in ranks_of_node(order, os.environ)
    }
    sys.exit(wait_for_ranks(ranks, Path(order["place"])))


def ranks_of_node(order: Mapping[str, Any], environment: Mapping[str, str]) -> Sequence[int]:
    """The ranks that this machine runs; srun numbers the machines, if there are several."""
    local = order["local"]
    node = int(environment["SLURM_PROCID"]) if local < order["processes"] else 0
    return range(node * local, (node + 1) * local)


def rank_environment(rank: int, order: Mapping[str, Any]) -> dict[str, str]:
    """The environment variables of a rank."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank % order["local"], "WORLD_SIZE": order["processes"]}
    return {**os.environ, **{name: str(number) for name, number in numbers.items()}}


def wait_for_ranks(ranks: Mapping[int, subprocess.Popen[bytes]], place: Path) -> int:
    """Wait until all ranks have ended, and report at once each that was killed. Returns 1 if one has failed, else 0."""
    running = dict(ranks)
    while running:
        for rank, process in list(running.items()):
            code = process.poll()
            if code is None:
                continue
            del running[rank]
            if code < 0:
                name = signal.Signals(-code).name
                why = "; often the machine is out of memory" if name == "SIGKILL" else ""
                write_outcome(place, f"agent of rank {rank}", KilledError(f"rank {rank} was killed by {name}{why}"))
        time.sleep(POLL_S)
    return int(any(process.returncode for process in ranks.values()))


if __name__ == "__main__":
    main()
