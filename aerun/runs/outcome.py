"""How each rank of a run ended, as a small file that the rank writes and the job reads."""

from __future__ import annotations

import json
import time
import traceback
from pathlib import Path
from typing import Any

from aerun import errors
from aerun.base.files import write_text
from aerun.base.signals import Stopped
from aerun.errors import AerunError, KilledError

FINISHED = "finished"


class RankError(Exception):
    """A rank failed by an unexpected error."""


class _Traceback(Exception):
    """The traceback of another process, as the cause of an error here."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def write_outcome(place: Path, who: str, error: BaseException | None) -> None:
    """Write that a rank has finished, or by which error it ended."""
    about: dict[str, Any] = {"who": who, "time": time.time(), "kind": FINISHED}
    if error is not None:
        about["kind"], about["text"] = type(error).__name__, str(error)
        about["signal"] = error.number if isinstance(error, Stopped) else None
        about["traceback"] = "".join(traceback.format_exception(error))
    write_text(place / f"{who}.json", json.dumps(about))


def read_outcomes(place: Path) -> list[dict[str, Any]]:
    """Return the outcomes so far, causes first: a killed rank makes others fail before its agent reports it."""
    found = (json.loads(path.read_text()) for path in place.glob("*.json"))
    return sorted(found, key=lambda about: (about["kind"] != KilledError.__name__, about["time"]))


def rebuild_error(about: dict[str, Any]) -> BaseException:
    """Return the error of another process, with its traceback as the cause."""
    kind, text = about["kind"], about["text"]
    known = vars(errors).get(kind)
    error: BaseException
    if kind == Stopped.__name__:
        error = Stopped(about["signal"])
    elif isinstance(known, type) and issubclass(known, AerunError):
        error = known(text)
    else:
        error = RankError(f"{about['who']}: {kind}: {text}")
    error.__cause__ = _Traceback(about["traceback"])
    return error
