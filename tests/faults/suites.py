"""A folder of real pictures, such as another project's test images: read, written without cleaning, and read again."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from aerun.dataset.decoder import Decoder
from aerun.dataset.picture_files import find_pictures
from aerun.dataset.picture_notes import PictureNotes
from aerun.use.denoising.scan_files import Scan, output_name, read_scan, write_scan

LOSSY, MAX_ERROR, MAX_LOSSY_ERROR = (".jpg", ".jpeg", ".jpe", ".jfif"), 1.2 / 255, 0.35


def campaign(folder: Path, place: Path) -> dict[str, int]:
    """How many pictures are found, read, refused in words, left out, and seen as another after they were written."""
    found, notes = find_pictures(folder), PictureNotes()
    for _ in Decoder((3, 32, 32), "crop").chunks(found.paths, notes):
        pass
    good = [path for index, path in enumerate(found.paths) if index not in notes.bad]
    changed = [path for path in good if not _is_kept(path, place)]
    for path in changed:
        print(f"{path}: not seen as before")
    return {
        "pictures": len(found.paths),
        "read": len(good),
        "refused": len(notes.bad),
        "left out": sum(found.left_out.values()),
        "changed": len(changed),
    }


def _is_kept(path: Path, place: Path) -> bool:
    """Whether the written file is read, without damage, and seen over white like the read one."""
    target = place / output_name(path.name)
    scan = read_scan(path)
    write_scan(target, scan.with_values(scan.visible_values()))
    again = read_scan(target)
    before, after = _over_white(scan), _over_white(again)
    allowed = MAX_LOSSY_ERROR if target.suffix.lower() in LOSSY else MAX_ERROR
    return not again.losses and before.shape == after.shape and float(np.abs(before - after).max()) <= allowed


def _over_white(scan: Scan) -> np.ndarray:
    """In color, [3,H,W]."""
    shown = scan.over_white()
    return np.broadcast_to(shown, (3, *shown.shape[1:]))
