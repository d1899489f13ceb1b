"""Damaged and made-up files for every reader: each is read, or refused with the reader's own error."""

from __future__ import annotations

import gzip
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.keys import PLAIN

Reader = Callable[[Path], Any]


def readers(folder: Path) -> dict[str, tuple[Reader, list[bytes]]]:
    """Each reader, as a function of one file, and good files to start from."""
    import torch
    from PIL import Image

    from aerun.dataset.array import load_arrays
    from aerun.dataset.folder import ImageFolder
    from aerun.dataset.idx import read_idx_bytes, write_idx
    from aerun.dataset.picture_notes import PictureNotes
    from aerun.dataset.row_file import RowFile, write_rows
    from aerun.runs.folder import read_config, read_summary
    from aerun.runs.folder_metrics import read_metrics
    from aerun.training import checkpoint

    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (9, 7, 3), np.uint8)
    pictures = []
    for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP"):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, kind)
        pictures.append(buffer.getvalue())
    arrays = []
    for save in (np.save, np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        save(buffer, random.random((3, 4), np.float32))
        arrays.append(buffer.getvalue())
    idx = write_idx(random.integers(0, 256, (3, 4, 5), np.uint8))
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters())
    checkpoint.save(folder / "seed.safetensors", model, optimizer, checkpoint.Progress())
    summary = json.dumps({"epochs": 1, "steps": 2, "test": {"mse": 0.5}, "baselines": {}}).encode()
    collection = ImageFolder(**PLAIN, root=".", size=8, channels=3, fit="crop", on_error="fail", test=0.1)

    write_rows(folder / "kept", "key", [random.integers(0, 256, (9, 1, 5, 5), np.uint8)], dict)
    notes = (folder / "kept.json").read_bytes()

    def cache(path: Path) -> Any:
        (folder / "kept.json").write_bytes(path.read_bytes())
        return RowFile(folder / "kept", "key").memory_map()

    def named(path: Path, name: str) -> Path:
        path.replace(path.with_name(name))
        return path.parent

    return {
        "IDX": (read_idx_bytes, [idx]),
        "IDX, gzipped": (lambda path: read_idx_bytes(path.replace(path.with_suffix(".gz"))), [gzip.compress(idx)]),
        "image folder": (lambda path: list(collection.decode([path], PictureNotes())), pictures),
        "cache": (cache, [notes]),
        "arrays": (load_arrays, arrays),
        "checkpoint": (checkpoint.read, [(folder / "seed.safetensors").read_bytes()]),
        "metrics.jsonl": (lambda path: read_metrics(named(path, "metrics.jsonl")), [b'{"epoch": 1, "step": 2}\n' * 3]),
        "summary.json": (lambda path: read_summary(named(path, "summary.json")), [summary]),
        "config.yaml": (
            lambda path: read_config(named(path, "config.yaml")),
            [b"seed: 0\ntrainer:\n  epochs: 2\nmodel:\n  hidden: [1, 2]\n"],
        ),
    }


@st.composite
def damaged(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A good file with some bytes changed, cut, doubled or put in; or bytes from nowhere."""
    content = bytearray(draw(st.sampled_from([*seeds, b""])))
    if not content:
        return draw(st.binary(max_size=64))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        kind = draw(st.integers(0, 3))
        if kind == 0 and content:
            content[place] = draw(st.integers(0, 255))
        elif kind == 1:
            del content[place:]
        elif kind == 2:
            content[place:place] = draw(st.binary(max_size=8))
        else:
            content[place:place] = content[place : place + draw(st.integers(1, 32))]
    return bytes(content)


def campaign(folder: Path, shares: dict[str, int]) -> dict[str, Any]:
    """Feed each reader so many files; returns how many were read, refused, and anything else that was raised."""
    from aerun.errors import DataError

    memory = Path("/dev/shm") if Path("/dev/shm").is_dir() else folder
    found: dict[str, Any] = {}
    for name, (reader, seeds) in readers(folder).items():
        counts = {"inputs": 0, "read": 0, "refused": 0}
        crashes: list[str] = []

        with tempfile.TemporaryDirectory(dir=memory) as scratch:
            path = Path(scratch) / "file.png"

            @settings(
                max_examples=shares[name],
                database=None,
                deadline=None,
                derandomize=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(damaged(seeds))
            def feed(content: bytes) -> None:
                counts["inputs"] += 1  # noqa: B023
                path.write_bytes(content)  # noqa: B023
                try:
                    reader(path)  # noqa: B023
                    counts["read"] += 1  # noqa: B023
                except DataError as error:
                    counts["refused"] += "\n" not in str(error)  # noqa: B023
                except Exception as error:
                    crashes.append(f"{type(error).__name__}: {error}"[:200])  # noqa: B023

            feed()
        found[name] = {**counts, "crashes": crashes}
    return found


def shares(total: int) -> dict[str, int]:
    """How many inputs each reader gets of a total."""
    parts = {"IDX": 20, "cache": 5, "IDX, gzipped": 10, "image folder": 25, "arrays": 10, "checkpoint": 10}
    parts |= {"metrics.jsonl": 8, "summary.json": 6, "config.yaml": 6}
    return {name: total * part // 100 for name, part in parts.items()}
