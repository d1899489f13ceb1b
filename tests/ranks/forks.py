"""Ranks as forked children of the test process, which has already imported torch, so that they start at once."""

from __future__ import annotations

import os
import pickle
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aerun.runs.launch import LOOPBACK


def forked(count: int, function: Callable[[int], Any], folder: Path) -> list[Any]:
    """What ``function(rank)`` returns in each of so many ranks. AssertionError with the traceback of one that fails."""
    import torch._dynamo  # noqa: F401  # once, and not in each of them

    meeting = Path(tempfile.mkdtemp(dir=folder)) / "meeting"
    children = []
    for rank in range(count):
        child = os.fork()
        if child == 0:
            os.environ.update(RANK=str(rank), WORLD_SIZE=str(count), MEETING=str(meeting), GLOO_SOCKET_IFNAME=LOOPBACK)
            _child(rank, function, folder)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    results = [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(count)]
    assert codes == [0] * count, "\n".join(str(result) for result in results)
    return results


def group_of(rows: int) -> Any:
    """The group of the ranks, in one of them, on the CPU."""
    import torch

    from aerun.ranks.group import Group

    return Group(torch.device("cpu"), rows, Path(os.environ["MEETING"]))


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
