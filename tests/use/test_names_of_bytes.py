"""Names of bytes that are not UTF-8, as old Windows and zip files leave them, go through every command."""

from __future__ import annotations

import importlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aerun.cli.main import COMMANDS
from aerun.config.parse import parse
from aerun.errors import ConfigError
from aerun.runs.folder import read_config
from aerun.runs.run import run as train
from aerun.use.collection.fingerprint_files import load_fingerprints
from tests.use.test_compression import LATENTS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
Call = Callable[..., str]
NAMES = [os.fsdecode(name) for name in (b"caf\xe9.png", b"gr\xf6\xdfe/b.png", b"plain.png", b"\xff\xfe.png")]
ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of such a name, with a folder ``art`` of pictures of such names."""
    folder = tmp_path_factory.mktemp("bytes") / os.fsdecode(b"bilder-gr\xf6\xdfe")
    random = np.random.default_rng(0)
    for name in [*NAMES, *(f"p{number}.png" for number in range(16))]:
        (folder / "art" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (16, 16), np.uint8)).save(folder / "art" / name)
    return folder


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, place: Path) -> Call:
    """Run a command in this process, with a strict UTF-8 output -> what it printed."""

    def run(command: str, *words: object, code: int = 0) -> str:
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict") for _ in range(2))
        err.reconfigure(errors="backslashreplace")  # as Python's own
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        monkeypatch.setattr(sys, "argv", [f"aerun-{command}", *map(str, words)])
        monkeypatch.setattr(sys, "orig_argv", [sys.executable, *sys.argv])
        monkeypatch.chdir(place)
        found = importlib.import_module(f"aerun.cli.{command}").main()
        texts = []
        for stream in (out, err):
            stream.flush()
            texts.append(stream.buffer.getvalue().decode("utf-8"))  # type: ignore[attr-defined]
        assert found == code, texts
        assert "Traceback" not in texts[1]
        return texts[0]

    return run


@pytest.fixture(scope="module")
def run(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, trained on the pictures of that folder by the command."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    words = ("dataset=image_folder", f'dataset.root="{place / "art"}"', "dataset.size=16", "model.code_size=2")
    small = ("trainer.epochs=1", "trainer.batch_size=8", "trainer.device=cpu", "trainer.threads=1", "model=fc")
    command = [*(sys.executable, "-m", "aerun", "train"), *words, "noise=gaussian", "dataset.validation=4", *small]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict", "PYTHONPATH": str(ROOT)}
    command.append(f'hydra.run.dir="{folder}"')
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    return folder


@pytest.fixture
def codes(place: Path, run: Path, call: Call) -> Path:
    if not (place / "art.npz").exists():
        call("embed", run, place / "art", "-o", place / "art.npz")
    return place / "art.npz"


def test_every_command_is_tried() -> None:
    tried = "".join(Path(__file__).read_text().split())
    assert all(f'call("{command}",' in tried for command in COMMANDS if command != "train")


def test_compressed_files(place: Path, call: Call, trained: Callable[..., Path]) -> None:
    codec = trained(*LATENTS["hyperprior"])
    call("compress", codec, place / "art", place / "small")
    call("decompress", codec, place / "small", place / "back")
    for name in NAMES:
        assert (place / "small" / f"{name}.aec").exists() and (place / "back" / name).exists()


def test_files_and_tables_of_a_run(place: Path, run: Path, call: Call) -> None:
    assert json.loads(json.dumps(read_config(run)["dataset"]["root"])) == str(place / "art")
    call("evaluate", f"run={run}")
    table = call("compare", run, "--output", place / "report", "--html", place / "page.html")
    assert "test/mse" in table
    call("doctor", run, code=2)
    copy = Path(shutil.copytree(run, place / os.fsdecode(b"copi\xe9")))
    call("evaluate", f"run={copy}")
    assert "copi\\udce9" in call("compare", copy, run, "--output", place / "report", "--html", place / "page.html")
    assert "copi\\udce9" in (place / "page.html").read_text(encoding="utf-8")
    assert "copi\\udce9" in call("status", copy, run, "--best")
    assert json.loads(call("status", copy, "--json", "--best"))["runs"] == 1
    assert "checkpoints" in call("tidy", copy)
    assert "copi\\udce9: has no tracker on a server" in call("track", copy)
    call("doctor", copy, code=2)


def test_a_run_folder_of_such_a_name_is_refused(place: Path, compose: Callable[..., dict[str, object]]) -> None:
    """TensorBoard cannot write there; whatever reads a run can read it there."""
    config = compose(["dataset=random", "dataset.shape=[6]", "model.code_size=2"])
    with pytest.raises(ConfigError, match="TensorBoard writes only to folders whose names are UTF-8; choose another"):
        train(parse(config), config, place / "new")
    assert not (place / "new").exists()


def test_cleaning(place: Path, run: Path, call: Call) -> None:
    report = json.loads(call("denoise", run, place / "art", place / "cleaned", "--json"))
    assert set(NAMES) <= {str(path.relative_to(place / "cleaned")) for path in (place / "cleaned").rglob("*.png")}
    assert set(NAMES) <= set(report["cleaned"])
    call("denoise", run, place / "art", place / "again", "--clean", place / "art")


def test_anomalies(place: Path, run: Path, call: Call) -> None:
    words = ("--false-alarms", "0.2", "--csv", place / "scores.csv", "--sheet", place / "worst.png")
    answer = json.loads(call("anomalies", run, place / "art", "--json", *words, "--maps", place / "maps.npz"))
    assert set(NAMES) <= {picture["name"] for picture in answer["pictures"]}
    assert "caf\\udce9.png" in (place / "scores.csv").read_text(encoding="utf-8")


def test_collections_keep_the_names(place: Path, run: Path, codes: Path, call: Call) -> None:
    pytest.importorskip("pyarrow")
    call("embed", run, place / "art", "-o", place / "art.parquet")
    for file in (codes, place / "art.parquet"):
        found = load_fingerprints(file)
        assert set(NAMES) <= set(found.names) and found.root == str((place / "art").resolve())
        for name in NAMES:
            sheet = ("--sheet", place / "sheet.png", "--overwrite")
            answer = json.loads(call("search", run, file, name, "-k", "19", "--json", *sheet))
            assert set(NAMES) - {name} <= set(_texts(answer))
        assert "caf\\udce9.png" in call("search", run, file, "p1.png", "-k", "19")
        assert "\\udcff" in call("search", run, file, place / "art" / NAMES[0], "-k", "19", "--cropped")
    call("search", run, codes, "--duplicates", "3", "--json")


def _texts(content: object) -> list[str]:
    """All texts of an answer."""
    if isinstance(content, dict):
        return [name for value in content.values() for name in _texts(value)]
    if isinstance(content, list):
        return [name for value in content for name in _texts(value)]
    return [content] if isinstance(content, str) else []


def test_clusters(place: Path, run: Path, codes: Path, call: Call) -> None:
    for _ in range(2):  # the second time over the first
        call("organise", run, codes, "-o", place / "clusters", "--clusters", "2", "--links", "--overwrite")
    assert "caf\\udce9.png" in (place / "clusters" / "clusters.csv").read_text(encoding="utf-8")
    links = [path for path in (place / "clusters" / "links").rglob("*") if path.is_symlink()]
    assert len(links) == 20 and all(link.exists() for link in links)


def test_figures_and_exports(place: Path, run: Path, codes: Path, call: Call) -> None:
    call("generate", "interpolate", run, place / "art" / NAMES[0], place / "art" / NAMES[3], "-o", place / "line")
    call("map", run, place / "art", "-o", place / "maps")
    call("map", run, codes, "-o", place / "maps", "--overwrite", "--thumbnails")
    call("export", run, place / "exported", "--format", "safetensors", "torch", "onnx")
