"""A run, a sweep and a search go on only over the data that they began with, and their evidence is kept."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import aerun
from aerun.config.parse import parse
from aerun.errors import AerunError, DataError
from aerun.runs.run import run

SMALL = ["trainer.device=cpu", "trainer.threads=1", "trainer.figures=none", "trainer.batch_size=8", "model.code_size=4"]


def picture(path: Path, number: int) -> None:
    path.parent.mkdir(exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (8, 8), np.uint8)
    Image.fromarray(pixels).save(path)


def pictures(place: Path) -> list[str]:
    for number in range(24):
        picture(place / "art" / f"p{number:02}.png", number)
    return ["dataset=image_folder", f"dataset.root={place / 'art'}", "dataset.size=8", "dataset.channels=1"]


def rows(place: Path, seed: int = 0, count: int = 40) -> list[str]:
    np.savez(place / "x.npz", images=np.random.default_rng(seed).random((count, 6), np.float32))
    return ["dataset=array", f"dataset.root={place / 'x.npz'}"]


def touch(place: Path) -> None:
    (place / "art" / "p03.png").touch()


CHANGES: dict[str, tuple[Callable[[Path], list[str]], Callable[[Path], Any], bool]] = {
    "picture added": (pictures, lambda place: picture(place / "art" / "a.png", 99), True),
    "picture replaced": (pictures, lambda place: picture(place / "art" / "p03.png", 99), True),
    "picture renamed": (pictures, lambda place: (place / "art/p03.png").rename(place / "art/z.png"), True),
    "picture removed": (pictures, lambda place: (place / "art/p03.png").unlink(), True),
    "rows replaced": (rows, lambda place: rows(place, seed=1), True),
    "row added": (rows, lambda place: rows(place, count=41), True),
    "only a time": (pictures, touch, False),
    "written again": (rows, rows, False),
}


@pytest.mark.parametrize("way", ["unfinished", "longer", "finished"])
@pytest.mark.parametrize("name", CHANGES)
def test_a_run_whose_data_have_changed_is_not_continued(compose: Any, tmp_path: Path, name: str, way: str) -> None:
    prepare, change, is_other = CHANGES[name]
    words = [*prepare(tmp_path), *SMALL]
    config, folder = compose([*words, "trainer.epochs=1"]), tmp_path / "run"
    run(parse(config), config, folder)
    kept = json.loads((folder / "environment.json").read_text())["dataset"]
    if way == "unfinished":
        (folder / "summary.json").unlink()
    if way == "longer":
        config = compose([*words, "trainer.epochs=2", f"resume={folder}"])
    change(tmp_path)
    if not is_other:
        run(parse(config), config, folder)
        return
    weights = (folder / "checkpoints" / "last.safetensors").read_bytes()
    with pytest.raises(DataError, match=f"data have changed: checksum {kept['checksum']} then, "):
        run(parse(config), config, folder)
    assert json.loads((folder / "environment.json").read_text())["dataset"] == kept
    assert (folder / "checkpoints" / "last.safetensors").read_bytes() == weights


@pytest.mark.parametrize("kind", ["grid", "optuna"])
@pytest.mark.parametrize("name", ["picture added", "rows replaced", "only a time"])
def test_a_sweep_compares_runs_of_the_same_data(tmp_path: Path, kind: str, name: str) -> None:
    prepare, change, is_other = CHANGES[name]
    words = [*prepare(tmp_path), *SMALL, "trainer.epochs=1"]
    first, more = ["seed=0"], ["seed=0,1"]
    if kind == "optuna":
        pytest.importorskip("optuna")
        words += ["hydra/sweeper=optuna", "optimizer.lr=interval(0.001,0.01)"]
        first, more = ["hydra.sweeper.trials=1"], ["hydra.sweeper.trials=2"]
    out = tmp_path / "sweep"
    aerun.run_sweep(*words, *first, out=out, verbose=False)
    change(tmp_path)
    if is_other:
        with pytest.raises(AerunError) as caught:
            aerun.run_sweep(*words, *more, out=out, verbose=False)
        said = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
        assert "its data have changed" in said
    else:
        aerun.run_sweep(*words, *more, out=out, verbose=False)
    assert len(list(out.glob("*/summary.json"))) == (1 if is_other else 2)


def test_what_is_not_known_is_said(
    compose: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another version of aerun, a missing checksum, missing data of a finished run; a damaged file is kept."""
    caplog.set_level(logging.INFO)
    words, folder = rows(tmp_path), tmp_path / "run"
    config = compose([*words, *SMALL, "trainer.epochs=1"])
    run(parse(config), config, folder)
    path = folder / "environment.json"
    environment = json.loads(path.read_text())
    environment["versions"]["aerun"] = "9.9.9"
    path.write_text(json.dumps(environment))
    run(parse(config), config, folder)
    assert "was written by aerun 9.9.9" in caplog.text
    del environment["dataset"]
    path.write_text(json.dumps(environment))
    run(parse(config), config, folder)
    assert "has no checksum" in caplog.text
    path.write_text("{")
    with pytest.raises(DataError, match=r"environment\.json: cannot be read"):
        run(parse(config), config, folder)
    assert path.read_text() == "{"
    path.write_text(json.dumps(environment))
    (tmp_path / "x.npz").rename(tmp_path / "moved.npz")
    run(parse(config), config, folder)
    assert "its data cannot be read again" in caplog.text


def test_data_that_were_mended_before_anything_was_trained_are_used(compose: Any, tmp_path: Path) -> None:
    words, folder = rows(tmp_path), tmp_path / "run"
    config = compose([*words, *SMALL, "trainer.epochs=1"])
    run(parse(config), config, folder)
    for path in (folder / "checkpoints").iterdir():
        path.unlink()
    (folder / "summary.json").unlink()
    rows(tmp_path, seed=1)
    run(parse(config), config, folder)
