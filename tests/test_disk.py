"""What a run leaves on disk, by ``checkpoint.keep`` and ``trainer.figures``, and what works without the rest."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

import aerun
from aerun.compare import collect, compare
from aerun.config.parse import parse
from aerun.errors import ConfigError, DataError
from aerun.runs.reopen import reevaluate
from aerun.runs.run import run

Compose = Callable[..., dict[str, Any]]
Go = Callable[..., Path]
SMALL = [
    *("dataset=random", "dataset.images=48", "dataset.shape=[1,8,8]", "dataset.validation=8", "model.hidden=[6]"),
    *("model.code_size=3", "trainer.epochs=2", "trainer.batch_size=16", "trainer.device=cpu", "trainer.threads=1"),
]
WEIGHTS, RESUME = {"best.safetensors"}, {"best.safetensors", "last.safetensors"}


@pytest.fixture
def go(compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Go:
    """Run overrides in this process, with a checkpoint after every epoch; returns the run folder."""
    monkeypatch.setattr("aerun.training.checkpoint.MAX_SHARE_OF_TIME", math.inf)

    def start(*overrides: str, folder: str = "run", **changes: Any) -> Path:
        config = compose([*SMALL, *overrides]) | changes
        run(parse(config), config, tmp_path / folder, overrides=list(overrides))
        return tmp_path / folder

    return start


def checkpoints(folder: Path) -> set[str]:
    return {path.name for path in (folder / "checkpoints").iterdir()}


@pytest.mark.parametrize(
    ("keep", "left"), [("weights", WEIGHTS), ("last", RESUME), ("all", RESUME | {"previous.safetensors"})]
)
def test_a_finished_run_keeps_the_checkpoints_asked_for(go: Go, keep: str, left: set[str]) -> None:
    assert checkpoints(go(f"checkpoint.keep={keep}")) == left


def test_a_run_keeps_what_makes_it_longer_unless_told_otherwise(go: Go) -> None:
    folder = go()
    assert checkpoints(folder) == RESUME
    longer = go("trainer.epochs=3", resume=str(folder))
    whole = load_file(go("trainer.epochs=3", folder="whole") / "checkpoints" / "last.safetensors")
    assert all(
        bool((value == whole[name]).all())
        for name, value in load_file(longer / "checkpoints" / "last.safetensors").items()
    )


def test_a_run_that_has_not_finished_keeps_all_its_checkpoints(
    go: Go, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no more pictures")

    monkeypatch.setattr("aerun.runs.run.draw_final", fail)
    with pytest.raises(aerun.AerunError, match="no more pictures"):
        go("checkpoint.keep=weights")
    assert checkpoints(tmp_path / "run") == RESUME | {"previous.safetensors"}


def test_a_run_of_older_code_keeps_what_it_kept(compose: Compose) -> None:
    """Its configuration does not have the key."""
    config = compose(SMALL)
    del config["checkpoint"]["keep"], config["trainer"]["figures"]
    assert parse(config).checkpoint.keep == "all" and parse(config).trainer.figures == "all"


def test_a_run_without_checkpoints_is_not_trained_over(go: Go) -> None:
    folder = go("checkpoint.keep=weights")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
    with pytest.raises(ConfigError, match=r"trainer\.epochs=3: .*kept no checkpoint .*init_from="):
        go("trainer.epochs=3", "checkpoint.keep=weights", resume=str(folder))
    go("checkpoint.keep=weights")  # the same run again: it has finished
    assert all(path.read_bytes() == content for path, content in before.items())


def test_the_weights_of_such_a_run_are_used_as_before(go: Go, caplog: pytest.LogCaptureFixture) -> None:
    whole = go("callback=ema", folder="whole")
    folder = go("callback=ema", "checkpoint.keep=weights", folder="spare")
    rows = np.zeros((2, 1, 8, 8), np.uint8)
    assert bool((aerun.load(folder).encode(rows) == aerun.load(whole).encode(rows)).all())
    assert aerun.load(folder, weights="ema") is not None
    with pytest.raises(DataError, match=r"has no weights=last\..* Available: best, ema; .*checkpoint\.keep"):
        aerun.load(folder, weights="last")
    caplog.set_level(logging.WARNING)
    caplog.clear()
    assert reevaluate(whole)["differs_from_summary"] == [] and not caplog.text
    assert reevaluate(folder)["differs_from_summary"] == []
    assert (
        "last.safetensors: does not exist, so the callbacks have no state; not computed again: test/ema" in caplog.text
    )


@pytest.mark.parametrize("figures", ["all", "final", "none"])
def test_figures_are_those_asked_for(go: Go, figures: str) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = go(f"trainer.figures={figures}")
    events = EventAccumulator(str(folder), size_guidance={"images": 0})
    events.Reload()
    tags = events.Tags()["images"]
    files = {path.stem for path in (folder / "figures").glob("*.png")}
    training, final = {"data_training_images", "reconstructions_probes"}, {"reconstructions_test", "curves_loss"}
    assert training & files == (training if figures == "all" else set())
    assert final & files == (set() if figures == "none" else final)
    assert len(tags) == len(files) and any("probes" in tag for tag in tags) == (figures == "all")
    assert (folder / "probes.npz").exists() == (figures != "none")


def test_figures_change_no_number(go: Go) -> None:
    def numbers(folder: Path) -> dict[str, float]:
        return json.loads((folder / "summary.json").read_text())["test"]

    assert numbers(go()) == numbers(go("trainer.figures=none", folder="bare"))


def test_pictures_that_were_not_drawn_are_drawn_by_evaluating(go: Go, caplog: pytest.LogCaptureFixture) -> None:
    from aerun.compare.report_pictures import draw_pictures

    folder = go("trainer.figures=none")
    draw_pictures(compare(collect([folder])))
    assert "1 rows: no reconstructions, because of trainer.figures=none; aerun-evaluate draws them" in caplog.text
    caplog.clear()
    reevaluate(folder)
    assert (folder / "figures" / "reconstructions_test.png").exists()
    assert "montage" in {picture.name for picture in draw_pictures(compare(collect([folder])))} and not caplog.text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["trainer.figures=final", "trainer.pictures=3"],
            r"trainer\.pictures: has no effect, because trainer\.figures=final",
        ),
        (["trainer.figures=none", "trainer.tsne=true"], r"trainer\.tsne: has no effect, because trainer\.figures=none"),
        (["checkpoint.keep=best"], r"checkpoint\.keep=best: must be .*weights.*last.*all"),
        (["trainer.figures=some"], r"trainer\.figures=some: must be .*all.*final.*none"),
    ],
)
def test_what_has_no_effect_or_no_meaning_is_refused(compose: Compose, words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(compose([*SMALL, *words]), overrides=words)
