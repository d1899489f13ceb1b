"""Expanding typed overrides into the points of a sweep."""

from __future__ import annotations

import itertools
import math
import os
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from aerun.errors import ConfigError
from aerun.sweep.points import Axis, File, Grid, Random, Zip, all_combinations, axes

PARSER = OverridesParser.create()


def typed(*words: str) -> list[Axis]:
    return axes(words, PARSER)


def grid(*words: str) -> list[list[str]]:
    return Grid().points(typed(*words), PARSER)


def values(points: list[list[str]], key: str) -> list[float]:
    return [float(word.partition("=")[2]) for point in points for word in point if word.startswith(f"{key}=")]


def test_a_grid_is_the_product_and_the_last_key_varies_fastest() -> None:
    by_hand = [
        ["model=fc", "trainer.epochs=2", "seed=0"],
        ["model=fc", "trainer.epochs=2", "seed=1"],
        ["model=fc", "trainer.epochs=2", "seed=2"],
        ["model=conv", "trainer.epochs=2", "seed=0"],
        ["model=conv", "trainer.epochs=2", "seed=1"],
        ["model=conv", "trainer.epochs=2", "seed=2"],
    ]
    assert grid("model=fc,conv", "trainer.epochs=2", "seed=0,1,2") == by_hand


def test_a_larger_grid_equals_itertools_product() -> None:
    lists = {"a": ["1", "2", "3"], "b": ["x", "y"], "c": ["0.5", "0.001", "null"], "d": ["[1]", "[2,3]"]}
    expected = itertools.product(*([f"{key}={value}" for value in lists[key]] for key in lists))
    assert grid(*(f"{key}={','.join(lists[key])}" for key in lists)) == [list(point) for point in expected]


def test_without_overrides_there_is_only_the_default_run() -> None:
    assert grid() == [[]]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("model.hidden=[256],[128,64]", ["model.hidden=[256]", "model.hidden=[128,64]"]),
        ("model.hidden=[128,64]", ["model.hidden=[128,64]"]),
        ("seed=range(0,4)", ["seed=0", "seed=1", "seed=2", "seed=3"]),
        ("seed=range(1,8,3)", ["seed=1", "seed=4", "seed=7"]),
        ("k=range(0,1,0.25)", ["k=0.0", "k=0.25", "k=0.5", "k=0.75"]),
        ("seed=choice(3,1)", ["seed=3", "seed=1"]),
        ("seed=1,2,1,2", ["seed=1", "seed=2"]),
        ("+new=1,2", ["+new=1", "+new=2"]),
        ("++new=1,2", ["++new=1", "++new=2"]),
        ("~scheduler", ["~scheduler"]),
        ("~scheduler=cosine", ["~scheduler=cosine"]),
        ("name='a,b',c", ["name='a,b'", "name=c"]),
        ("name='a,b'", ["name='a,b'"]),
        ('name="it\'s",x', ['name="it\'s"', "name=x"]),
        ("name=null,true,1.0,1", ["name=null", "name=True", "name=1.0", "name=1"]),
        ("node={a:1,b:[2]},{a:2}", ["node={a:1,b:[2]}", "node={a:2}"]),
        ("lr=sort(3,1,2)", ["lr=1", "lr=2", "lr=3"]),
        ("root=/with space/x", ["root=/with\\ space/x"]),
    ],
)
def test_the_values_of_one_key(word: str, expected: list[str]) -> None:
    [axis] = typed(word)
    assert axis.overrides == expected
    assert axis.is_swept == (len(expected) > 1)


@pytest.mark.parametrize(
    "word",
    ["name='a,b'", 'name="it\'s"', "name='it\\'s'", "name=a\\,b", "root=/with space/x", "node={a:1,b:[x,'y z']}", "e="],
)
def test_a_value_that_is_not_swept_keeps_its_meaning(word: str) -> None:
    [axis] = typed(word)
    [override] = axis.overrides
    first, second = PARSER.parse_override(word), PARSER.parse_override(override)
    assert first.value() == second.value() and type(first.value()) is type(second.value())


def test_a_glob_expands_to_the_existing_options(composer: Any) -> None:
    [axis] = axes(["sparsity=glob(*topk*)"], composer.parser)
    assert sorted(axis.overrides) == ["sparsity=batch_topk", "sparsity=topk", "sparsity=topk_lifetime"]
    [axis] = axes(["model=glob(*,exclude=*conv*)"], composer.parser)
    names = ("fc", "fc_deep", "fc_vae", "mlp", "modules", "pretrained", "unet", "vae")
    assert sorted(axis.overrides) == [f"model={name}" for name in names]


def test_the_last_value_of_a_key_typed_twice_counts() -> None:
    assert grid("seed=0,1", "model=fc", "seed=5") == [["seed=5", "model=fc"]]
    assert grid("seed=5", "seed=0,1") == [["seed=0"], ["seed=1"]]


def test_an_interval_in_a_grid_is_rejected_with_the_alternatives() -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.lr: an interval .*random or optuna"):
        grid("optimizer.lr=interval(0.1,1)", "seed=0,1")
    for words in (["optimizer.lr=interval(0.1,1)", "seed=0,1"], ["optimizer.lr=interval(0.1,1)"]):
        with pytest.raises(ConfigError, match=r"optimizer\.lr: an interval"):
            Zip().points(typed(*words), PARSER)


@pytest.mark.parametrize("word", ["a=interval(2,1)", "a=interval(1,1)", "a=tag(log,interval(0,1))"])
def test_an_empty_interval_is_rejected(word: str) -> None:
    with pytest.raises(ConfigError) as error:
        typed(word)
    assert str(error.value).startswith(f"{word}: ")


def test_zip_pairs_values_by_position() -> None:
    points = Zip().points(typed("model.code_size=16,32,64", "optimizer.lr=3,2,1", "trainer.epochs=2"), PARSER)
    assert [sorted(point) for point in points] == [
        ["model.code_size=16", "optimizer.lr=3", "trainer.epochs=2"],
        ["model.code_size=32", "optimizer.lr=2", "trainer.epochs=2"],
        ["model.code_size=64", "optimizer.lr=1", "trainer.epochs=2"],
    ]


def test_zip_of_some_keys_combines_the_others() -> None:
    words = typed("model.code_size=16,32", "optimizer.lr=2,1", "seed=0,1,2")
    points = Zip(keys=["model.code_size", "optimizer.lr"]).points(words, PARSER)
    pairs = [("16", "2"), ("32", "1")]
    expected = [
        {f"model.code_size={size}", f"optimizer.lr={rate}", f"seed={seed}"}
        for size, rate in pairs
        for seed in (0, 1, 2)
    ]
    assert [set(point) for point in points] == expected


def test_zip_rejects_lists_of_different_lengths() -> None:
    with pytest.raises(ConfigError, match=r"model\.code_size has 3, optimizer\.lr has 2"):
        Zip().points(typed("model.code_size=16,32,64", "optimizer.lr=2,1"), PARSER)


def test_zip_rejects_a_key_that_is_not_swept() -> None:
    with pytest.raises(ConfigError, match=r"optimizer\.momentum is not swept\. Swept: optimizer\.lr, seed"):
        Zip(keys=["optimizer.momentum"]).points(typed("optimizer.lr=2,1", "seed=0,1"), PARSER)


def test_random_draws_depend_on_the_seed_and_a_longer_sweep_starts_with_the_shorter() -> None:
    words = typed("optimizer.lr=tag(log,interval(1e-5,1))", "model.code_size=int(interval(2,64))", "model=fc,conv")

    def draws(runs: int, seed: int) -> list[list[str]]:
        return Random(runs=runs, seed=seed, crossed=["seed"]).points(words, PARSER)

    assert draws(40, 3) == draws(40, 3)
    assert draws(40, 3)[:15] == draws(15, 3)
    assert draws(40, 3) != draws(40, 4)
    assert len({tuple(point) for point in draws(40, 3)}) == 40


def test_random_draws_have_the_requested_distribution() -> None:
    stats = pytest.importorskip("scipy.stats")
    words = typed("even=interval(-2.0,6.0)", "log=tag(log,interval(1e-5,1))", "model=fc,conv")
    points = Random(runs=4000, seed=0, crossed=[]).points(words, PARSER)
    even, logarithms = values(points, "even"), [math.log10(value) for value in values(points, "log")]
    assert stats.kstest(even, stats.uniform(-2, 8).cdf).pvalue > 0.01
    assert stats.kstest(logarithms, stats.uniform(-5, 5).cdf).pvalue > 0.01
    share = sum("model=fc" in point for point in points) / 4000
    assert abs(share - 0.5) < 0.03  # nearly four standard deviations


def test_random_whole_numbers_include_both_ends_equally_often() -> None:
    points = Random(runs=6000, seed=1, crossed=[]).points(typed("k=int(interval(1,6))"), PARSER)
    drawn = [word.partition("=")[2] for [word] in points]
    counts = [drawn.count(str(number)) for number in range(1, 7)]
    assert sum(counts) == 6000
    assert all(abs(count - 1000) < 4 * math.sqrt(6000 * 5 / 36) for count in counts)
    points = Random(runs=500, seed=1, crossed=[]).points(typed("k=tag(log,int(interval(1,4)))"), PARSER)
    assert {word for [word] in points} == {"k=1", "k=2", "k=3", "k=4"}


def test_random_draws_stay_in_an_interval_whose_ends_have_many_digits() -> None:
    low, high = 0.12345649, 0.12345651
    points = Random(runs=50, seed=0, crossed=[]).points(typed(f"rate=interval({low},{high})"), PARSER)
    assert all(low <= value <= high for value in values(points, "rate"))


def test_random_runs_every_draw_with_each_crossed_value() -> None:
    words = typed("optimizer.lr=interval(0.1,1)", "seed=0,1,2", "trainer.epochs=2")
    points = Random(runs=5, seed=0, crossed=["seed"]).points(words, PARSER)
    assert len(points) == 15
    for start in range(0, 15, 3):
        of_one = points[start : start + 3]
        assert len(set(values(of_one, "optimizer.lr"))) == 1
        assert values(of_one, "seed") == [0, 1, 2]
        assert values(of_one, "trainer.epochs") == [2, 2, 2]
    assert len(set(values(points, "optimizer.lr"))) == 5


def test_a_file_may_have_comments_quotes_and_lines_with_several_runs(tmp_path: Path) -> None:
    path = tmp_path / "runs of mine.txt"
    path.write_text(
        "# what we agreed on\n"
        "model=fc optimizer.lr=1e-3   # the plain one\n"
        "\n"
        "model=conv 'model.init=\"a b\"'\n"
        "model=vae seed=0,1\n"
    )
    points = File(file=str(path)).points(typed("trainer.epochs=1,2"), PARSER)
    lines = [["model=fc", "optimizer.lr=0.001"], ["model=conv", 'model.init="a b"']]
    lines += [["model=vae", "seed=0"], ["model=vae", "seed=1"]]
    assert points == [[f"trainer.epochs={epochs}", *line] for line in lines for epochs in (1, 2)]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("model=fc optimizer.lr", "optimizer.lr"),
        ("model=fc 'seed=1", "quotation"),
        ("model=[fc", "viable"),
        ("optimizer.lr=interval(0,1)", "an interval"),
    ],
)
def test_an_invalid_line_of_a_file_is_reported_with_its_number(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "runs.txt"
    path.write_text(f"# first\nmodel=fc\n{line}\n")
    with pytest.raises(ConfigError) as error:
        File(file=str(path)).points([], PARSER)
    assert str(error.value).startswith(f"{path}, line 3: ") and says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_missing_empty_or_not_text_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("# nothing\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    os.mkfifo(tmp_path / "pipe")
    refused = {"missing": "cannot be read", "empty": "contains no runs", "binary": "cannot be read"}
    for name, says in (refused | {"pipe": "cannot be read"}).items():
        with pytest.raises(ConfigError, match=rf"hydra\.sweeper\.file=.*{name}: {says}"):
            File(file=str(tmp_path / name)).points([], PARSER)


def test_no_axes_give_one_empty_point() -> None:
    assert all_combinations([]) == [[]]
