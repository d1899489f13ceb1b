"""A rank: ``python -m aerun.ranks.worker RUN_FOLDER ORDER``, started by the agent.

The run folder contains the configuration. The order of the job (JSON) adds ``place``, the folder for outcomes and for
the file by which ranks find each other, the number of ``processes`` and of those that are ``local`` to a machine,
``console``, whether to log there, ``data``, a sweep's shared data file, and ``trial``, which a search may prune.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aerun.base.files import LogFile
from aerun.base.signals import Stopped, StopSignals
from aerun.errors import DivergedError
from aerun.runs.folder import LOG, LOG_FORMAT
from aerun.runs.outcome import write_outcome


class DeferredSignals(StopSignals):
    """Signals to a rank, which acts on them only when all ranks have agreed."""

    def interruptible(self) -> Any:
        """Do not interrupt: the other ranks would wait forever."""
        return contextlib.nullcontext()


def main() -> None:
    """Train, write the outcome, and exit without the interpreter's cleanup, in which gloo is known to abort."""
    folder, order, rank = Path(sys.argv[1]), json.loads(sys.argv[2]), int(os.environ["RANK"])
    stop = DeferredSignals("SIGUSR2")
    threading.Thread(target=_listen, args=(stop,), daemon=True).start()
    _set_up_output(folder, rank, order["console"])
    place, code = Path(order["place"]), 0
    try:
        with stop:
            _train(folder, rank, order, stop)
        if rank == 0:
            write_outcome(place, f"rank {rank}", None)
    except (DivergedError, Stopped) as error:  # all ranks raise these
        if rank == 0:
            write_outcome(place, f"rank {rank}", error)
    except BaseException as error:
        code = 1
        write_outcome(place, f"rank {rank}", error)
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def _listen(stop: DeferredSignals) -> None:
    """Receive the signals passed on by the job; exit at once when the job has died."""
    while number := os.read(0, 1):
        stop.request(number[0])
    os._exit(1)


def _set_up_output(folder: Path, rank: int, console: bool) -> None:
    """Let rank 0 log as the job does, and silence the Python output of all others."""
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    logging.raiseExceptions = False
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    if rank > 0:
        root.addHandler(logging.NullHandler())
        sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
        return
    file = LogFile(folder / LOG, delay=True)
    file.setFormatter(logging.Formatter(LOG_FORMAT))
    root.addHandler(file)
    if console:
        root.addHandler(logging.StreamHandler(sys.stdout))


def _train(folder: Path, rank: int, order: Mapping[str, Any], stop: DeferredSignals) -> None:
    """Build the run, which the job has checked, and train on a shard of every minibatch."""
    from aerun.config.parse import parse
    from aerun.dataset.shared import SharedLoader
    from aerun.ranks.group import Group, WholeBatch
    from aerun.runs.folder import read_choices, read_config
    from aerun.runs.run import load_start_weights, run_other_rank, run_rank_zero
    from aerun.runs.run_errors import translate_errors
    from aerun.training.build import build_parts, prepare
    from aerun.training.regime import regime_of

    config = read_config(folder)
    settings = parse(config, read_choices(folder))
    with translate_errors(settings, folder):
        device = prepare(settings, rank=int(os.environ["LOCAL_RANK"]))
        load = settings.dataset.load
        if order["data"] is not None:
            load = SharedLoader(Path(order["data"]), load)
        parts = build_parts(settings, load(device), device)
        load_start_weights(settings, parts, folder)
        group = Group(device, settings.trainer.batch_size, Path(order["place"]) / "meeting")
        parts.ranks = parts.shares = group
        parts.autoencoder.whole_batch = WholeBatch(group)
        regime = regime_of(settings, parts)
        number, _ = group.sync_stop(stop.requested, False)
        if number is not None:
            raise Stopped(number)
        if rank > 0:
            run_other_rank(settings, folder, regime, stop)
            return
        pruning = None
        if order["trial"] is not None:
            from aerun.sweep.optuna_study import Pruning

            pruning = Pruning(order["trial"])
        run_rank_zero(settings, config, folder, regime, stop, pruning)


if __name__ == "__main__":
    main()
