"""Callbacks: averaged weights against a loop in float64, resumed bit for bit; and callbacks of one's own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import aerun
from aerun.callback import EMA
from aerun.config.identity import identity
from aerun.config.parse import parse
from aerun.contracts import EpochEnd, Observer, RunView
from aerun.errors import CallbackError, DataError
from aerun.runs.reopen import reevaluate
from aerun.runs.run import run

Compose = Callable[[Sequence[str]], dict[str, Any]]
SMALL = [
    *("dataset=random", "dataset.images=120", "dataset.shape=[1,6,6]", "dataset.validation=20"),
    *("model=fc", "model.code_size=4", "trainer.epochs=3", "trainer.batch_size=16", "trainer.figures=none"),
    *("trainer.device=cpu", "trainer.threads=1", "scheduler=none"),
]


def tensors(folder: Path, name: str) -> dict[str, torch.Tensor]:
    return load_file(folder / "checkpoints" / f"{name}.safetensors")


class Weights(Observer):
    """Keeps a copy of the weights after every step."""

    def __init__(self) -> None:
        self.kept: list[dict[str, torch.Tensor]] = []

    def begin(self, run: RunView) -> None:
        self.model = run.autoencoder
        self._keep()

    def _keep(self) -> None:
        self.kept.append({name: value.detach().double().clone() for name, value in self.model.named_parameters()})

    def step(self, step: int, values: Mapping[str, float] | None) -> None:
        self._keep()


def test_the_average_is_that_of_a_loop_in_float64(compose: Compose, tmp_path: Path) -> None:
    config = compose([*SMALL, "callback=ema", "callback.ema.decay=0.8"])
    watched = Weights()
    run(parse(config), config, tmp_path / "run", pruning=watched)
    first, *rest = watched.kept
    assert len(rest) == 3 * 7  # 100 images in batches of 16
    average = dict(first)
    for number, weights in enumerate(rest):
        decay = min(0.8, (1 + number) / (10 + number))
        average = {name: decay * value + (1 - decay) * weights[name] for name, value in average.items()}
    kept = tensors(tmp_path / "run", "ema")
    for name, value in average.items():
        torch.testing.assert_close(kept[f"model.{name}"].double(), value, rtol=1e-5, atol=1e-6)
    model = aerun.load(tmp_path / "run", weights="ema")
    assert all(torch.equal(value, kept[f"model.{name}"]) for name, value in model.state_dict().items())


def test_it_is_evaluated_with_the_weights_and_changes_none_of_them(compose: Compose, tmp_path: Path) -> None:
    for name in ("none", "ema"):
        config = compose([*SMALL, f"callback={name}"])
        run(parse(config), config, tmp_path / name)
    plain, averaged = (
        {k: v for k, v in tensors(tmp_path / n, "last").items() if k[:5] == "model"} for n in ("none", "ema")
    )
    assert plain.keys() == averaged.keys() and all(torch.equal(plain[name], averaged[name]) for name in plain)
    summary = json.loads((tmp_path / "ema" / "summary.json").read_text())
    lines = [json.loads(line) for line in (tmp_path / "ema" / "metrics.jsonl").read_text().splitlines()]
    assert all("validation/ema/mse" in line for line in lines)
    assert summary["measured"] == ["ema/loss", "ema/mse", "ema/psnr"] and summary["test"]["ema/mse"] > 0
    assert summary["metrics"]["ema/psnr"] == {"unit": "dB", "higher_is_better": True}
    assert reevaluate(tmp_path / "ema")["differs_from_summary"] == []


@pytest.mark.parametrize("more", [[], ["model.hidden=[8]", "trainer=greedy", "trainer.stage_epochs=2"]])
def test_a_run_that_is_stopped_and_continued_has_the_same_average(
    compose: Compose, tmp_path: Path, more: list[str]
) -> None:
    config = compose([*SMALL, "callback=ema", *more])

    class Stop(Observer):
        def step(self, step: int, values: Mapping[str, float] | None) -> None:
            if step == 11:
                signals.request()

    from aerun.base.signals import StopSignals

    run(parse(config), config, tmp_path / "whole")
    signals = StopSignals()
    with pytest.raises(KeyboardInterrupt):
        run(parse(config), config, tmp_path / "stopped", signals=signals, pruning=Stop())
    assert any(name.startswith("callback.ema.") for name in tensors(tmp_path / "stopped", "last"))
    run(parse(config), config, tmp_path / "stopped")
    for name in ("last", "ema", "best"):
        whole, continued = (tensors(tmp_path / folder, name) for folder in ("whole", "stopped"))
        assert whole.keys() == continued.keys() and all(torch.equal(whole[key], continued[key]) for key in whole)


def test_weights_of_some_epochs_are_kept(compose: Compose, tmp_path: Path) -> None:
    config = compose([*SMALL, "callback=[snapshots,ema]", "callback.snapshots.every_epochs=2"])
    run(parse(config), config, tmp_path / "run")
    assert aerun.load(tmp_path / "run", weights="epoch2").state_dict().keys()
    with pytest.raises(
        DataError, match=r"has no weights=epoch3\. Did you mean 'epoch2'\? Available: best, ema, epoch2, last"
    ):
        aerun.load(tmp_path / "run", weights="epoch3")


def test_without_callbacks_a_run_is_what_it_was_before_there_were_any(compose: Compose) -> None:
    config = compose(SMALL)
    assert config["callback"] == {}
    assert identity(config) == identity({key: value for key, value in config.items() if key != "callback"})
    assert identity(config) != identity(compose([*SMALL, "callback=ema"]))


OWN = """
from aerun.contracts import Observer


class Mine(Observer):
    def __init__(self, at="", optional=False):
        self.at, self.optional = at, optional
        self.events = []

    def begin(self, run):
        self.run = run
        self._note("begin")

    def step(self, step, values):
        self._note("step")

    def measure(self, autoencoder, part, evaluate):
        self._note("measure")
        return {"mine": 1.0}

    def epoch(self, end):
        self._note("epoch")

    def saved(self, progress):
        self._note("saved")

    def end(self, step):
        self._note("end")
        (self.run.folder / "events.txt").write_text(" ".join(self.events))

    def _note(self, name):
        self.events.append(name)
        if name == self.at:
            raise ValueError("as asked")
"""


@pytest.fixture
def own(tmp_path: Path) -> list[str]:
    """Words that choose a callback of one's own, from a folder outside of the package."""
    (tmp_path / "mine.py").write_text(OWN)
    (tmp_path / "conf" / "callback").mkdir(parents=True)
    (tmp_path / "conf" / "callback" / "mine.yaml").write_text(
        "# @package callback.mine\n_target_: mine.Mine\nat: ''\noptional: false\n"
    )
    return ["--config-dir=conf", "callback=mine", "trusted_packages=[mine]", *SMALL]


def words_of(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


def test_one_of_ones_own_is_called_in_order_alone_and_in_every_launcher(
    train: Callable[..., Any], own: list[str], tmp_path: Path
) -> None:
    steps = ["step"] * 7
    expected = [
        "begin",
        *steps,
        "measure",
        "epoch",
        "saved",
        *steps,
        "measure",
        "epoch",
        *steps,
        "measure",
        "epoch",
        "saved",
    ]
    found = {}
    for name, more in {
        "alone": ["hydra.run.dir=alone"],
        "basic": ["-m", "seed=0,1", "sweep.name=basic", "hydra/launcher=basic"],
        "joblib": ["-m", "seed=0,1", "sweep.name=joblib", "hydra/launcher=joblib"],
        "two": ["hydra.run.dir=two", "trainer.processes=2"],
    }.items():
        done = train(*own, *more, PYTHONPATH=str(tmp_path))
        assert done.returncode == 0, words_of(done)
        folders = [path.parent for path in tmp_path.rglob("events.txt") if name in path.parts]
        assert len(folders) == (2 if name in ("basic", "joblib") else 1)
        found[name] = [(folder / "events.txt").read_text().split() for folder in folders]
    for name, all_events in found.items():
        for events in all_events:
            # Epochs that end within a second share a checkpoint, so how many there are depends on the clock.
            assert [event for event in events if event != "saved"] == [
                *(event for event in expected if event != "saved"),
                "measure",
                "end",
            ], name
            assert "saved" in events


def test_what_it_raises_is_reported_under_its_name(train: Callable[..., Any], own: list[str], tmp_path: Path) -> None:
    done = train(*own, "callback.mine.at=epoch", "hydra.run.dir=run", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert "aerun: callback=mine: ValueError in epoch: as asked" in done.stderr and "Traceback" not in done.stderr
    optional = train(
        *own, "callback.mine.at=epoch", "callback.mine.optional=true", "hydra.run.dir=other", PYTHONPATH=str(tmp_path)
    )
    assert optional.returncode == 0, words_of(optional)
    assert "callback=mine: ValueError in epoch: as asked; it is removed" in words_of(optional)


def test_an_error_of_aeruns_own_passes() -> None:
    from aerun.training.observers import Observers

    class Bad(Observer):
        def epoch(self, end: EpochEnd) -> None:
            raise ZeroDivisionError("x")

    with pytest.raises(CallbackError, match="callback=bad: ZeroDivisionError in epoch: x"):
        Observers({"bad": Bad()}).epoch(EpochEnd(1, 1, {}, True, True, 0.0), lambda: None)
    assert not EMA(0.9).optional
