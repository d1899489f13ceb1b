"""Fingerprints as a Parquet file: a row for each picture (name, label, code), the rest in the table's metadata."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aerun.errors import ConfigError, DataError
from aerun.use.collection.packing import Packed

if TYPE_CHECKING:
    from aerun.use.collection.fingerprints import Fingerprints

INSTALL = "needs pyarrow: pip install 'aerun[parquet]'"
KEY = b"aerun"


def to_parquet(fingerprints: Fingerprints, packed: Packed, about: dict[str, Any]) -> bytes:
    """The file's content: columns ``name``, ``label`` where there are labels, and ``code``, a list of fixed size."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    codes = packed.images["codes"].reshape(len(fingerprints), -1)
    columns = {
        "name": pa.array(fingerprints.names, pa.string()),
        "code": pa.FixedSizeListArray.from_arrays(pa.array(codes.reshape(-1)), codes.shape[1]),
    }
    if fingerprints.labels is not None:
        columns["label"] = pa.array(fingerprints.labels.tolist(), pa.int64())
    units = {name: values.tolist() for name, values in (packed.shared | fingerprints.statistics()).items()}
    table = pa.table(columns).replace_schema_metadata({KEY: json.dumps(about | {"units": units}).encode()})
    content = io.BytesIO()
    pq.write_table(table, content)
    return content.getvalue()


def from_parquet(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What ``to_parquet`` wrote. DataError if the file is damaged or another's."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ConfigError(f"{path}: {INSTALL}") from error
    try:
        table = pq.read_table(path)
        about: dict[str, Any] = json.loads((table.schema.metadata or {})[KEY])
        codes = table["code"].combine_chunks()
        arrays = {
            "names": np.array(table["name"].to_pylist()),
            "codes": codes.flatten().to_numpy(zero_copy_only=False).reshape(about["shape"]),
        }
        if "label" in table.column_names:
            arrays["labels"] = table["label"].to_numpy()
        arrays |= {name: np.array(values, np.float32) for name, values in about.pop("units").items()}
    except (pa.ArrowException, OSError, KeyError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path}: is damaged, or not a file of aerun-embed ({str(error) or 'no such table'})"
        ) from error
    return about, arrays
