"""The Python doors: the same runs as the command line's, from arrays and folders, as a guest in somebody's process."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import logging
import pickle
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

import aerun
from aerun.base.progress_bar import in_notebook
from aerun.config.override_syntax import quoted
from aerun.contracts import EpochEnd, Metric, Observer
from aerun.dataset import FashionMNISTMini
from aerun.errors import CallbackError, ConfigError, DataError
from aerun.python.data_source import as_images, data_source
from aerun.python.results import Rows, SweepResult, TrainedRun
from aerun.python.train import named_observers
from aerun.runs.folder import read_status
from aerun.runs.reopen import reevaluate
from aerun.sweep.job_runner import SweepError

Train = Callable[..., subprocess.CompletedProcess[str]]
TINY = ["model.code_size=8", "trainer.epochs=2", "trainer.device=cpu", "trainer.threads=1", "trainer.pictures=0"]
MINI = ["dataset.train_limit=400", "dataset.validation=100", *TINY]


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """300 real images, uint8 [N,H,W]."""
    arrays = FashionMNISTMini(
        validation=0.1,
        train_limit=None,
        split_seed=0,
        normalize="none",
        input_transform=[],
        target_transform=[],
    ).read()
    chosen: np.ndarray = np.array(arrays.train[:300, 0])
    return chosen


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def trained(images: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    return aerun.train(*TINY, data=images, out=tmp_path_factory.mktemp("runs") / "run", verbose=False)


def weights(folder: Path, name: str = "best") -> str:
    """SHA-256 of a checkpoint's weights."""
    digest = hashlib.sha256()
    for key, value in sorted(load_file(folder / "checkpoints" / f"{name}.safetensors").items()):
        digest.update(key.encode() + value.numpy().tobytes())
    return digest.hexdigest()


# The same as the command line.


def test_the_weights_are_those_of_the_command_line(here: Path, train: Train) -> None:
    words = [*MINI, "model=conv", "noise=[gaussian,dust]", "sparsity=topk", "sparsity.k=3", "callback=[ema]"]
    words.remove("model.code_size=8")
    done = train(*words, "hydra.run.dir=typed")
    assert done.returncode == 0, done.stderr
    torch.manual_seed(123)
    run = aerun.train(*words, verbose=False)
    assert run.folder.parent == here / "outputs" and run.folder.name.startswith("conv-topk-several-k3_")
    for name in ("best", "last", "ema"):
        assert weights(run.folder, name) == weights(here / "typed", name)
    # How many checkpoints there were is a matter of time.
    names = [
        {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not re.search("tfevents|previous", p.name)}
        for folder in (run.folder, here / "typed")
    ]
    assert names[0] == names[1]
    files = [yaml.safe_load((folder / "overrides.yaml").read_text()) for folder in (run.folder, here / "typed")]
    assert files[0] == files[1]
    printed = done.stdout[done.stdout.index("test error") :]
    assert str(run).partition("best epoch")[0] in printed  # after it comes the speed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sparsity=topkk"], r"sparsity=topkk: there is no such option\. Did you mean 'topk'\?"),
        (["optimizer.lrr=1"], r"optimizer\.lrr: there is no such key\. Did you mean 'optimizer\.lr'\?"),
        (["model.code_size=0"], r"model\.code_size=0: must be a whole number, at least 1"),
        (["sparsity=topk", "sparsity.k=9", "model.code_size=8"], r"sparsity\.k=9 is larger than the code size"),
        (["seed=0,1"], r"use aerun\.run_sweep"),
        (["-m", "seed=0,1"], r"-m: is a flag of the command line; several runs are aerun\.run_sweep"),
        (["hydra.run.dir=here"], r"hydra\.run\.dir=here: is read by the command line only; the folder is out=FOLDER"),
        (["hydra/launcher=joblib"], r"hydra/launcher=joblib: is read by the command line only"),
        (["sweep.name=x"], r"sweep\.name=x: applies only to sweeps: with -m .in Python: aerun\.run_sweep"),
        (["resume=nowhere"], r"resume=nowhere: there is no such run folder"),
        ([["model=conv"]], r"\['model=conv'\]: words are strings, .* handed over as \*words"),
        (["dataset=array", "dataset.root=nothing.npz"], r"dataset\.root=.*nothing\.npz: no such file"),
    ],
)
def test_what_does_not_work_is_a_line_and_leaves_nothing(here: Path, words: list[Any], message: str) -> None:
    with pytest.raises(aerun.AerunError, match=message) as raised:
        aerun.train(*words)
    assert "\n" not in str(raised.value) and not list(here.glob("outputs/*"))


# Data.


def test_an_array_is_found_by_everything_that_opens_the_run(
    images: np.ndarray, trained: TrainedRun, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    root = Path(yaml.safe_load((trained.folder / "config.yaml").read_text())["dataset"]["root"])
    assert root.parent == trained.folder.parent / "arrays"
    shutil.copytree(trained.folder, folder)
    assert reevaluate(folder)["differs_from_summary"] == []
    assert torch.equal(aerun.load(folder).encode(images), trained.model.encode(images))
    # The same as from a file, in whatever layout it was handed over.
    np.savez(tmp_path / "it's = a, [file].npz", images=images[:, None])
    from_file = aerun.train(*TINY, data=tmp_path / "it's = a, [file].npz", out=tmp_path / "file", verbose=False)
    last = aerun.train(*TINY, data=torch.from_numpy(images)[..., None], out=tmp_path / "b" / "x", verbose=False)
    assert weights(from_file.folder) == weights(last.folder) == weights(trained.folder)
    # A finished run comes back as it is, and continues without the array.
    written = (folder / "summary.json").stat().st_mtime_ns
    again = aerun.train(*TINY, data=images, out=last.folder, verbose=False)
    assert again.summary == last.summary and (folder / "summary.json").stat().st_mtime_ns == written
    longer = aerun.train(f"resume={folder}", "trainer.epochs=3", verbose=False)
    assert longer.folder == folder and longer.summary["epochs"] == 3


def test_other_data_are_rejected_and_lost_data_come_back(images: np.ndarray, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run = aerun.train(*TINY, "seed=1", data=images[:200], out=folder, verbose=False)
    [file] = (tmp_path / "arrays").iterdir()
    for words, out in ((["seed=1", *TINY], folder), ([f"resume={folder}"], None)):
        with pytest.raises(
            DataError, match=rf"was trained on other data, {file.name}; .* has the checksum [0-9a-f]{{16}}"
        ):
            aerun.train(*words, data=images[:190], out=out)
    assert [file] == list((tmp_path / "arrays").iterdir())
    content = file.read_bytes()
    file.unlink()
    longer = aerun.train(f"resume={folder}", "trainer.epochs=3", data=images[:200], verbose=False)
    assert file.read_bytes() == content and longer.summary["epochs"] == 3
    assert longer.summary["dataset_checksum"] == run.summary["dataset_checksum"]
    with pytest.raises(ConfigError, match="a resumed run keeps its data"):
        aerun.train(f"resume={folder}", data=file)
    # A run that does not begin leaves no file.
    with pytest.raises(ConfigError, match=r"model\.hidden=.*too small"):
        deep = ["model=conv", "model.hidden=[2,2,2,2,2,2,2]"]
        aerun.train(*TINY[1:], *deep, data=images[:50], out=tmp_path / "deep", verbose=False)
    assert not (tmp_path / "deep").exists()
    assert [file] == list((tmp_path / "arrays").iterdir())


def test_a_pair_is_training_and_test(images: np.ndarray, here: Path) -> None:
    floats = torch.from_numpy(images).double()[:, None] / 255
    run = aerun.train(*TINY, data=(floats[:200], floats[200:]), verbose=False)
    described = json.loads((run.folder / "environment.json").read_text())["dataset"]
    assert described["images"] == {"train": 180, "validation": 20, "test": 100}
    outputs = run.model.reconstruct(floats[200:])
    error = float((outputs - floats[200:]).square().mean())
    assert run.summary["test"]["mse"] == pytest.approx(error, rel=1e-5)


def test_a_folder_of_pictures(images: np.ndarray, here: Path) -> None:
    for number, image in enumerate(images[:60]):
        place = here / "~my pictures" / f"class {number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number:02}.png")
    run = aerun.train(*TINY, "dataset.size=28", "dataset.channels=1", data="~my pictures", out="run", verbose=False)
    assert json.loads((run.folder / "environment.json").read_text())["dataset"]["input_shape"] == [1, 28, 28]
    picture = Image.open(here / "~my pictures" / "class 0" / "00.png")
    assert torch.equal(run.model.encode(picture), run.model.encode(images[0]))


RAMP = np.linspace(0, 1, 5 * 8 * 8, dtype=np.float32).reshape(5, 8, 8)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (RAMP, RAMP[:, None]),
        (RAMP.astype(np.float64)[..., None], RAMP[:, None]),
        (torch.from_numpy(RAMP)[:, None].bfloat16(), torch.from_numpy(RAMP)[:, None].bfloat16().float().numpy()),
        (np.stack([RAMP] * 3, -1), np.stack([RAMP] * 3, 1)),
        (np.stack([RAMP] * 3, 1), np.stack([RAMP] * 3, 1)),
        ((RAMP * 255).astype(np.uint8), (RAMP * 255).astype(np.uint8)[:, None]),
        (RAMP.reshape(5, 64) * 40 - 7, RAMP.reshape(5, 64) * 40 - 7),
        (np.asfortranarray(RAMP.astype(">f4")), RAMP[:, None]),
    ],
)
def test_layouts_of_arrays(given: Any, wanted: np.ndarray) -> None:
    found = as_images(given, "data")
    assert found.dtype == wanted.dtype and found.dtype.isnative and np.array_equal(found, wanted)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            RAMP * 255,
            r"data: float32 \[5, 8, 8\]: from 0 to 255, but images are floats in \[0,1\]\. Divide by the value",
        ),
        (RAMP - 0.5, r"from -0\.5 to 0\.5, but images are floats in \[0,1\].*numpy\.savez"),
        ((RAMP * 255).astype(np.int64), r"int64 \[5, 8, 8\]: from 0 to 255, .*data\.astype\('uint8'\)"),
        ((RAMP * 60000).astype(np.uint16), r"uint16 .*from 0 to 60000, .*\(data / 65535\)\.astype\('float32'\)"),
        (RAMP > 0.5, r"bool .*data\.astype\('float32'\)"),
        (RAMP.astype(complex), r"complex128 \[5, 8, 8\]: these are not numbers"),
        (np.zeros((8, 8), np.uint8), r"uint8 \[8, 8\]: one image, or vectors\?"),
        (np.zeros((60, 60, 3), np.uint8), r"looks like one color image \[H,W,C\]; .*numpy\.stack"),
        (np.zeros((5, 3, 8, 3), np.uint8), r"may be \[N,H,W,C\] or \[N,C,H,W\]; put the channels first"),
        (np.zeros((5, 8, 8, 2), np.uint8), r"has no dimension of 1, 3 or 4 channels"),
        (np.zeros((0, 8, 8), np.uint8), r"\[0, 8, 8\]: expected images"),
        (np.zeros(8), r"\[8\]: expected images \[N,H,W\]"),
        ([RAMP], r"got a list; expected a folder .*numpy\.stack"),
        ((RAMP, np.arange(5)), r"second of a pair has the shape \[5\], as labels have"),
        ((RAMP, RAMP[:, 1:]), r"training and test images differ .*float32 \[5, 1, 8, 8\] and float32 \[5, 1, 7, 8\]"),
        ("mnist", r"data=.*mnist: there is no such file or folder; .*'dataset=mnist'"),
        (__file__, r"is neither a folder of pictures nor a \.npz or \.npy file"),
    ],
)
def test_data_of_uncertain_meaning_are_refused_in_a_line(given: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as raised:
        data_source(given)
    assert "\n" not in str(raised.value)


def test_data_are_named_once(images: np.ndarray) -> None:
    with pytest.raises(ConfigError, match=r"dataset=mnist and data=: both say what to train on"):
        aerun.train("dataset=mnist", data=images)


@pytest.mark.parametrize("name", ["plain", "it's", "a\\'b", "ends\\", "a=b, [c] {d} (e)", "ünï"])
def test_paths_survive_the_grammar_of_overrides(name: str) -> None:
    from aerun.config.compose import compose_words

    path = Path("/", name)
    config, _ = compose_words(["dataset=array", f"dataset.root={quoted(path)}"])
    assert config["dataset"]["root"] == str(path)


# A guest in somebody's process.


def test_nothing_is_left_behind_and_twice_is_the_same(
    images: np.ndarray, trained: TrainedRun, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = logging.StreamHandler(io.StringIO())
    logger = logging.getLogger("aerun")
    logger.addHandler(theirs)
    handler = signal.getsignal(signal.SIGINT)

    def state() -> list[Any]:
        return [
            *(torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), torch.is_grad_enabled()),
            *(logger.handlers[:], logger.level, logger.propagate, logging.getLogger().handlers[:]),
            *(signal.getsignal(signal.SIGINT), threading.active_count(), torch.get_rng_state().tolist()),
        ]

    try:
        torch.manual_seed(5)
        before = state()
        words = ["trainer.deterministic=true" if word == "trainer.threads=1" else word for word in TINY]
        aerun.train(*words, "trainer.threads=2", data=images, out="loud")
        assert state() == before and signal.getsignal(signal.SIGINT) is handler
        loud = capsys.readouterr().out.splitlines()
        assert loud[0].startswith("243 training, 27 validation, 30 test images") and loud[2].startswith("epoch 1/2")
        quiet = aerun.train(*TINY, data=images, out="quiet", verbose=False)
        assert state() == before and capsys.readouterr().out == ""
        assert weights(quiet.folder) == weights(trained.folder)
        with pytest.raises(ConfigError):
            aerun.train(*TINY, "init_from=nowhere", data=images, out="failed")
        assert state() == before and not Path("failed").exists()
        assert "epoch 1/2" in (quiet.folder / "aerun.log").read_text()
        assert "epoch 1" not in theirs.stream.getvalue()  # its level had let no such line through
    finally:
        logger.removeHandler(theirs)


def test_a_program_that_uses_hydra_itself_continues_undisturbed(here: Path) -> None:
    from hydra import compose, initialize_config_dir

    (here / "theirs.yaml").write_text("key: 1\n")
    with initialize_config_dir(str(here), version_base="1.3"):
        with pytest.raises(ConfigError, match="Did you mean"):
            aerun.train("optimizer.lrr=1")
        with pytest.raises(ConfigError, match=r"1 of 2 points are invalid"):
            aerun.run_sweep("seed=0,x", verbose=False)
        assert compose("theirs") == {"key": 1}


def test_threads_get_the_weights_that_they_get_alone(images: np.ndarray, trained: TrainedRun, here: Path) -> None:
    found: dict[int, Any] = {}

    def work(seed: int) -> None:
        try:
            found[seed] = aerun.train(*TINY, f"seed={seed}", data=images, out=f"thread{seed}", verbose=False)
        except BaseException as error:
            found[seed] = error

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert weights(found[0].folder) == weights(trained.folder) != weights(found[1].folder)


class Interrupt(Observer):
    """Ctrl-C after some step, ``times`` in a row."""

    def __init__(self, at: int, times: int = 1) -> None:
        self.at, self.times = at, times

    def step(self, step: int, values: Mapping[str, float] | None) -> None:
        for _ in range(self.times if step == self.at else 0):
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_saves_and_says_how_to_continue(
    images: np.ndarray, trained: TrainedRun, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        aerun.train(*TINY, data=images, out="run", callback=Interrupt(3), verbose=False)
    assert 'aerun: stopped; aerun.train("resume=run") continues the run' in capsys.readouterr().err
    status = read_status(Path("run"))
    assert status is not None and status["state"] == "stopped"
    with pytest.raises(DataError, match=r"has not finished; aerun\.train\('resume="):
        _ = TrainedRun(Path("run")).summary
    run = aerun.train("resume=run", verbose=False)
    assert weights(run.folder) == weights(trained.folder)
    # A second one does not wait, and does not end the process.
    with pytest.raises(KeyboardInterrupt):
        aerun.train(*TINY, data=images, out="twice", callback=Interrupt(1, 2), verbose=False)
    again = aerun.train(*TINY, data=images, out="twice", verbose=False)
    assert weights(again.folder) == weights(trained.folder)


# Observers.


class Watcher:
    """Not a subclass: some of the methods."""

    metrics = (Metric("brightness", higher_is_better=True),)

    def __init__(self) -> None:
        self.epochs: list[int] = []

    def epoch(self, end: EpochEnd) -> None:
        self.epochs.append(end.epoch)

    def measure(self, autoencoder: Any, part: str, evaluate: Any) -> dict[str, float]:
        return {"brightness": 0.5 if part == "validation" else 0.25}


class Broken(Observer):
    def epoch(self, end: EpochEnd) -> None:
        raise ValueError("no\nluck")


def test_observers_are_objects_of_the_caller(images: np.ndarray, here: Path) -> None:
    watcher, first, second = Watcher(), Interrupt(-1), Interrupt(-1)
    run = aerun.train(*TINY, data=images, out="run", callback=[watcher, first, second], verbose=False)
    assert watcher.epochs == [1, 2]
    assert [line["validation/brightness"] for line in run.metrics] == [0.5, 0.5]
    assert run.summary["test"]["brightness"] == 0.25 and run.summary["metrics"]["brightness"]["higher_is_better"]
    assert "callback: {}" in (run.folder / "config.yaml").read_text()
    assert reevaluate(run.folder)["differs_from_summary"] == []  # the object is not here to measure
    with pytest.raises(CallbackError, match=r"callback=Broken: ValueError in epoch: no luck"):
        aerun.train(*TINY, data=images, out="broken", callback=Broken())
    with pytest.raises(ConfigError, match=r"callback=Watcher and trainer\.processes=2: objects stay in this process"):
        aerun.train(*TINY, "trainer.processes=2", data=images, out="two", callback=watcher)


def test_names_of_observers() -> None:
    assert list(named_observers([Broken(), Watcher(), Broken()])) == ["Broken", "Watcher", "Broken2"]
    for given, message in (
        (Broken, r"callback=Broken: is a class; hand over an object, Broken\(\.\.\.\)"),
        (print, r"callback=.*print.*: has none of the methods begin, step"),
        (SimpleNamespace(epoch=print), r"callback=SimpleNamespace: must be a subclass of aerun\.contracts\.Observer"),
    ):
        with pytest.raises(ConfigError, match=message):
            named_observers(given)


# What comes back.


def test_a_run_shows_what_its_folder_holds(trained: TrainedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    assert trained.summary == json.loads((trained.folder / "summary.json").read_text())
    assert isinstance(trained.metrics, Rows) and [line["epoch"] for line in trained.metrics] == [1, 2]
    assert "<th>validation/mse</th>" in trained.metrics._repr_html_()
    files = {path.stem: path for path in (trained.folder / "figures").glob("*.png")}
    assert set(trained.figures) == set(files) and "curves_loss" in repr(trained.figures)
    figure = trained.figures["curves_loss"]
    assert figure._repr_png_() == files["curves_loss"].read_bytes()
    assert trained.figures._repr_html_().count("data:image/png;base64,") == len(files)
    page = trained._repr_html_()
    assert "autoencoder" in page and f"{trained.summary['test']['mse']:.6g}" in page and page.count("<img") == 1
    assert f"{trained.summary['test']['mse']:.6f}" in str(trained)
    for each in (pickle.loads(pickle.dumps(trained)), copy.deepcopy(trained), TrainedRun(trained.folder)):
        assert each == trained and each.summary == trained.summary
    pandas = ModuleType("pandas")
    monkeypatch.setitem(sys.modules, "pandas", pandas)
    monkeypatch.setattr(pandas, "DataFrame", lambda rows: ("frame", rows), raising=False)
    assert trained.metrics == ("frame", [dict(line) for line in trained.metrics[1]])


def test_the_bar_is_shown_in_a_notebook(
    images: np.ndarray, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not in_notebook()
    shell = ModuleType("ipykernel.zmqshell")
    monkeypatch.setitem(sys.modules, "ipykernel.zmqshell", shell)
    monkeypatch.setattr(shell, "ZMQInteractiveShell", SimpleNamespace(initialized=lambda: True), raising=False)
    assert in_notebook()
    aerun.train(*TINY, data=images, out="run")
    shown = capsys.readouterr()
    assert "epoch 1/2" in shown.err and "epoch 1/2" not in shown.out
    aerun.train(*TINY, data=images, out="other", verbose=False)
    assert "epoch 1/2" not in capsys.readouterr().err


# Many runs.


def test_a_sweep_is_that_of_the_command_line(
    images: np.ndarray, trained: TrainedRun, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-m", *TINY, "optimizer.lr=0.001,1e9", "seed=0"]
    with pytest.raises(SweepError, match="1 of 2 jobs failed"):
        aerun.run_sweep(*words, data=images, name="grid")
    printed = capsys.readouterr().out
    assert "[2/2]  diverged   optimizer.lr=1e+09" in printed
    assert 'continue    aerun.run_sweep("model.code_size=8"' in printed and 'out="outputs/grid")' in printed
    index = json.loads(Path("outputs/grid/sweep.json").read_text())
    assert index["command"][:2] == ["aerun.run_sweep", "model.code_size=8"]
    assert aerun.compare_runs("outputs/grid").comparison.states == {"finished": 1, "diverged": 1}
    sweep = SweepResult(here / "outputs" / "grid")
    [good, bad] = sweep.runs
    assert bad["state"].startswith("diverged") and good["optimizer.lr"] == 0.001 and good["test/mse"] > 0
    assert "n" not in good and "test/mse std" not in good
    assert sweep.best.folder == Path(good["folder"]) and weights(sweep.best.folder) == weights(trained.folder)
    assert "<table>" in sweep._repr_html_() and "optimizer.lr" in str(sweep)
    compared = aerun.compare_runs(trained.folder, "outputs", metric="psnr", where=["state=finished"])
    assert [row["runs"] for row in compared.rows] == [1, 1] and "test/psnr std" in compared.rows[0]
    assert compared.best.summary["test"] == trained.summary["test"]
    with pytest.raises(ConfigError, match=r"--metric nothing: no run has this number"):
        aerun.compare_runs("outputs", metric="nothing")


def test_a_sweep_in_a_thread_and_in_processes(images: np.ndarray, trained: TrainedRun, here: Path) -> None:
    found: list[Any] = []
    words = (*TINY, "seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=1")
    thread = threading.Thread(
        target=lambda: found.append(aerun.run_sweep(*words, data=images, name="grid", verbose=False))
    )
    thread.start()
    thread.join()
    [sweep] = found
    assert {weights(Path(row["folder"])) for row in sweep.runs} > {weights(trained.folder)}
    for given in ({"out": "a", "name": "b"}, {"out": "a", "words": ["sweep.name=b"]}):
        with pytest.raises(ConfigError, match="choose the same folder; keep one"):
            aerun.run_sweep("seed=0,1", *given.pop("words", []), **given)
    with pytest.raises(ConfigError, match=r"1 of 2 points are invalid") as raised:
        aerun.run_sweep("sparsity=none,topkk", out="bad", verbose=False)
    assert "Did you mean 'topk'" in raised.value.__notes__[0] and not Path("bad").exists()
