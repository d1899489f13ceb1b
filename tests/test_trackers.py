"""Trackers: what they receive, in new and resumed runs, and that none of it changes a run."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from safetensors.torch import load_file

from aerun.base.signals import StopSignals
from aerun.config.identity import identity
from aerun.config.parse import parse
from aerun.contracts import Observer, TrackedRun
from aerun.runs.run import run

Compose = Callable[[Sequence[str]], dict[str, Any]]
SMALL = [
    *("dataset=random", "dataset.images=120", "dataset.shape=[1,6,6]", "dataset.validation=20"),
    *("model=fc", "model.code_size=4", "trainer.epochs=3", "trainer.batch_size=16", "trainer.pictures=1"),
    *("trainer.device=cpu", "trainer.threads=1", "scheduler=none", "trainer.log_every_steps=3"),
]
SPEED = "train/images_per_second"


def go(compose: Compose, folder: Path, *words: str, **keys: Any) -> Path:
    config = compose([*SMALL, *words])
    run(parse(config, overrides=words), config, folder, **keys)
    return folder


class StopAt(Observer):
    """Asks the run to stop at a step."""

    def __init__(self, at: int) -> None:
        self.signals, self._at = StopSignals(), at

    def step(self, step: int, values: Mapping[str, float] | None) -> None:
        if step == self._at:
            self.signals.request()


def stop(compose: Compose, folder: Path, at: int, *words: str) -> None:
    stopper = StopAt(at)
    with pytest.raises(KeyboardInterrupt):
        go(compose, folder, *words, pruning=stopper, signals=stopper.signals)


def table(folder: Path) -> list[tuple[int, str, float]]:
    """scalars.csv without the times and speeds, which no two runs share."""
    with (folder / "scalars.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["step", "name", "value", "time"]
    return [(int(row["step"]), row["name"], float(row["value"])) for row in rows if row["name"] != SPEED]


def weights(folder: Path) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in load_file(folder / "checkpoints/last.safetensors").items()}


def test_no_tracker_changes_a_run(compose: Compose, tmp_path: Path) -> None:
    plain = go(compose, tmp_path / "plain", "tracker=none")
    both = go(compose, tmp_path / "both", "tracker=[tensorboard,csv]", "tracker.tensorboard.histograms=true")
    assert weights(plain) == weights(both)
    assert (plain / "probes.npz").read_bytes() == (both / "probes.npz").read_bytes()
    figures = [sorted((path.name, path.read_bytes()) for path in (f / "figures").iterdir()) for f in (plain, both)]
    assert figures[0] == figures[1]
    assert not list(plain.glob("events*")) and not (plain / "scalars.csv").exists()
    assert list(both.glob("events*"))
    assert identity(compose([*SMALL, "tracker=none"])) == identity(compose([*SMALL, "tracker=csv"]))


def test_csv_and_tensorboard_have_the_same_numbers_at_the_same_steps(compose: Compose, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = go(compose, tmp_path / "run", "tracker=[csv,tensorboard]")
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    shown = {
        (event.step, tag): event.value
        for tag in events.Tags()["scalars"]
        for event in events.Scalars(tag)
        if tag != SPEED and not tag[0].isdigit()
    }
    rows = {(step, name): value for step, name, value in table(folder)}
    assert rows.keys() == shown.keys() and len(rows) == len(table(folder))
    assert list(rows.values()) == pytest.approx([shown[key] for key in rows], rel=1e-6)  # events are float32
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert all(rows[line["step"], "validation/mse"] == line["validation/mse"] for line in lines)
    summary = json.loads((folder / "summary.json").read_text())
    assert rows[22, "test_baseline/pca/mse"] == summary["baselines"]["pca/mse"]


@pytest.mark.parametrize("at", [2, 7, 11])
def test_a_resumed_run_has_each_number_once(compose: Compose, tmp_path: Path, at: int) -> None:
    whole = go(compose, tmp_path / "whole", "tracker=csv")
    stop(compose, tmp_path / "cut", at, "tracker=csv")
    with (tmp_path / "cut" / "scalars.csv").open("a") as file:
        file.write("999,train/loss,1.0,1.0\n12,half a li")  # after the checkpoint, and an incomplete line
    assert table(go(compose, tmp_path / "cut", "tracker=csv")) == table(whole)


OWN = """
class Keeps:
    def __init__(self, fails_in="", optional=True):
        self.fails_in, self.optional, self.calls = fails_in, optional, []

    def open(self, run):
        self.run = run
        seen.append(self)
        self._call("open")

    def scalars(self, values, step):
        self._call("scalars")

    def picture(self, tag, png, step):
        self._call(f"picture {tag} {png[1:4].decode()}")

    def finish(self):
        self._call("finish")

    def close(self):
        self._call("close")

    def _call(self, name):
        self.calls.append(name)
        if name == self.fails_in:
            raise RuntimeError("gone")
"""


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A module with a tracker of one's own; the list has the trackers that were made."""
    module = ModuleType("own_tracker")
    seen: list[Any] = []
    module.__dict__["seen"] = seen
    exec(OWN, module.__dict__)
    monkeypatch.setitem(sys.modules, "own_tracker", module)
    return seen


def mine(**keys: Any) -> list[str]:
    node = ",".join(f"{key}: {json.dumps(value)}" for key, value in {"_target_": "own_tracker.Keeps", **keys}.items())
    return ["tracker=csv", f"+tracker.mine={{{node}}}".replace('"', ""), "trusted_packages=[own_tracker]"]


def test_a_tracker_of_ones_own_is_one_class(compose: Compose, tmp_path: Path, own: list[Any]) -> None:
    folder = go(compose, tmp_path / "run", *mine(), "seed=3")
    tracker = own[-1]
    assert tracker.calls[0] == "open" and tracker.calls[-2:] == ["finish", "close"]
    assert "picture reconstructions/test PNG" in tracker.calls and tracker.calls.count("scalars") > 3
    described: TrackedRun = tracker.run
    assert described.folder == folder and described.sweep is None and described.again_from is None
    assert described.settings["seed"] == 3 and "seed" in described.typed
    assert not any(key.startswith("tracker") for key in described.settings)


@pytest.mark.parametrize("event", ["open", "scalars", "picture data/training_images PNG", "finish", "close"])
def test_an_optional_tracker_that_fails_is_dropped(
    compose: Compose, tmp_path: Path, own: list[Any], caplog: pytest.LogCaptureFixture, event: str
) -> None:
    plain = go(compose, tmp_path / "plain", "tracker=csv")
    folder = go(compose, tmp_path / "run", *mine(fails_in=event))
    assert caplog.text.count("tracker=mine: RuntimeError in") == 1
    assert own[-1].calls.count(event) == 1 and own[-1].calls[-1] == "close"
    assert weights(plain) == weights(folder) and table(plain) == table(folder)


def test_one_that_is_not_optional_ends_the_run(compose: Compose, tmp_path: Path, own: list[Any]) -> None:
    with pytest.raises(RuntimeError, match="gone"):
        go(compose, tmp_path / "run", *mine(fails_in="scalars", optional=False))


def test_a_run_in_the_folder_of_a_sweep_is_grouped(compose: Compose, tmp_path: Path, own: list[Any]) -> None:
    (tmp_path / "grid").mkdir()
    (tmp_path / "grid" / "sweep.json").write_text("{}")
    go(compose, tmp_path / "grid" / "fc_1", *mine())
    assert own[-1].run.sweep == "grid" and own[-1].run.name == "fc_1"


@pytest.mark.parametrize("word", ["tracker=[]", "tracker=none"])
def test_a_run_without_trackers_stays_without_them(train: Callable[..., Any], tmp_path: Path, word: str) -> None:
    done = train(*SMALL, word, "trainer.epochs=1", "hydra.run.dir=run")
    assert done.returncode == 0 and "tensorboard" not in done.stdout, done.stderr
    done = train("resume=run", "trainer.epochs=2")
    assert done.returncode == 0 and not list((tmp_path / "run").glob("events*")), done.stderr
    done = train("resume=run", "trainer.epochs=3", "tracker=[tensorboard,csv]")
    assert "look at it   " in done.stdout and list((tmp_path / "run").glob("events*"))
    assert {step for step, _, _ in table(tmp_path / "run")} >= {21, 22}


def test_what_decides_is_in_the_first_groups(compose: Compose, tmp_path: Path) -> None:
    """TensorBoard opens the first two groups, and its HPARAMS tab shows the first five metrics by name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = go(compose, tmp_path / "run", "trainer.monitor=psnr")
    tags = EventAccumulator(str(folder)).Reload().Tags()
    names = ("mse", "psnr")  # and not the loss, which is the MSE
    expected = [f"1_curves/validation_{name}" for name in names] + [f"3_test/{name}" for name in names]
    assert [tag for tag in sorted(tags["scalars"]) if tag[0].isdigit()] == expected
    groups = sorted({tag.partition("/")[0] for kind in ("scalars", "images") for tag in tags[kind]})
    assert groups[:3] == ["1_curves", "2_reconstructions", "3_test"]
    assert [tag for tag in sorted(tags["images"]) if tag[0].isdigit()] == [
        *("1_curves/with_baselines", "2_reconstructions/probes", "2_reconstructions/test")
    ]


def test_a_loss_that_is_not_the_error_has_a_chart(compose: Compose, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = go(compose, tmp_path / "run", "sparsity=l1")
    events = EventAccumulator(str(folder)).Reload()
    numbers = {
        **{"1_curves/validation_mse": "validation/mse", "1_curves/validation_total_loss": "validation/loss"},
        **{"3_test/mse": "test/mse", "3_test/total_loss": "test/loss"},
    }
    for shown, number in numbers.items():
        assert [event.value for event in events.Scalars(shown)] == [event.value for event in events.Scalars(number)]


def test_runs_of_a_sweep_do_not_push_the_reconstructions_down(tmp_path: Path) -> None:
    """TensorBoard shows a picture for each run: those of the curves stay in their folded group."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from aerun.tracker import TensorBoard

    png = (Path(__file__).parent.parent / "docs" / "images" / "first_run.png").read_bytes()
    for sweep, tag in ((None, "1_curves/with_baselines"), ("grid", "curves/loss")):
        tracker = TensorBoard(projector=False, histograms=False)
        tracker.open(TrackedRun(tmp_path / str(sweep), {}, sweep=sweep))
        tracker.picture("curves/loss", png, 1)
        tracker.close()
        assert EventAccumulator(str(tmp_path / str(sweep))).Reload().Tags()["images"] == [tag]


def test_hyperparameters_are_what_was_chosen_and_typed(compose: Compose, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.metadata import parse_session_start_info_plugin_data

    config = compose([*SMALL, "sparsity=topk", "sparsity.k=2"])
    folder = tmp_path / "run"
    run(parse(config, {"sparsity": "topk"}, ["sparsity=topk", "sparsity.k=2"]), config, folder)
    events = EventAccumulator(str(folder)).Reload()
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    found = parse_session_start_info_plugin_data(content).hparams
    assert found["sparsity"].string_value == "topk" and found["sparsity.k"].number_value == 2
    assert found["seed"].number_value == 0
    assert [key for key in found if "." in key] == ["sparsity.k"]
