"""Starts the ranks of one machine and waits for them, like ``python -m torch.distributed.run``.

Its error messages are suppressed: ranks report their own errors, except for those that were killed.
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
from aerun.runs.outcome import write_outcome


def main() -> None:
    """The last two arguments are the run folder and the order of ``launch`` to the ranks."""
    for number in (signal.SIGUSR1, signal.SIGUSR2):  # a scheduler sends them to every process; the job passes them on
        signal.signal(number, signal.SIG_IGN)
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)
    try:
        run.main(sys.argv[1:])
    except ChildFailedError as error:
        place = Path(json.loads(sys.argv[-1])["place"])
        # After a failure torch ends the other ranks by SIGTERM, and lists them as failures too.
        causes = {rank: failure for rank, failure in error.failures.items() if failure.exitcode != -signal.SIGTERM}
        for rank, failure in (causes or error.failures).items():
            if failure.exitcode < 0:
                name = signal.Signals(-failure.exitcode).name
                why = "; often the machine is out of memory" if name == "SIGKILL" else ""
                write_outcome(place, f"agent of rank {rank}", KilledError(f"rank {rank} was killed by {name}{why}"))
        sys.exit(1)


if __name__ == "__main__":
    main()
