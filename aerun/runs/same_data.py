"""Whether the data of a run folder are still those that its run was trained on, as its environment.json says."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from aerun.base.program import package_version
from aerun.errors import DataError
from aerun.runs.folder import CHECKPOINTS, ENVIRONMENT, read_environment

log = logging.getLogger(__name__)


def require_same_data(folder: Path, checksum: str) -> None:
    """DataError if the folder has weights that were trained on data with another checksum. Logs another version of
    aerun."""
    text = changed_data(folder, checksum)
    if text is not None:
        raise DataError(f"{folder}: {text}; restore the data, or start a new run in another folder")
    before, now = (_read_environment(folder).get("versions") or {}).get("aerun"), package_version()
    if before is not None and before != now:
        log.warning("%s: was written by aerun %s; this is aerun %s", folder, before, now)


def changed_data(folder: Path, checksum: str) -> str | None:
    """What is wrong if the folder has weights of other data; None if it has none, or its data have this checksum.

    DataError if environment.json cannot be read.
    """
    if not any((folder / CHECKPOINTS).glob("*.safetensors")):
        return None
    about = _read_environment(folder).get("dataset")
    if about is None:
        log.warning("%s: has no checksum, so nothing shows whether the run's data have changed", folder / ENVIRONMENT)
        return None
    if about["checksum"] == checksum:
        return None
    return f"its data have changed: checksum {about['checksum']} then, {checksum} now"


def _read_environment(folder: Path) -> dict[str, Any]:
    try:
        return read_environment(folder)
    except DataError as error:
        raise DataError(f"{error}; it shows whether the run's data have changed. Restore or delete it") from error
