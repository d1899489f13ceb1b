"""Errors of the machine, whatever library raises them: memory and files."""

from __future__ import annotations

import errno
import re

# What torch, its backends and the allocators below them say, if not by a class of their own.
OUT_OF_MEMORY = (
    r"alloc_cpu|can't allocate memory|cannot allocate memory|not enough memory|out of memory|std::bad_alloc"
    r"|CU(BLAS|DNN|SOLVER)_STATUS_ALLOC_FAILED"
)


def out_of_memory(error: BaseException) -> str | None:
    """The error's text in one line if it means that memory ran out, on the host or on a device; else None."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return text or "on the host"
    if isinstance(error, RuntimeError) and re.search(OUT_OF_MEMORY, text, re.IGNORECASE):
        return text
    return None


def file_error(error: OSError) -> str:
    """The error in one line: the file, and what is wrong."""
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    return ": ".join([*(" -> ".join(names).splitlines()[:1]), error.strerror or str(error)])
