"""Errors of the machine during a run, as errors that say what may help."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from aerun.base.files import storage_error
from aerun.base.library_errors import out_of_memory
from aerun.config.settings import Settings
from aerun.errors import ConfigError


@contextlib.contextmanager
def translate_errors(settings: Settings, folder: Path) -> Iterator[None]:
    """Translate errors of memory and storage into errors that say what may help."""
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        memory = out_of_memory(error)
        if memory is not None:
            keys = f"{settings.name('model')} and trainer.batch_size={settings.trainer.batch_size}"
            raise ConfigError(f"{keys}: out of memory ({memory})") from error
        if not isinstance(error, OSError):
            raise
        raise storage_error(error, Path(os.fsdecode(error.filename or folder))) from error
