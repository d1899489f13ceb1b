"""A word of a sweep means the same wherever it stands, and is shown and recorded as it was typed."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from aerun.base.environment import environment
from aerun.base.program import rewritten_argv, typed_command
from aerun.config.override_syntax import expand_words
from aerun.errors import ConfigError
from aerun.sweep.in_process import prepare_sweep
from aerun.sweep.plugin import PointSweeper

Configurations = Callable[..., list[dict[str, Any]]]
Train = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def configurations(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Configurations:
    """A function from the words of a sweep to the configurations of its points."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "art").mkdir(parents=True)

    def compose(*words: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []

        def run(self: Any, typed: Any) -> None:
            points = self.points.points(typed, self.composer.parser)
            self.composer.learn_keys(points)
            composed = [self.composer(point) for point in points]
            # The folder of the last word has no pictures.
            assert all(point.error is None or "art" in point.error for point in composed), [p.error for p in composed]
            found.extend(point.config for point in composed)

        monkeypatch.setattr(PointSweeper, "_run", run)
        sweeper, arguments = prepare_sweep([*expand_words(words, several=True), "sweep.dry_run=true"], ["x"])
        sweeper.sweep(arguments)
        return found

    return compose


WORDS = [
    ["noise=[dust,gaussian]"],
    ["noise=[dust,gaussian],none"],
    ["noise=none,[gaussian]", "noise.parts.gaussian.variance=0.2"],
    ["noise=several", "noise/parts=[dust]", "noise.parts.dust.most=3"],
    ["trainer=joint,greedy", "trainer.patience=null", "model=fc_deep"],
    ["optimizer=adam,adamw", "optimizer.foreach=null"],
    ["protocol=knn,logistic", "protocol.knn.k=3"],
    ["protocol=[knn,ssim]", "protocol.knn.k=3,4"],
    ["experiment=ksparse,fcwta", "sparsity.k=5"],
    ["experiment=ksparse", "trainer.patience=null,3"],
    ["sparsity=topk", "sparsity.k=4,8", "seed=1"],
    ["dataset=image_folder", "dataset.root=~/art", "dataset.size=16"],
]


@pytest.mark.parametrize("words", WORDS, ids=lambda words: words[0])
def test_a_word_means_the_same_typed_in_params_and_in_a_file(
    words: list[str], configurations: Configurations, tmp_path: Path
) -> None:
    from_home = [word.replace("~", str(tmp_path / "home")) for word in words]
    typed = configurations(*from_home)
    assert typed and configurations("seed=0", *words, "seed=1" if "seed=1" in words else "seed=0") == typed
    (tmp_path / "lines").write_text(shlex.join(words) + "\n")
    assert configurations("hydra/sweeper=file", "hydra.sweeper.file=lines") == typed
    if words[0].startswith("experiment"):
        return
    params = dict(word.split("=", 1) for word in words)
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\n" + yaml.safe_dump({"hydra": {"sweeper": {"params": params}}}, sort_keys=False)
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    assert configurations(f"hydra.searchpath=[file://{tmp_path}]", "experiment=mine") == typed


def test_one_point_is_what_a_single_run_is(configurations: Configurations, compose: Any) -> None:
    """Without anything swept, too, for every word that has no list."""
    for words in (["sparsity=topk", "sparsity.k=5", "trainer.patience=null"], ["protocol=knn", "protocol.knn.k=3"]):
        assert configurations(*words) == [compose(words)]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["model=fcc", "seed=0,1"], "fcc"),
        (["optimizer.lr=choice(1", "seed=0,1"], "optimizer.lr=choice(1"),
        (["sweep.nmae=x"], "sweep.nmae"),
        (["hydra.sweeper.nosuch=1"], "nosuch"),
    ],
)
def test_a_mistake_in_what_concerns_all_runs_is_found_at_once(
    words: list[str], named: str, configurations: Configurations
) -> None:
    with pytest.raises(Exception) as error:
        configurations(*words)
    assert named.split("=")[-1] in str(error.value) and not isinstance(error.value, AssertionError)


def test_what_was_typed_is_recorded_and_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    words = ["program", "-m", "noise=[dust,gaussian]"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(ConfigError), rewritten_argv(["-m", "noise=several", "noise/parts=[dust,gaussian]"]):
        assert sys.argv[1:3] == ["-m", "noise=several"]
        sys.argv[1:] = ["changed"]
        assert typed_command() == words == environment(torch.device("cpu"))["command"]
        raise ConfigError
    assert sys.argv is words and words[-1] == "noise=[dust,gaussian]" and typed_command() == words


@pytest.mark.parametrize(
    "words", [["--config-dir", ".", "experiment=mine"], ["--config-dir", ".", "--config-name", "whole"]]
)
def test_a_file_may_ask_for_a_sweep(words: list[str], train: Train, tmp_path: Path) -> None:
    asked = "hydra: {mode: MULTIRUN, sweeper: {params: {sparsity: 'none,topk', sparsity.k: 4}}}\n"
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{asked}")
    (tmp_path / "whole.yaml").write_text(f"defaults: [train, _self_]\n{asked}")
    done = train("--config-dir", ".", *words, "dataset=random", "trainer.device=cpu", "sweep.dry_run=true")
    assert done.returncode == 0 and "2 of 2 runs to do" in done.stdout, done.stdout + done.stderr


def test_the_command_of_a_sweep_is_the_typed_one(train: Train, tmp_path: Path) -> None:
    words = [
        "-m",
        "noise=[dust],none",
        "dataset=random",
        "trainer.epochs=1",
        "trainer.device=cpu",
        "trainer.pictures=0",
    ]
    words += ["dataset.images=40", "sweep.name=mine"]
    done = train(*words)
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "outputs" / "mine" / "sweep.json").read_text())
    assert content["command"][1:] == words
    assert [job["values"] for job in content["jobs"].values()] == [{"noise": ["dust"]}, {"noise": "none"}]
