"""Ranks as forked children of the test process, which has already imported torch, so that they start at once."""

from __future__ import annotations

import os
import pickle
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


def forked(count: int, function: Callable[[int], Any], folder: Path) -> list[Any]:
    """What ``function(rank)`` returns in each of so many ranks. AssertionError with the traceback of one that fails."""
    import torch._dynamo  # noqa: F401  # once, and not in each of them

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    children = []
    for rank in range(count):
        child = os.fork()
        if child == 0:
            os.environ.update(RANK=str(rank), WORLD_SIZE=str(count), MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
            _child(rank, function, folder)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    results = [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(count)]
    assert codes == [0] * count, "\n".join(str(result) for result in results)
    return results


def _child(rank: int, function: Callable[[int], Any], folder: Path) -> None:
    code = 1
    try:
        result = function(rank)
        code = 0
    except BaseException:
        result = traceback.format_exc()
    (folder / f"{rank}.pickle").write_bytes(pickle.dumps(result))
    sys.stderr.flush()
    os._exit(code)
