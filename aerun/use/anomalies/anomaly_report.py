"""Anomalies as a table, as JSON and CSV, and as a sheet with error maps."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from aerun.base.files import format_csv, make_folder, write_bytes, write_text
from aerun.dataset.data import Split, as_float, spread
from aerun.errors import DataError
from aerun.use.anomalies.finding import read_pictures
from aerun.use.contact_sheet import Tile, draw_contact_sheet
from aerun.use.image_files import find_images, read_inputs, to_uint8, write_png
from aerun.use.outputs import plural

if TYPE_CHECKING:
    from torch import Tensor

    from aerun.metrics.anomaly_detector import Detector
    from aerun.use.anomalies.finding import Anomalies
    from aerun.use.opened_run import OpenedRun

MAP_OF = {"ssim": "ssim", "ssim_peak": "ssim", "pca": "pca", "pca_peak": "pca"}  # of a score; otherwise error
CALIBRATED_MAPS = 200  # validation images whose pixels set the scale of colors
COLUMNS, SIDE = 9, 128  # tiles of a row, three for each picture, and pixels of a side


def format_anomalies(found: Anomalies, count: int) -> str:
    """The ``count`` least normal pictures, and the threshold."""
    lines = [f"{found.by:>14}  {'':<5}  picture"]
    for row in found.order[:count]:
        lines.append(f"{found.values[row]:>14.5g}  {'alarm' if found.alarms[row] else '':<5}  {found.names[row]}")
    if len(found) > count:
        lines.append(f"and {plural(len(found) - count, 'other picture')} with lower scores; --csv writes all")
    alarms = int(found.alarms.sum())
    return "\n".join([*lines, str(found.threshold), f"{alarms:,} of {plural(len(found), 'picture')} above it"])


def anomalies_as_json(found: Anomalies) -> dict[str, Any]:
    """The threshold, and all pictures with all scores, the least normal first."""
    threshold = found.threshold
    pictures = [
        {
            "name": found.names[row],
            "score": float(found.values[row]),
            "alarm": bool(found.alarms[row]),
            "scores": {name: float(values[row]) for name, values in found.scores.items()},
        }
        for row in found.order
    ]
    return {
        "by": found.by,
        "threshold": threshold.value,
        "false_alarms": threshold.rate,
        "false_alarms_interval": [threshold.low, threshold.high],
        "validation_images": threshold.images,
        "pictures": pictures,
    }


def anomalies_as_csv(found: Anomalies) -> str:
    """A line for each picture, the least normal first: name, alarm (0 or 1), all scores."""
    rows = [["name", "alarm", *found.scores]]
    for row in found.order:
        scores = [f"{values[row]:.9g}" for values in found.scores.values()]
        rows.append([found.names[row], str(int(found.alarms[row])), *scores])
    return format_csv(rows)


def write_csv(path: Path, found: Anomalies) -> None:
    """Write ``anomalies_as_csv``. Creates the folder. StorageError if writing fails."""
    make_folder(path.parent)
    write_text(path, anomalies_as_csv(found))


def write_maps(path: Path, found: Anomalies) -> None:
    """Write a .npz file: ``names`` [N], and the maps [N,H,W], float32, by name. StorageError if writing fails."""
    content = io.BytesIO()
    np.savez_compressed(content, names=np.array(found.names), **(found.maps or {}))  # type: ignore[arg-type]
    make_folder(path.parent)
    write_bytes(path, content.getvalue())


def draw_anomalies(path: Path, run: OpenedRun, detector: Detector, found: Anomalies, pictures: Any, count: int) -> None:
    """Write a sheet of the ``count`` least normal pictures, each with its reconstruction and its map of errors.

    A map is white where errors are 0, and red from the largest pixel of 200 validation images on. Alarms have a frame.
    """
    run.require_images()
    shown = found.order[:count].tolist()
    images = as_float(_read_rows(run, found, pictures, shown))
    name = MAP_OF.get(found.by, "error")
    validation = run.data.validation
    assert validation is not None  # it has the threshold
    most = float(detector.maps(spread(validation, CALIBRATED_MAPS))[name].max())
    maps = detector.maps(Split(images, images, None))[name]
    outputs, tiles = to_uint8(run.reconstruct(images)), list[Tile]()
    for row, image, output, errors in zip(shown, to_uint8(images), outputs, maps, strict=True):
        alarm = bool(found.alarms[row])
        tiles.append(Tile(image, f"{found.values[row]:.4g}\n{Path(found.names[row]).name}", marked=alarm))
        tiles += [Tile(output, "reconstruction"), Tile(heat(errors / max(most, 1e-30)), f"{name} map")]
    alarms = plural(int(found.alarms.sum()), "alarm")
    title = f"{alarms} of {plural(len(found), 'picture')}: {found.by} above {found.threshold.value:.4g}"
    write_png(path, draw_contact_sheet(tiles, COLUMNS, SIDE, title))


def heat(values: np.ndarray) -> np.ndarray:
    """values[H,W] -> uint8 [3,H,W]: white at 0, yellow, and red from 1 on."""
    level = values.clip(0, 1)
    channels = np.ones_like(level), 1 - level.clip(0.5, 1) * 2 + 1, 1 - level.clip(0, 0.5) * 2
    return (np.stack(channels) * 255).round().astype(np.uint8)


def _read_rows(run: OpenedRun, found: Anomalies, pictures: Any, rows: Sequence[int]) -> Tensor:
    """Some of the pictures once more. DataError for a file that has changed meanwhile."""
    wanted = [found.names[row] for row in rows]
    if isinstance(pictures, Path) and pictures.suffix not in (".npy", ".npz"):
        paths = dict(find_images(pictures, quiet=True))
        read = read_inputs(run, [(name, paths[name]) for name in wanted if name in paths])
    else:
        read = read_pictures(run, pictures)
    chosen = {name: image for names, images in read for name, image in zip(names, images, strict=True)}
    missing = [name for name in wanted if name not in chosen]
    if missing:
        raise DataError(f"{missing[0]}: cannot be read any more")
    return torch.stack([chosen[name] for name in wanted])
