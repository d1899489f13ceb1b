"""Reading files that somebody else may have written, in time and memory in proportion to their bytes.

Every function raises DataError in one line that begins with the path, and FileNotFoundError for a missing file.
"""

from __future__ import annotations

import io
import json
import math
import os
import stat
import zipfile
import zlib
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from aerun.base.archive import read_member
from aerun.errors import DataError

if TYPE_CHECKING:
    import numpy as np

MAX_YAML_BYTES, MAX_JSON_BYTES, MAX_LOG_BYTES, MAX_ARRAY_BYTES = 1 << 20, 128 << 20, 1 << 30, 1 << 40
MAX_DEPTH = 40  # of lists and mappings in each other
MAX_BITS = 64  # of a whole number
MAX_C_PARSED_CHARACTERS = 8000  # that may be nested: the C parser of YAML recurses on the machine's stack
CONSTRUCTOR_ERRORS = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)  # of YAML's explicit tags
FREE_ARRAY_BYTES, MAX_EXPANSION = 64 << 20, 64  # what the arrays of a file may take: bytes, or times the file's bytes


def read_bytes(path: Path, most: int) -> bytes:
    """The content of a regular file of at most ``most`` bytes, also of one in a ZIP archive (``grid.zip/config.yaml``).

    A pipe or a device is not waited for.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise DataError(f"{path}: cannot be read (it is not a regular file)")
            if found.st_size > most:
                raise DataError(f"{path}: cannot be read (it has {found.st_size:,} bytes, more than {most:,})")
            with open(descriptor, "rb", closefd=False) as file:
                return file.read()
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise
    except NotADirectoryError:
        return read_member(path, most)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def read_json(path: Path) -> Any:
    """The value of a JSON file, bounded as ``check_tree`` says."""
    content = read_bytes(path, MAX_JSON_BYTES)
    try:
        return parse_json(content)
    except ValueError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def parse_json(content: bytes | str) -> Any:
    """The value of a JSON text, bounded as ``check_tree`` says. ValueError, in one line, for anything else."""
    try:
        value = json.loads(content if isinstance(content, str) else content.decode())
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    check_tree(value)
    return value


def read_yaml(path: Path) -> Any:
    """The value of a YAML file without aliases, bounded as ``check_tree`` says.

    The C parser, which is ten times faster, is used if it is installed, and if there are no names of files with bytes
    that are not UTF-8, which only Python's parser takes.
    """
    content = read_bytes(path, MAX_YAML_BYTES)
    try:
        text = content.decode()
        loader = yaml.CSafeLoader if yaml.__with_libyaml__ and "\\uDC" not in text else yaml.SafeLoader
        if len(text) >= MAX_C_PARSED_CHARACTERS or ("&" in text and "*" in text):
            _check_events(yaml.parse(text, loader))
        value = yaml.load(text, loader)
        check_tree(value)
    except (*CONSTRUCTOR_ERRORS, RecursionError, yaml.YAMLError) as error:
        raise DataError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error
    return value


def _check_events(events: Iterable[yaml.Event]) -> None:
    """ValueError for deep nesting, which the C parser would follow, and for aliases: a short text with aliases can
    stand for any number of values."""
    depth = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("has aliases (*name), which are not allowed here")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ValueError("is nested too deeply")


def check_tree(value: Any) -> None:
    """ValueError for nesting deeper than MAX_DEPTH, for whole numbers of more than MAX_BITS bits, and for values and
    keys that JSON does not have."""
    level = [value]
    for _ in range(MAX_DEPTH):
        nodes = [node for node in level if isinstance(node, dict | list)]
        plain = [key for node in nodes if isinstance(node, dict) for key in node]
        plain += [leaf for leaf in level if not isinstance(leaf, dict | list)]
        for leaf in plain:
            if not isinstance(leaf, str | int | float | None):
                raise ValueError(f"has a {type(leaf).__name__}, which is not allowed here")
            if isinstance(leaf, int) and leaf.bit_length() > MAX_BITS:
                raise ValueError(f"has a whole number of more than {MAX_BITS} bits")
        level = [item for node in nodes for item in (node.values() if isinstance(node, dict) else node)]
        if not level:
            return
    raise ValueError("is nested too deeply")


def read_arrays(
    path: Path, names: Collection[str] | None = None, expansion: int = MAX_EXPANSION
) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, or those of these names that it has. Objects are not read.

    Nothing is unpacked that takes more than ``expansion`` times the bytes of the file and more than FREE_ARRAY_BYTES.
    """
    content = read_bytes(path, MAX_ARRAY_BYTES)
    most = max(FREE_ARRAY_BYTES, expansion * len(content))
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = {
                entry.filename.removesuffix(".npy"): entry
                for entry in archive.infolist()
                if names is None or entry.filename.removesuffix(".npy") in names
            }
            if sum(entry.file_size for entry in entries.values()) > most:
                raise ValueError(f"would unpack to more than {most:,} bytes")
            return {name: _array(archive.read(entry)) for name, entry in entries.items()}
    except (ValueError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error


def _array(content: bytes) -> np.ndarray:
    """The array of an .npy file. ValueError unless it has exactly the values that its header names."""
    import numpy as np

    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"is an .npy file of version {version}")
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read_header(stream)
    if dtype.hasobject:
        raise ValueError("has objects in an array")
    body = content[stream.tell() :]
    if math.prod(shape) * dtype.itemsize != len(body):
        raise ValueError(f"has an array of shape {list(shape)} with {len(body):,} bytes")
    if not dtype.itemsize:
        return np.empty(shape, dtype)
    return np.frombuffer(bytearray(body), dtype).reshape(shape, order="F" if fortran else "C")
