"""Runs and collections that are used where they cannot be written to, on other devices, and after they were moved."""

from __future__ import annotations

import importlib
import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from aerun.base.files import storage_error
from aerun.cli import evaluate, organise, search
from aerun.cli import map as map_command
from aerun.cli.main import COMMANDS
from aerun.errors import ConfigError, DataError
from aerun.use.collection.embedding import embed
from aerun.use.collection.fingerprint_files import load_fingerprints, save_fingerprints
from tests.use.test_compression import LATENTS
from tests.use.test_edges import call

Trained = Callable[..., Path]
CODEC = LATENTS["hyperprior"]
ABSENT = "mps" if not torch.backends.mps.is_available() else "cuda"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def copy(trained: Trained, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained(), tmp_path / "run"))


@pytest.fixture
def read_only(copy: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder that this user may not write to; the superuser may write everywhere."""
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not Path(path).is_relative_to(copy) and real(path, mode))
    return copy


def test_evaluating_needs_no_right_to_write(
    read_only: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    before = contents(read_only)
    assert evaluate.evaluate([f"run={read_only}"]) == 0
    assert "agrees with summary.json to the last digit" in capsys.readouterr().out
    assert "may not be written to, so there are no new figures; output=FOLDER writes them elsewhere" in caplog.text
    assert contents(read_only) == before
    caplog.clear()
    assert evaluate.evaluate([f"run={read_only}", f"output={tmp_path / 'elsewhere'}"]) == 0
    found = contents(tmp_path / "elsewhere")
    assert json.loads(found["evaluation.json"])["test"] == json.loads(before["summary.json"])["test"]
    assert any(name.startswith("figures/") for name in found) and contents(read_only) == before and not caplog.text


def test_where_to_write_is_no_other_run(copy: Path, trained: Trained) -> None:
    with pytest.raises(ConfigError, match=r"output=.*: is a run folder; name another folder"):
        evaluate.evaluate([f"run={copy}", f"output={trained()}"])


def test_evaluating_needs_no_device_of_another_machine(
    copy: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    config = yaml.safe_load((copy / "config.yaml").read_text())
    config["trainer"]["device"] = ABSENT
    (copy / "config.yaml").write_text(yaml.safe_dump(config))
    assert evaluate.evaluate([f"run={copy}"]) in (0, 1)  # 1: last digits differ on another device
    assert f"trainer.device={ABSENT}: is not available" in caplog.text and "autoencoder" in capsys.readouterr().out
    caplog.clear()
    assert evaluate.evaluate([f"run={copy}", "device=cpu"]) in (0, 1) and not caplog.text
    with pytest.raises(ConfigError, match=f"device={ABSENT}: is not available"):
        evaluate.evaluate([f"run={copy}", f"device={ABSENT}"])
    with pytest.raises(ConfigError, match=r"devise=cpu: there is no such key\. Did you mean 'device'\?"):
        evaluate.evaluate([f"run={copy}", "devise=cpu"])


def test_free_bytes_are_named_on_a_full_disk_alone(tmp_path: Path) -> None:
    assert "bytes are free" in str(storage_error(OSError(28, "No space left on device"), tmp_path / "a", 5))
    assert "bytes are free" not in str(storage_error(PermissionError(13, "Permission denied"), tmp_path / "a", 5))


@pytest.fixture
def moved(trained: Trained, tmp_path: Path) -> tuple[Path, Path, Path]:
    """A run, the fingerprints of a folder of images, and where these are now."""
    random = np.random.default_rng(0)
    (tmp_path / "art").mkdir()
    for number in range(8):
        Image.fromarray(random.integers(0, 256, (28, 28), np.uint8)).save(tmp_path / "art" / f"{number}.png")
    prints = embed(trained(), tmp_path / "art")
    save_fingerprints(prints, tmp_path / "art.npz", prints.pack())
    (tmp_path / "art").rename(tmp_path / "moved")
    return trained(), tmp_path / "art.npz", tmp_path / "moved"


def test_moved_images_are_said_and_found_again(
    moved: tuple[Path, Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, codes, new = moved
    caplog.set_level(logging.WARNING)
    sheet = ("--sheet", tmp_path / "sheet.png")
    call(search, run, codes, "1.png", "-k", "3", *sheet)
    assert "4 of 4 images shown cannot be read and are gray" in caplog.text and "--folder FOLDER" in caplog.text
    gray = np.asarray(Image.open(tmp_path / "sheet.png"))
    caplog.clear()
    call(search, run, codes, "1.png", "-k", "3", *sheet, "--overwrite", "--folder", new)
    call(search, run, codes, "1.png", "-k", "3", "--cropped", "--folder", new)
    call(organise, run, codes, "-o", tmp_path / "clusters", "--clusters", "2", "--links", "--folder", new)
    assert not caplog.text and not np.array_equal(np.asarray(Image.open(tmp_path / "sheet.png")), gray)
    links = [path for path in (tmp_path / "clusters" / "links").rglob("*") if path.is_symlink()]
    assert len(links) == 8 and all(link.exists() for link in links)


@pytest.mark.parametrize("words", [("1.png", "--cropped"), ("--duplicates", "auto")])
def test_what_needs_the_images_names_the_way_to_them(moved: tuple[Path, Path, Path], words: tuple[str, ...]) -> None:
    run, codes, new = moved
    with pytest.raises(DataError, match=r"art: 8 of 8 images are gone, the first is 0\.png; .* --folder FOLDER"):
        call(search, run, codes, *words)
    call(search, run, codes, *words, "--folder", new)


def test_maps_of_moved_images(moved: tuple[Path, Path, Path], tmp_path: Path) -> None:
    run, codes, new = moved
    with pytest.raises(DataError, match="8 of 8 images are gone"):
        call(map_command, run, codes, "-o", tmp_path / "maps")
    call(map_command, run, codes, "-o", tmp_path / "maps", "--folder", new)


def test_a_graph_that_cannot_be_kept_is_searched(
    moved: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("faiss")
    run, codes, _ = moved

    def refuse(path: Path, content: bytes) -> None:
        raise storage_error(PermissionError(13, "Permission denied"), path, len(content))

    monkeypatch.setattr("aerun.use.search.hnsw.write_bytes", refuse)
    call(search, run, codes, "1.png", "-k", "3", "--index", "hnsw")
    assert "Permission denied); the graph is not kept" in caplog.text


def test_commands_that_read_a_run_write_nothing_to_it(read_only: Path, trained: Trained, tmp_path: Path) -> None:
    """Each command but those of training and sending, on a run folder that stays as it is, to the last file."""
    codec, out = trained(*CODEC), tmp_path / "out"
    before = contents(read_only), contents(codec)
    Image.fromarray(np.zeros((28, 28), np.uint8)).save(tmp_path / "a.png")
    words: dict[str, tuple[object, ...]] = {
        "evaluate": (f"run={read_only}",),
        "compare": (read_only,),
        "status": (read_only, "--best"),
        "tidy": (read_only, "--delete", "failed", "--keep", "weights"),
        "doctor": (read_only,),
        "denoise": (read_only, tmp_path / "a.png", out / "b.png"),
        "embed": (read_only, "--split", "test", "-o", out / "test.npz"),
        "compress": (codec, tmp_path / "a.png", out / "a.aec"),
        "decompress": (codec, out / "a.aec", out / "a.png"),
        "search": (read_only, out / "test.npz", "test/000001", "--sheet", out / "sheet.png"),
        "anomalies": (read_only, tmp_path / "a.png", "--sheet", out / "worst.png", "--false-alarms", "0.05"),
        "organise": (read_only, out / "test.npz", "-o", out / "clusters", "--clusters", "2"),
        "generate": ("interpolate", read_only, "0", "1", "-o", out / "line"),
        "map": (read_only, "-o", out / "maps"),
        "export": (read_only, out / "exported", "--format", "safetensors"),
    }
    assert set(words) == set(COMMANDS) - {"train", "track"}
    for command, arguments in words.items():
        module = importlib.import_module(f"aerun.cli.{command}")
        if command == "evaluate":
            module.evaluate([str(word) for word in arguments])
        elif command == "compare":
            module.compare_runs([str(word) for word in arguments])
        else:
            call(module, *arguments)
        assert (contents(read_only), contents(codec)) == before, command


def test_no_link_leads_nowhere(
    moved: tuple[Path, Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, codes, new = moved
    words = (run, codes, "-o", tmp_path / "clusters", "--clusters", "2")
    with pytest.raises(DataError, match=r"art: 8 of 8 images are gone, the first is 0\.png; .* --folder FOLDER"):
        call(organise, *words, "--links")
    assert not (tmp_path / "clusters").exists()
    call(organise, *words)
    assert "8 of 8 images shown cannot be read" in caplog.text
    (new / "3.png").unlink()
    call(organise, *words, "--links", "--folder", new, "--overwrite")
    links = [path for path in (tmp_path / "clusters" / "links").rglob("*") if path.is_symlink()]
    assert len(links) == 7 and all(link.exists() for link in links) and "1 of 8 images are gone" in caplog.text


def test_a_folder_without_the_images_is_refused(moved: tuple[Path, Path, Path], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match=r"other: contains none of the 8 images of .*art\.npz, such as 0\.png"):
        load_fingerprints(moved[1], tmp_path / "other")
