"""Rows as CSV, JSON, Parquet and a pandas table. All values of a column have one type."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from aerun.base.files import format_csv
from aerun.compare.records import Value
from aerun.compare.setting_text import format_setting
from aerun.errors import ConfigError

Rows = Sequence[Mapping[str, Any]]


def rows_to_csv(rows: Rows, settings: Collection[str] = ()) -> str:
    """Numbers in full precision; the columns ``settings`` as they are typed on the command line."""

    def cell(name: str, value: Any) -> Any:
        if isinstance(value, bool) or (name in settings and isinstance(value, float | str)):
            return format_setting(value)
        return repr(value) if isinstance(value, float) else value

    heads = list(rows[0]) if rows else []
    return format_csv([heads, *([cell(name, value) for name, value in row.items()] for row in rows)])


def rows_to_json(rows: Rows) -> str:
    """A list of objects; numbers that are not finite are null."""
    finite = [{name: value if _is_json(value) else None for name, value in row.items()} for row in rows]
    return json.dumps(finite, indent=1, allow_nan=False) + "\n"


def _is_json(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def rows_to_parquet(rows: Rows) -> bytes:
    """A Parquet file. ConfigError without pyarrow."""
    require("pyarrow", "--format parquet: needs", "aerun[parquet]")
    from pyarrow import BufferOutputStream, Table, parquet

    stream = BufferOutputStream()
    parquet.write_table(Table.from_pylist(one_type_per_column(rows)), stream)
    content: bytes = stream.getvalue().to_pybytes()
    return content


def rows_to_frame(rows: Rows) -> Any:
    """A pandas DataFrame. ConfigError without pandas."""
    require("pandas", "frame() and epochs(): need", "aerun[pandas]")
    from pandas import DataFrame

    return DataFrame(one_type_per_column(rows))


def require(package: str, text: str, extra: str) -> None:
    """ConfigError if an optional package is not installed: the ``text``, its name, and how to install it."""
    if find_spec(package) is None:
        raise ConfigError(f"{text} {package}: pip install '{extra}'")


def whole(value: Value | None) -> Value | int | None:
    """A number without a fraction as an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def one_type_per_column(rows: Rows) -> list[dict[str, Any]]:
    """The rows; columns whose values are neither all numbers nor all of one type as text."""
    kinds: dict[str, set[type]] = {}
    for row in rows:
        for name, value in row.items():
            if value is not None:
                kinds.setdefault(name, set()).add(float if type(value) is int else type(value))
    mixed = {name for name, found in kinds.items() if len(found) > 1}
    return [{name: _as_text(value) if name in mixed else value for name, value in row.items()} for row in rows]


def _as_text(value: Any) -> str | None:
    return None if value is None else format_setting(float(value) if type(value) is int else value)
