"""Faults of folders and downloads; tests/test_dataset_*.py tests those of single files."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from aerun.dataset import ImageFolder
from aerun.dataset.picture_files import find_pictures
from aerun.dataset.picture_notes import MAX_NAMED_FILES
from aerun.errors import DataError
from tests.faults import suites
from tests.keys import PLAIN

KEYS: dict[str, Any] = {**PLAIN, "size": 8, "channels": 1, "fit": "crop", "on_error": "skip", "test": 0.1}


def pictures(folder: Path, count: int) -> Path:
    folder.mkdir(exist_ok=True)
    for index in range(count):
        Image.new("L", (9, 9), index).save(folder / f"{index}.png")
    return folder


def test_listing_files_takes_work_in_proportion_to_their_number(tmp_path: Path) -> None:
    """Calls of functions, those written in C included, whatever the machine is doing."""
    calls: dict[int, int] = {}
    find_pictures(tmp_path)  # imports what it needs
    for count in (1000, 8000):
        for index in range(count):
            (tmp_path / f"{index}.png").touch()
        calls[count] = 0

        def count_call(frame: object, event: str, argument: object, count: int = count) -> None:
            calls[count] += event in ("call", "c_call")

        sys.setprofile(count_call)
        try:
            found = find_pictures(tmp_path).paths
        finally:
            sys.setprofile(None)
        assert len(found) == count
    assert calls[8000] < 9 * calls[1000]


def test_a_decompression_bomb_is_refused_by_name(tmp_path: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(pictures(tmp_path, 3) / "bomb.png")
    with pytest.raises(
        DataError,
        match=r"bomb\.png: cannot be decoded \(400 megapixels, more than Pillow opens \(179\); .*AERUN_MAX_MEG",
    ):
        ImageFolder(root=str(tmp_path), **{**KEYS, "on_error": "fail"}).read()


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    secret = pictures(tmp_path / "secret", 1) / "0.png"
    folder = pictures(tmp_path / "art", 4)
    (folder / "stolen.png").symlink_to(secret)
    (folder / "inside.png").symlink_to(folder / "0.png")
    (folder / "outside").symlink_to(secret.parent)
    (folder / "loop").symlink_to(folder)
    with caplog.at_level(logging.WARNING):
        arrays = ImageFolder(root=str(folder), **KEYS).read()
    assert len(arrays.train) + len(arrays.test) == 5
    assert "stolen.png" in caplog.text and "outside the folder" in caplog.text


def test_many_bad_files_do_not_fill_the_screen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pictures(tmp_path, 3)
    for index in range(MAX_NAMED_FILES + 30):
        (tmp_path / f"empty-{index}.png").touch()
    with caplog.at_level(logging.WARNING):
        ImageFolder(root=str(tmp_path), **KEYS).read()
    lines = [line for line in caplog.messages if "decoded" in line]
    assert len(lines) == MAX_NAMED_FILES + 1 and "30 more pictures" in lines[-1]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    (pictures(tmp_path, 3) / "1.png").chmod(0)
    with pytest.raises(DataError, match=r"1\.png"):
        ImageFolder(root=str(tmp_path), **{**KEYS, "on_error": "fail"}).read()


def test_two_processes_that_download_at_once_do_not_harm_each_other(tmp_path: Path) -> None:
    """torchvision's class is replaced by one that writes slowly, as a network does."""
    code = f"""
import time, torchvision.datasets
from pathlib import Path
from aerun.dataset.idx import write_idx, MNIST
from aerun.dataset.vision import download
import numpy as np

class Slow:
    def __init__(self, root, train, download):
        folder = Path(root) / "MNIST" / "raw"
        folder.mkdir(parents=True, exist_ok=True)
        for name, shape in (("images-idx3", (20, 28, 28)), ("labels-idx1", (20,))):
            with (folder / f"{{'train' if train else 't10k'}}-{{name}}-ubyte").open("wb") as file:
                for byte in np.split(np.frombuffer(write_idx(np.ones(shape, np.uint8)), np.uint8), [7, 11]):
                    file.write(byte.tobytes())
                    file.flush()
                    time.sleep(0.05)

torchvision.datasets.MNIST = Slow
MNIST.sums = {{}}
keys = {PLAIN!r}
arrays = MNIST(root={str(tmp_path)!r}, download=True, **keys).read()
assert arrays.train.shape == (20, 1, 28, 28) and arrays.train.all()
"""
    both = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait(120) for process in both] == [0, 0, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["MNIST"]


def test_damaged_embedded_data_are_not_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gzip

    import aerun.dataset.idx as idx
    from aerun.dataset import FashionMNISTMini

    for path in idx.EMBEDDED.glob("*.gz"):
        content = bytearray(gzip.decompress(path.read_bytes()))
        content[-1] ^= 1
        (tmp_path / path.name).write_bytes(gzip.compress(bytes(content)))
    monkeypatch.setattr(idx, "EMBEDDED", tmp_path)
    with pytest.raises(DataError, match="SHA-256"):
        FashionMNISTMini(**PLAIN).read()


def test_a_grid_goes_on_past_a_diverging_job_and_fails_at_the_end(train: Any, tmp_path: Path) -> None:
    tiny = ["dataset=random", "dataset.images=300", "trainer.epochs=2", "trainer.pictures=0", "model=fc_deep"]
    done = train("-m", "optimizer=sgd", "optimizer.lr=0.1,100000,0.01", *tiny)
    assert done.returncode == 1
    [sweep] = (tmp_path / "outputs").glob("sweep_*")
    statuses = {path.parent.name: json.loads(path.read_text()) for path in sweep.glob("*/status.json")}
    states = {name.partition("_")[0]: status["state"] for name, status in statuses.items()}
    assert states == {"lr0.1": "finished", "lr100000": "diverged", "lr0.01": "finished"}
    assert len(list(sweep.glob("*/summary.json"))) == 2


def test_a_suite_of_pictures_is_read_and_written_unchanged(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "suite", 4)
    Image.new("RGBA", (9, 7), (9, 8, 7, 0)).save(folder / "clear.webp")
    Image.new("CMYK", (9, 7), (9, 8, 7, 0)).save(folder / "inks.jpg")
    (folder / "cut.png").write_bytes((folder / "0.png").read_bytes()[:40])
    (folder / "x.tga").touch()
    found = suites.campaign(folder, tmp_path / "out")
    assert found == {"pictures": 7, "read": 6, "refused": 1, "left out": 1, "changed": 0}
