"""How a rank ended, from it to the job that waits: a small file each."""

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
    """A rank has failed by something that is not the user's to mend."""


class _Traceback(Exception):
    """The traceback of another process, as the cause of an error here."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def record(place: Path, who: str, error: BaseException | None) -> None:
    """Write that it has ended well, or by which error."""
    about: dict[str, Any] = {"who": who, "time": time.time(), "kind": FINISHED}
    if error is not None:
        about["kind"], about["text"] = type(error).__name__, str(error)
        about["signal"] = getattr(error, "number", None)
        about["traceback"] = "".join(traceback.format_exception(error))
    write_text(place / f"{who}.json", json.dumps(about))


def recorded(place: Path) -> list[dict[str, Any]]:
    """What there is so far, causes first: a rank that is killed breaks others before its agent notices."""
    found = (json.loads(path.read_text()) for path in place.glob("*.json"))
    return sorted(found, key=lambda about: (about["kind"] != KilledError.__name__, about["time"]))


def error_of(about: dict[str, Any]) -> BaseException:
    """The error again, its traceback as its cause."""
    kind, text = about["kind"], about["text"]
    own = getattr(errors, kind, None)
    error: BaseException
    if kind == Stopped.__name__:
        error = Stopped(about["signal"])
    elif isinstance(own, type) and issubclass(own, AerunError):
        error = own(text)
    else:
        error = RankError(f"{about['who']}: {kind}: {text}")
    error.__cause__ = _Traceback(about["traceback"])
    return error
