"""Fingerprints as files: NumPy archives (.npz), and Parquet tables with one row per image."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from aerun.base.bounded import parse_json, read_arrays
from aerun.base.files import make_folder, printable, write_bytes
from aerun.base.typed import TEXT, list_of, mapping_of, one_of, record, whole
from aerun.errors import ConfigError, DataError
from aerun.use.collection.fingerprints import Fingerprints
from aerun.use.collection.looks import SHAPES, looks_from
from aerun.use.collection.packing import FORMS, Form, Packed, unpack_indices
from aerun.use.outputs import require_absent

SUFFIXES = (".npz", ".parquet")
FORMAT = "aerun fingerprints 1"
PARQUET_KEY = b"aerun"  # of the table's metadata
MISSING_PYARROW = "needs pyarrow: pip install 'aerun[parquet]'"
NOT_OURS = "is damaged, or not a file of aerun-embed"

IMAGES = ("codes", "units", "counts", "values", "indices")
SHARED = {"offset", "scale"}  # arrays of one value for each unit
CODEBOOKS = {"codebooks", "groups"}
MAX_EXPANSION = 1100  # of codes that are nearly all 0: as far as a .npz file can shrink them

ABOUT_SCHEMA = record(
    {
        **dict.fromkeys(("weights", "run", "root", "split", "layout"), TEXT),
        "classes": list_of(TEXT),
        "blank": list_of(whole()),
        "views": whole(1),
        "code_shape": list_of(whole(1)),
        "shape": list_of(whole(), 2, 2),
        "form": one_of(*FORMS, "indices"),
        "value_bits": whole(0, 8),
        "names_of_bytes": mapping_of(TEXT),
    },
    required=[
        *("weights", "run", "root", "split", "layout"),
        *("classes", "views", "code_shape", "shape", "form", "value_bits"),
    ],
)

Arrays = dict[str, np.ndarray]
Collection = Fingerprints | str | os.PathLike[str]  # fingerprints, or their file


def check_suffix(path: Path, form: Form = "float32") -> None:
    """ConfigError if a file of this name cannot hold fingerprints in this format."""
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"{path}: must end in {' or '.join(SUFFIXES)}")
    if path.suffix == ".parquet":
        if form in ("bits", "indices"):
            raise ConfigError(f"{path}: Parquet files hold float32, float16 or int8; for {form} use .npz")
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise ConfigError(f"{path}: {MISSING_PYARROW}") from error


def save_fingerprints(fingerprints: Fingerprints, path: Path, packed: Packed, *, overwrite: bool = False) -> None:
    """Write a .npz or .parquet file and create its folder.

    ConfigError if the file exists and ``overwrite`` is false, StorageError if writing fails.
    """
    require_absent([path], overwrite)
    make_folder(path.parent)
    about = {
        "format": FORMAT,
        "weights": fingerprints.weights,
        "run": fingerprints.run,
        "root": fingerprints.root,
        "split": fingerprints.split,
        "classes": fingerprints.classes,
        "views": fingerprints.views,
        "code_shape": list(fingerprints.code_shape),
        "shape": list(packed.shape),
        "form": packed.form,
        "layout": packed.layout,
        "value_bits": packed.value_bits,
        "blank": fingerprints.blank,
    }
    as_file = _as_parquet if path.suffix == ".parquet" else _as_npz
    write_bytes(path, as_file(fingerprints, packed, about))


def load_fingerprints(path: Path, folder: Path | None = None) -> Fingerprints:
    """Read a file. DataError if it is missing, damaged, or not a file of fingerprints.

    ``folder``: where its images are now, if they were moved. DataError if none of them is there.
    """
    path = path.expanduser()
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; make it with aerun-embed")
    about, arrays = (_read_parquet if path.suffix == ".parquet" else _read_npz)(path)
    try:
        packed = _packed(about, arrays)
        found = _assemble(about, arrays, packed.unpack(), path)
        if packed.form == "indices":
            found = dataclasses.replace(found, quantized=unpack_indices(packed))
    except (KeyError, ValueError, TypeError, DataError, MemoryError) as error:
        raise DataError(f"{path}: is damaged ({error})") from error
    return found if folder is None else found.moved_to(folder)


def as_fingerprints(collection: Collection) -> Fingerprints:
    """Fingerprints, or those of a file. DataError for a file that does not hold any."""
    return load_fingerprints(Path(collection)) if isinstance(collection, str | os.PathLike) else collection


def _packed(about: dict[str, Any], arrays: Arrays) -> Packed:
    count, size = about["shape"]
    if count != about["views"] * len(arrays["names"]) or any(
        arrays[name].shape != (size,) for name in SHARED & arrays.keys()
    ):
        raise ValueError(f"{len(arrays['names'])} names, codes of shape {about['shape']}")
    images: Arrays = {name: arrays[name] for name in IMAGES if name in arrays}
    shared: Arrays = {name: arrays[name] for name in (SHARED | CODEBOOKS) & arrays.keys()}
    return Packed(about["form"], (count, size), images, shared, about["layout"], about["value_bits"])


def _assemble(about: dict[str, Any], arrays: Arrays, codes: np.ndarray, path: Path) -> Fingerprints:
    names, labels, views = arrays["names"].tolist(), arrays.get("labels"), about["views"]
    if labels is not None and (labels.shape != (len(names),) or labels.dtype.kind not in "iu"):
        raise ValueError(f"{len(names)} names, labels of shape {list(labels.shape)}")
    blank = about.get("blank", [])
    if any(row >= len(names) for row in blank):
        raise ValueError(f"{len(names)} names, blank images up to {max(blank)}")
    return Fingerprints(
        names=names,
        codes=codes if views == 1 else codes.reshape(len(names), views, -1),
        weights=about["weights"],
        run=about["run"],
        root=about["root"],
        split=about["split"],
        labels=labels,
        classes=about["classes"],
        code_shape=tuple(about["code_shape"]),
        file=str(path),
        blank=blank,
        looks=looks_from(arrays, len(names)),
        form=about["form"],
        value_bits=about["value_bits"],
    )


def _check_about(about: Any, names: np.ndarray) -> None:
    """ValueError unless a file says of itself what ``save_fingerprints`` writes, and its names are a list of texts."""
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ValueError("is not a file of aerun-embed, or of another version of it")
    ABOUT_SCHEMA("", about)
    if names.ndim != 1 or (names.dtype.kind != "U" and len(names)):
        raise ValueError("its names are not texts")


def _as_npz(fingerprints: Fingerprints, packed: Packed, about: dict[str, Any]) -> bytes:
    arrays = {"names": np.array(fingerprints.names), "about": np.array(json.dumps(about))}
    arrays |= packed.images | packed.shared | fingerprints.statistics()
    if fingerprints.labels is not None:
        arrays["labels"] = fingerprints.labels
    if fingerprints.looks is not None:
        arrays |= fingerprints.looks.arrays()
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    return content.getvalue()


def _read_npz(path: Path) -> tuple[dict[str, Any], Arrays]:
    try:
        arrays = read_arrays(path, expansion=MAX_EXPANSION)
    except DataError as error:
        raise DataError(f"{path}: {NOT_OURS} ({str(error).removeprefix(f'{path}: ')})") from error
    if not {"about", "names"} <= arrays.keys():
        raise DataError(f"{path}: is not a file of aerun-embed")
    try:
        about = parse_json(str(arrays.pop("about")[()]))
        _check_about(about, arrays["names"])
    except (ValueError, TypeError, IndexError) as error:
        raise DataError(f"{path}: {NOT_OURS} ({error})") from error
    return about, arrays


def _as_parquet(fingerprints: Fingerprints, packed: Packed, about: dict[str, Any]) -> bytes:
    """Columns ``name``, ``label`` if there are labels, and ``code``, a list of fixed size, as are the looks of
    image files; the rest is metadata.

    Parquet holds UTF-8 alone: other names are readable in the column, and as they were in the metadata.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    codes = packed.images["codes"].reshape(len(fingerprints), -1)
    columns = {
        "name": pa.array([printable(name) for name in fingerprints.names], pa.string()),
        "code": pa.FixedSizeListArray.from_arrays(pa.array(codes.reshape(-1)), codes.shape[1]),
    }
    if fingerprints.labels is not None:
        columns["label"] = pa.array(fingerprints.labels.tolist(), pa.int64())
    for name, values in ({} if fingerprints.looks is None else fingerprints.looks.arrays()).items():
        flat = values.reshape(len(fingerprints), -1)
        columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), flat.shape[1])
    units = {name: values.tolist() for name, values in (packed.shared | fingerprints.statistics()).items()}
    others = {str(row): name for row, name in enumerate(fingerprints.names) if printable(name) != name}
    metadata = {PARQUET_KEY: json.dumps(about | {"units": units, "names_of_bytes": others}).encode()}
    content = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), content)
    return content.getvalue()


def _read_parquet(path: Path) -> tuple[dict[str, Any], Arrays]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ConfigError(f"{path}: {MISSING_PYARROW}") from error
    try:
        with path.open("rb") as file:  # pyarrow takes only names that are UTF-8
            table = pq.read_table(file)
        about: dict[str, Any] = parse_json((table.schema.metadata or {})[PARQUET_KEY])
        _check_about(about, np.array(table["name"].to_pylist()))
        codes = table["code"].combine_chunks()
        names = table["name"].to_pylist()
        for row, name in about.pop("names_of_bytes", {}).items():
            names[int(row)] = name
        arrays = {
            "names": np.array(names),
            "codes": codes.flatten().to_numpy(zero_copy_only=False).reshape(about["shape"]),
        }
        if "label" in table.column_names:
            arrays["labels"] = table["label"].to_numpy()
        for name, (shape, _) in SHAPES.items():
            if name in table.column_names:
                values = table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
                if name == "thumbnails":  # smaller in files of older versions
                    side = math.isqrt(len(values) // (2 * max(1, len(names))))
                    arrays[name] = values.reshape(len(names), 2, side, side)
                else:
                    arrays[name] = values.reshape(len(names), *shape)
        arrays |= {name: np.array(values, np.float32) for name, values in about.pop("units").items()}
    except (pa.ArrowException, OSError, LookupError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: {NOT_OURS} ({str(error) or 'no such table'})") from error
    return about, arrays
