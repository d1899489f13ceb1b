"""The codes of a collection in one file: names, codes, their statistics, and which weights made them."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aerun.base.files import make_folder, write_bytes
from aerun.errors import ConfigError, DataError
from aerun.use.collection.packing import Form, Packed, pack
from aerun.use.outputs import require_absent

if TYPE_CHECKING:
    from aerun.use.opened_run import OpenedRun

FORMAT = "aerun fingerprints 1"
INSTALL = "needs pyarrow: pip install 'aerun[parquet]'"


@dataclass(frozen=True)
class Fingerprints:
    """What ``embed`` makes of a collection.

    ``names`` [N], relative to ``root``, the folder, or ``split/NUMBER`` of the run's own data; ``codes`` float32 [N,D],
    of several views of each picture one after the other [N,V,D]; ``labels`` [N], numbers of ``classes``, -1 for none.
    ``weights``: the run's fingerprint; ``run``: its folder, as it was called.
    """

    names: list[str]
    codes: np.ndarray
    weights: str
    run: str = ""
    root: str = ""
    split: str = ""
    labels: np.ndarray | None = None
    classes: list[str] = field(default_factory=list)
    code_shape: tuple[int, ...] = ()
    file: str = ""

    def __len__(self) -> int:
        return len(self.names)

    @property
    def views(self) -> int:
        """How many codes a picture has."""
        return 1 if self.codes.ndim == 2 else self.codes.shape[1]

    @property
    def whole_codes(self) -> np.ndarray:
        """The codes of the whole pictures, float32 [N,D]."""
        return self.codes if self.codes.ndim == 2 else np.ascontiguousarray(self.codes[:, 0])

    def label(self, row: int) -> str:
        """The name of a picture's class, or nothing."""
        if self.labels is None or self.labels[row] < 0:
            return ""
        number = int(self.labels[row])
        return self.classes[number] if number < len(self.classes) else str(number)

    def statistics(self) -> dict[str, np.ndarray]:
        """Of each unit over the collection [D]: ``mean``, ``deviation``, and ``zeros``, the share of zeros."""
        codes = self.whole_codes.astype(np.float64)
        moments = {"mean": codes.mean(0), "deviation": codes.std(0), "zeros": (codes == 0).mean(0)}
        return {name: values.astype(np.float32) for name, values in moments.items()}

    def require_same_run(self, run: OpenedRun) -> None:
        """DataError if another run, or this one with other weights, made these codes."""
        if self.weights != run.fingerprint:
            raise DataError(
                f"{self.file or 'these codes'}: of another run ({self.run or 'unnamed'}, weights {self.weights}), "
                f"not of {run.folder} (weights {run.fingerprint}): make them anew with aerun-embed"
            )

    def packed(self, form: Form = "float32", value_bits: int = 8) -> Packed:
        """The codes [N*V,D] in a form of fewer bytes."""
        return pack(self.codes.reshape(-1, self.codes.shape[-1]), form, value_bits)


def check_suffix(path: Path, form: Form = "float32") -> None:
    """ConfigError if fingerprints cannot be written into a file of this name, in this form."""
    if path.suffix not in (".npz", ".parquet"):
        raise ConfigError(f"{path}: must end in .npz or .parquet")
    if path.suffix == ".parquet":
        if form == "bits":
            raise ConfigError(f"{path}: a Parquet file holds float32, float16 or int8; bits need .npz")
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise ConfigError(f"{path}: {INSTALL}") from error


def save_fingerprints(fingerprints: Fingerprints, path: Path, packed: Packed, *, overwrite: bool = False) -> None:
    """Write the file, .npz or .parquet, as a whole; its folder is made. ConfigError if it is there already, unless it
    may be replaced, StorageError if it cannot be written."""
    require_absent([path], overwrite)
    make_folder(path.parent)
    about = {
        "format": FORMAT,
        **{key: getattr(fingerprints, key) for key in ("weights", "run", "root", "split", "classes", "views")},
        "code_shape": list(fingerprints.code_shape),
        "shape": list(packed.shape),
        "form": packed.form,
        "layout": packed.layout,
        "value_bits": packed.value_bits,
    }
    if path.suffix == ".parquet":
        from aerun.use.collection.parquet import to_parquet

        write_bytes(path, to_parquet(fingerprints, packed, about))
        return
    arrays = {"names": np.array(fingerprints.names), "about": np.array(json.dumps(about))}
    arrays |= packed.images | packed.shared | fingerprints.statistics()
    if fingerprints.labels is not None:
        arrays["labels"] = fingerprints.labels
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    write_bytes(path, content.getvalue())


def load_fingerprints(path: Path) -> Fingerprints:
    """The fingerprints in a file. DataError if it is missing, damaged, or something else."""
    path = path.expanduser()
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; aerun-embed makes it")
    if path.suffix == ".parquet":
        from aerun.use.collection.parquet import from_parquet

        about, arrays = from_parquet(path)
    else:
        about, arrays = _from_npz(path)
    try:
        pack = _packed(about, arrays)
        return _assembled(about, arrays, pack.unpack(), path)
    except (KeyError, ValueError, TypeError, DataError) as error:
        raise DataError(f"{path}: is damaged ({error})") from error


def _from_npz(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    if not zipfile.is_zipfile(path):  # NumPy would say how to load it unsafely
        raise DataError(f"{path}: is damaged, or not a file of aerun-embed")
    try:
        with np.load(path, allow_pickle=False) as file:
            if "about" not in file.files:
                raise DataError(f"{path}: is not a file of aerun-embed")
            about = json.loads(str(file["about"][()]))
            if not isinstance(about, dict) or about.get("format") != FORMAT:
                raise DataError(f"{path}: is not a file of aerun-embed, or one of another version of it")
            return about, {name: file[name] for name in file.files if name != "about"}
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise DataError(f"{path}: is damaged, or not a file of aerun-embed ({error})") from error


def _packed(about: dict[str, Any], arrays: dict[str, np.ndarray]) -> Packed:
    count, size = about["shape"]
    images: dict[str, np.ndarray] = {
        name: arrays[name] for name in ("codes", "units", "counts", "values") if name in arrays
    }
    shared: dict[str, np.ndarray] = {name: arrays[name] for name in ("offset", "scale") if name in arrays}
    return Packed(about["form"], (count, size), images, shared, about["layout"], about["value_bits"])


def _assembled(about: dict[str, Any], arrays: dict[str, np.ndarray], codes: np.ndarray, path: Path) -> Fingerprints:
    names, labels, views = arrays["names"].tolist(), arrays.get("labels"), int(about["views"])
    if len(codes) != views * len(names) or (labels is not None and len(labels) != len(names)):
        raise ValueError(f"{len(names)} names, {len(codes)} codes")
    return Fingerprints(
        names=names,
        codes=codes if views == 1 else codes.reshape(len(names), views, -1),
        weights=str(about["weights"]),
        run=str(about["run"]),
        root=str(about["root"]),
        split=str(about["split"]),
        labels=labels,
        classes=list(about["classes"]),
        code_shape=tuple(about["code_shape"]),
        file=str(path),
    )
