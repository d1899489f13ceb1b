"""Contestants in processes of their own: one line of JSON asks, one line answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self


class Absent(Exception):
    """What the contestant needs is not installed here."""


class Worker:
    """A process that answers requests; a context manager."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], core: int | None = None) -> None:
        pin = None if core is None else lambda: os.sched_setaffinity(0, {core})
        self._process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            preexec_fn=pin,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is not None:
            self._process.kill()
        self._process.communicate()

    def ask(self, **request: Any) -> dict[str, Any]:
        """The answer. Absent if something is not installed, RuntimeError for anything else that went wrong there."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker died, exit code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "absent" in answer:
            raise Absent(answer["absent"])
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer


def serve(answer: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
    """Answer requests until there are no more. What libraries print does not come between."""
    with os.fdopen(os.dup(1), "w") as replies:
        os.dup2(2, 1)
        for line in sys.stdin:
            try:
                reply = dict(answer(json.loads(line)))
            except ModuleNotFoundError as error:
                reply = {"absent": str(error)}
            except Exception:
                reply = {"error": traceback.format_exc()}
            print(json.dumps(reply), file=replies, flush=True)
