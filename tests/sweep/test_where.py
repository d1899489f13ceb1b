"""``sweep.where``: the points that meet a condition, and no others."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aerun.config.override_syntax import expand_words
from aerun.errors import ConfigError
from aerun.sweep.composer import ComposedPoint
from aerun.sweep.in_process import prepare_sweep
from aerun.sweep.plugin import PointSweeper

Points = Callable[..., list[ComposedPoint]]
GRID = ["model.code_size=16,32,64", "sparsity=none,topk", "sparsity.k=2,4,8"]


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Points:
    """A function from the words of a sweep to its points."""
    monkeypatch.chdir(tmp_path)

    def compose(*words: str) -> list[ComposedPoint]:
        found: list[ComposedPoint] = []

        def run(self: Any, typed: Any) -> None:
            found.extend(self._compose(typed, self.points.points(typed, self.composer.parser)))

        monkeypatch.setattr(PointSweeper, "_run", run)
        sweeper, arguments = prepare_sweep([*expand_words(words, several=True), "sweep.dry_run=true"], ["x"])
        sweeper.sweep(arguments)
        return found

    return compose


def sizes(found: list[ComposedPoint]) -> set[tuple[int, int | None]]:
    assert not [point.error for point in found if point.error]
    return {(point.config["model"]["code_size"], point.config["sparsity"].get("k")) for point in found}


@pytest.mark.parametrize("quote", ["{}", "'{}'", '"{}"'])
def test_the_points_of_a_grid(points: Points, quote: str, capsys: pytest.CaptureFixture[str]) -> None:
    condition = quote.format("sparsity=none or model.code_size<=sparsity.k*8 and not seed>0")
    pairs = {(size, k) for size, k in itertools.product((16, 32, 64), (2, 4, 8)) if size <= 8 * k}
    expected = pairs | {(size, None) for size in (16, 32, 64)}
    assert sizes(points(*GRID, f"sweep.where={condition}")) == expected
    assert f"leaves out {9 - len(pairs)} of 18 points\n" in capsys.readouterr().out


def test_points_without_a_key_are_counted(points: Points, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(sizes(points(*GRID, "sweep.where=sparsity.k>=2 and trainer.clip_norm!=1"))) == 9
    out = capsys.readouterr().out
    assert "leaves out 9 of 18 points; 9 of them have no sparsity.k; 9 of them have no trainer.clip_norm" in out


def test_a_key_that_is_not_typed_and_options_by_name(points: Points) -> None:
    found = points("model=fc,conv", "noise=none,[dust]", "protocol=none,knn", "sweep.where=protocol=none,knn")
    assert len(found) == 8
    found = points(
        "model=fc,conv", "noise=none,[dust]", "sweep.where=noise=several and model!=conv and trainer.epochs=30"
    )
    assert [point.overrides for point in found] == [["model=fc", "noise=[dust]"]] or len(found) == 1
    experiments = points("experiment=ksparse,fcwta", "sweep.where=experiment=ksparse")
    assert [point.choices["experiment"] for point in experiments] == ["ksparse"]


def test_a_point_that_is_left_out_is_not_checked(points: Points) -> None:
    """That is what conditions are for: k above the code size is invalid."""
    words = ["model.code_size=4,16", "sparsity=topk", "sparsity.k=2,8"]
    assert [point.error is None for point in points(*words)].count(False) == 1
    assert len(sizes(points(*words, "sweep.where=sparsity.k<=model.code_size"))) == 3


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([*GRID, "sweep.where=sparsity.kk=2"], "sweep.where='sparsity.kk=2': no point has sparsity.kk. Did you mean"),
        ([*GRID, "sweep.where=model.code_size>64"], "leaves out 18 of 18 points; nothing would run"),
        ([*GRID, "sweep.where=model.code_size"], "sweep.where='model.code_size': must be key=value"),
        ([*GRID, "sweep.where=3"], "sweep.where='3': must be key=value"),
        (["seed=0,1", "sweep.where=sparsity.k=2"], "no point has sparsity.k"),
    ],
)
def test_a_condition_that_cannot_work_is_an_error_of_one_line(points: Points, words: list[str], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        points(*words)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_random_draws_know_all_options(points: Points) -> None:
    """Also of an option that no draw happens to have: its keys are not unknown."""
    words = ["hydra/sweeper=random", "hydra.sweeper.runs=1", "sparsity=none,topk", "sparsity.k=4,16", "seed=7"]
    for seed in range(6):
        [point] = points(*words, f"hydra.sweeper.seed={seed}")
        assert point.error is None
        assert point.config["sparsity"].get("k") in ((4, 16) if point.choices["sparsity"] == "topk" else (None,))
