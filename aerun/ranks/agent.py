"""Starts the ranks of one machine and waits for them, as ``python -m torch.distributed.run`` does with these words.

What that says of a rank's failure is left out: the rank has told it itself, but for one that was killed.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
from pathlib import Path

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from aerun.errors import KilledError
from aerun.runs.outcome import record


def main() -> None:
    """The last two words are the run folder and what ``launch`` has to say to the ranks."""
    for name in ("SIGUSR1", "SIGUSR2"):  # a scheduler sends them to every process; the job passes them on
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)
    try:
        run.main(sys.argv[1:])
    except ChildFailedError as error:
        place = Path(json.loads(sys.argv[-1])["place"])
        for rank, failure in error.failures.items():
            if failure.exitcode < 0:
                name = signal.Signals(-failure.exitcode).name
                why = "; that is often the lack of memory" if name == "SIGKILL" else ""
                record(place, f"agent of rank {rank}", KilledError(f"rank {rank} was killed by {name}{why}"))
        sys.exit(1)


if __name__ == "__main__":
    main()
