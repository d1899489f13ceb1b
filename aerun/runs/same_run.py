"""Whether a run folder contains the run that a configuration describes. Needs no torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from aerun.config.identity import differing_keys, identities, identity
from aerun.errors import DataError
from aerun.runs.folder import read_environment

MAX_KEYS = 8  # in a message


def recorded_identities(folder: Path, stored: Mapping[str, Any], counted: Collection[str] = ()) -> list[str]:
    """The digests by which the run in ``folder`` is found, whose configuration is ``stored``. See ``identity``."""
    try:
        device = read_environment(folder).get("device")
    except DataError:
        device = None
    return identities(stored, device, counted)


def find_difference(folder: Path, stored: Mapping[str, Any], config: Mapping[str, Any]) -> str | None:
    """The keys in which ``config`` is not that of the run in ``folder``; None if it is."""
    if identity(config) in recorded_identities(folder, stored):
        return None
    return list_keys(differing_keys(stored, config))


def list_keys(keys: list[str]) -> str:
    """Keys for a message, the first few by name."""
    more = f" and {len(keys) - MAX_KEYS} more" if len(keys) > MAX_KEYS else ""
    return ", ".join(keys[:MAX_KEYS]) + more
