"""Which files of aerun/ a batch passes through, seen by running the default command to its third optimizer step.

    python scripts/house_batch.py CHECKOUT OUTPUT.json [KEY=VALUE ...]

For scripts/house.py, in a process and a folder of its own: CHECKOUT/scripts/train.py starts, and the process ends at
the end of that step. Nothing in here knows a name of aerun's own, so that any revision can be measured.
"""

from __future__ import annotations

import dataclasses
import json
import os
import runpy
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

STEP = 3  # the first steps also allocate and look at shapes


class BatchWatch:
    """A profile function. It writes ``output`` and ends the process at the end of step ``STEP``.

    ``stack``: files with a frame between the command and the optimizer at that step. ``called``: files of the functions
    that are called, or generators that continue, from the end of the step before to the end of that step. In this time
    the loop counts one update, takes one batch, and computes one forward pass, one backward pass and one update.
    ``handed``: those of them that are given, or give back, a tensor with a row for each image of the batch.
    """

    def __init__(self, checkout: Path, output: Path) -> None:
        self._package, self._checkout, self._output = f"{checkout / 'aerun'}{os.sep}", checkout, output
        self._steps = 0
        self._called: set[str] = set()
        self._handed: set[str] = set()
        self._stack: set[str] = set()

    def __call__(self, frame: FrameType, event: str, value: Any) -> None:
        """What ``sys.setprofile`` calls at every call and return."""
        if event in ("call", "return") and self._steps == STEP - 1:
            if event == "call":
                self._note(self._called, frame)
            code = frame.f_code
            count = code.co_argcount + code.co_kwonlyargcount
            given = [frame.f_locals.get(name) for name in code.co_varnames[:count]] if event == "call" else [value]
            if any(map(has_rows, given)):
                self._note(self._handed, frame)
        if event not in ("call", "return") or not is_update(frame):
            return
        if event == "return":
            self._steps += 1
            if self._steps == STEP:
                self._end()
        elif self._steps == STEP - 1:
            caller: FrameType | None = frame
            while caller is not None:
                self._note(self._stack, caller)
                caller = caller.f_back

    def _note(self, files: set[str], frame: FrameType) -> None:
        """Keep a frame's file, where that is one of aerun's; a module that runs is imported, not called."""
        if frame.f_code.co_filename.startswith(self._package) and frame.f_code.co_name != "<module>":
            files.add(frame.f_code.co_filename)

    def _end(self) -> None:
        sys.setprofile(None)
        found = {"stack": self._stack, "called": self._called, "handed": self._handed}
        paths = {
            name: sorted(Path(file).relative_to(self._checkout).as_posix() for file in files)
            for name, files in found.items()
        }
        self._output.write_text(json.dumps(paths))
        sys.stdout.flush()
        os._exit(0)


def has_rows(value: Any) -> bool:
    """Whether a value is a tensor of at least two dimensions that computes no weight, or directly holds one."""
    if isinstance(value, Tensor):
        return value.dim() >= 2 and not isinstance(value, Parameter)
    if isinstance(value, tuple):
        return any(isinstance(item, Tensor) and has_rows(item) for item in value)
    slots = getattr(type(value), "__slots__", ())
    return dataclasses.is_dataclass(value) and any(
        isinstance(held := getattr(value, name, None), Tensor) and has_rows(held) for name in slots
    )


def is_update(frame: FrameType) -> bool:
    """Whether a frame is an optimizer's ``step``, and not one that another optimizer's step calls.

    Frames are looked at, since hooks and patched methods are passed by where the bare function is called.
    """
    if not _is_step(frame):
        return False
    caller = frame.f_back
    while caller is not None and not _is_step(caller):
        caller = caller.f_back
    return caller is None


def _is_step(frame: FrameType) -> bool:
    return frame.f_code.co_name == "step" and isinstance(frame.f_locals.get("self"), Optimizer)


def main() -> None:
    checkout, output = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    command = checkout / "scripts" / "train.py"
    sys.argv = [str(command), *sys.argv[3:]]
    sys.path[0] = str(command.parent)
    watch = BatchWatch(checkout, output)
    threading.setprofile(watch)
    sys.setprofile(watch)
    runpy.run_path(str(command), run_name="__main__")


if __name__ == "__main__":
    main()
