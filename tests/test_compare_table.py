"""Which keys are shown, what is averaged, and how groups are sorted."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from aerun.cli.doctor import Row, format_table
from aerun.compare import Comparison, Question, collect, compare
from aerun.compare.conditions import Language
from aerun.compare.csv_json import as_json
from aerun.compare.html_page import build_page
from aerun.compare.records import Run
from aerun.compare.selection import values_of, varied_keys
from aerun.compare.setting_text import format_setting
from aerun.compare.table_output import format_markdown, format_terminal, shorten
from aerun.compare.text_table import build_table
from aerun.errors import ConfigError
from tests.data.kit import RUNS
from tests.runs import write_run, write_sweep


def asked(path: Path, **question: object) -> Comparison:
    return compare(collect([path]), Question(**question))  # type: ignore[arg-type]


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    """12 runs with known errors: two models, two sparsities and three seeds."""
    errors = iter([0.011, 0.012, 0.016, 0.031, 0.032, 0.036, 0.021, 0.022, 0.026, 0.041, 0.042, 0.046])
    for model in ("fc", "conv"):
        for sparsity in ("none", "topk"):
            for seed in range(3):
                write_run(
                    tmp_path / f"{model}-{sparsity}-{seed}", next(errors), model=model, sparsity=sparsity, seed=seed
                )
    return tmp_path


def test_seeds_are_averaged(grid: Path) -> None:
    table = asked(grid)
    assert table.keys == ["model", "sparsity"] and table.over == {"seed": 3}
    assert [group.label for group in table.groups] == [
        "model=fc, sparsity=none",
        "model=conv, sparsity=none",
        "model=fc, sparsity=topk",
        "model=conv, sparsity=topk",
    ]
    number = table.groups[0].statistic("test/mse")
    assert number is not None and number.n == 3
    # By hand: mean 0.013, deviations -0.002, -0.001 and 0.003, squares 14e-6, over n - 1 = 2.
    assert number.mean == pytest.approx(0.013, rel=1e-12) and number.std == pytest.approx(math.sqrt(7e-6), rel=1e-12)
    for group in table.groups:
        values = [run.numbers["test/mse"] for run in group.runs]
        number = group.statistic("test/mse")
        assert number is not None and number.mean == pytest.approx(np.mean(values))
        assert number.std == pytest.approx(np.std(values, ddof=1))


def test_one_run_has_no_deviation(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 0.1)
    [group] = asked(tmp_path).groups
    number = group.statistic("test/mse")
    assert number is not None and (number.mean, number.std, number.n) == (0.1, None, 1)


def test_group_by_averages_over_all_other_keys(grid: Path) -> None:
    table = asked(grid, group_by=("sparsity",))
    assert table.keys == ["sparsity"] and table.over == {"model": 2, "seed": 3}
    number = table.groups[0].statistic("test/mse")
    assert number is not None and number.n == 6
    assert number.mean == pytest.approx((0.011 + 0.012 + 0.016 + 0.021 + 0.022 + 0.026) / 6)
    assert "mean ± standard deviation over model (2), seed (3)" in format_terminal(table)


def test_over_sets_the_averaged_keys(grid: Path) -> None:
    assert asked(grid, over=("seed", "model")).keys == ["sparsity"]
    assert asked(grid, over=("model",)).keys == ["sparsity", "seed"]


def test_without_groups_each_run_is_a_row_and_its_seed_is_shown(grid: Path) -> None:
    table = asked(grid, grouped=False)
    assert table.keys == ["model", "sparsity", "seed"] and len(table.groups) == 12
    assert [cell.text for cell in build_table(table).rows[0]][:4] == ["fc", "none", "0", "0.01100"]
    assert build_table(table).rows[0][-1].text == "fc-none-0"


def test_keys_that_follow_from_the_option_are_left_out(grid: Path) -> None:
    """sparsity.k is 16 in all runs that have it; only fc has model.code_size."""
    names = varied_keys(collect([grid]))
    assert names == ["model", "sparsity", "seed"]
    write_run(grid / "wider", 0.1, sparsity="topk", config={"sparsity": {"_target_": "aerun.sparsity.TopK", "k": 32}})
    assert "sparsity.k" in varied_keys(collect([grid]))


def test_a_key_that_always_equals_the_models_is_left_out(tmp_path: Path) -> None:
    for name, activation in (("fc", "tanh"), ("conv", "relu")):
        write_run(
            tmp_path / name,
            0.1,
            model=name,
            config={
                "model": {"_target_": f"aerun.model.{name}", "code_activation": activation},
                "sparsity": {"_target_": "aerun.sparsity.NoSparsity", "activation": activation},
            },
        )
    assert varied_keys(collect([tmp_path])) == ["model"]


def test_a_key_that_some_runs_do_not_have_is_varied(tmp_path: Path) -> None:
    write_run(tmp_path / "old", 0.1)
    write_run(tmp_path / "new", 0.1, config={"extra": 1})
    table = asked(tmp_path)
    assert table.keys == ["extra"]
    assert {cell[0].text for cell in build_table(table).rows} == {"–", "1"}  # noqa: RUF001


def test_a_group_counts_its_unfinished_runs(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 0.05, seed=0)
    write_run(tmp_path / "b", 0.07, seed=1)
    write_run(tmp_path / "c", seed=2, state="diverged", error="DivergedError: loss is nan at step 17")
    write_run(tmp_path / "d", 0.9, seed=3, summary={"test": {"mse": 0.9, "output_spread": 0.001}})
    write_run(tmp_path / "e", 0.06, model="conv", seed=0)
    write_sweep(
        tmp_path,
        {name: {"model": "fc", "seed": i} for i, name in enumerate("abcd")} | {"f": {"model": "fc", "seed": 9}},
    )
    fc = next(group for group in asked(tmp_path).groups if group.values["model"] == "fc")
    assert fc.state == "3 of 5, 1 diverged, 1 waiting, 1 collapsed"
    number = fc.statistic("test/mse")
    assert number is not None and number.n == 3 and number.mean == pytest.approx(1.02 / 3)


def test_an_unfinished_run_is_not_averaged(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 0.05, seed=0, losses=(0.4, 0.2))
    write_run(tmp_path / "b", seed=1, state="stopped", losses=(0.9,))
    [group] = asked(tmp_path, metrics=("validation/loss",)).groups
    number = group.statistic("validation/loss")
    assert number is not None and (number.mean, number.n) == (0.2, 1)
    rows = build_table(asked(tmp_path, metrics=("validation/loss",), grouped=False)).rows
    assert [row[1].text for row in rows] == ["0.2000", "0.9000"]  # a single run shows its latest number


def test_a_waiting_job_varies_only_its_own_overrides(tmp_path: Path) -> None:
    write_run(tmp_path / "run", 0.1)
    write_sweep(tmp_path / "sweep", {"x": {"model": "conv"}})
    assert varied_keys(collect([tmp_path])) == ["model"]


def test_a_single_run_is_listed_above_its_baselines(tmp_path: Path) -> None:
    write_run(tmp_path / "alone", 0.05)
    lines = [line.split() for line in format_terminal(asked(tmp_path)).splitlines()]
    assert lines[2][:2] == ["run", "test/mse"] and lines[4][:2] == ["alone", "0.05000"]
    assert lines[6] == ["mean", "image", "0.80000"] and lines[7] == ["PCA,", "64", "components", "0.02000"]


@pytest.mark.parametrize("state", ["stopped", "pruned", "killed", "failed", "diverged"])
def test_every_state_is_marked(tmp_path: Path, state: str) -> None:
    write_run(tmp_path / "a", 0.1)
    write_run(tmp_path / "b", lr=0.1, state=state, losses=(0.3, 0.2))
    table = asked(tmp_path)
    assert [group.state for group in table.groups] == ["", f"{state}, epoch 2 of 3"]
    assert f"2 runs: 1 finished, 1 {state}" in format_terminal(table)


def test_failures_are_grouped_by_cause_and_list_the_overrides(tmp_path: Path) -> None:
    for seed in range(7):
        error = f"DivergedError: the loss is nan at step {seed + 10}"
        write_run(tmp_path / f"n{seed}", seed=seed, state="diverged", error=error)
    write_run(tmp_path / "m", model="conv", state="failed", error="ConfigError: too large\nmore")
    failures = asked(tmp_path).failures
    assert [(failure.text, len(failure.runs)) for failure in failures] == [
        ("DivergedError: the loss is nan at step 10", 7),
        ("ConfigError: too large", 1),
    ]
    text = format_terminal(asked(tmp_path))
    assert "7 diverged: DivergedError: the loss is nan at step 10" in text and "and 2 more" in text
    assert "n3: model=fc sparsity=none optimizer.lr=0.001 seed=3" in text


def holds(text: str, run: Run) -> bool:
    known = {*values_of(run), "sparsity.k", "test/mse"}
    return Language(known).parse(text).holds(values_of(run))


@pytest.mark.parametrize(
    ("where", "count"),
    [
        (["model=fc"], 6),
        (["model!=fc"], 6),
        (["model=fc", "sparsity=topk"], 3),
        (["seed=1"], 4),
        (["seed>=1"], 8),
        (["seed > 1"], 4),
        (["test/mse<0.02"], 3),
        (["test/mse<=0.021", "test/mse>0.011"], 3),
        (["state=finished"], 12),
        (["sparsity.k=16"], 6),
        (["sparsity.k!=16"], 6),
        (["sparsity.k<100"], 6),
        (["optimizer.lr=1e-3"], 12),
        (["seed=0,2"], 8),
        (["seed!=0,2"], 4),
        (["model=fc,vae", "seed=0"], 2),
        (["optimizer.betas=[0.9,0.999]"], 12),
        (["optimizer.betas=[0.9, 0.999]"], 12),
        (["optimizer.betas!=[0.9,0.999]"], 0),
        (["optimizer.betas=[0.9,0.99],[0.9,0.999]"], 12),
    ],
)
def test_where(grid: Path, where: list[str], count: int) -> None:
    assert sum(all(holds(text, run) for text in where) for run in collect([grid])) == count
    if count:
        assert len(asked(grid, where=tuple(where)).runs) == count


def test_a_setting_is_found_as_it_was_typed() -> None:
    """Every override of every run of the kit, except for options and mappings, which become other keys."""
    found = 0
    for run in collect([RUNS]):
        for override in run.overrides:
            key, _, text = override.lstrip("+").partition("=")
            if "." in key and not text.startswith("{"):
                assert holds(f"{key}={text}", run), (run.name, override)
                assert not holds(f"{key}!={text}", run), (run.name, override)
                found += text.startswith("[")
    assert found > 20


def test_rows_of_other_seeds_are_called_so(grid: Path) -> None:
    said = "not all rows are means over the same seeds"
    assert said not in format_terminal(asked(grid)) and said not in format_terminal(asked(grid, grouped=False))
    write_run(grid / "fc-none-2", 0.016, model="fc", seed=3)
    assert said in format_terminal(asked(grid))  # as many runs, one of them of another seed
    write_run(grid / "fc-none-2", model="fc", seed=2, state="failed", error="x")
    (grid / "fc-none-2" / "summary.json").unlink()
    assert said in format_terminal(asked(grid))  # one less


def test_a_choice_by_the_test_set_is_called_one(grid: Path, tmp_path: Path) -> None:
    said = "chosen by test/mse: the best of several rows on the test set is an optimistic estimate"
    for question in ({}, {"best": 1}, {"grouped": False}, {"metrics": ("test/mse", "validation/loss")}):
        table = asked(grid, **question)
        texts = (format_terminal(table), format_markdown(table).replace("\\", ""), build_page(table, [], tmp_path))
        for text in (*texts, as_json(table)):
            assert said in text, question
    assert said not in format_terminal(asked(grid, metrics=("validation/loss", "test/mse")))
    assert said not in format_terminal(asked(grid, where=("model=fc", "sparsity=topk")))  # one row: nothing is chosen
    psnr = asked(grid, metrics=("test/psnr",))
    assert "chosen by test/psnr" in format_terminal(psnr) and "--metric validation/psnr" not in format_terminal(psnr)


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({"where": ("modle=fc",)}, "no run has modle. Did you mean 'model'?"),
        ({"where": ("model=vae",)}, "matches no run; model is conv, fc"),
        ({"where": ("state=done",)}, "state is finished, running, waiting"),
        ({"where": ("model",)}, "must be key=value"),
        ({"where": ("seed<many",)}, "'many' is not a number"),
        ({"metrics": ("test/mes",)}, "Did you mean 'test/mse'?"),
        ({"keys": ("optimizer.lrr",)}, "Did you mean 'optimizer.lr'?"),
        ({"group_by": ("modell",)}, "Did you mean 'model'?"),
        ({"over": ("sed",)}, "Did you mean 'seed'?"),
        ({"sort": "test/pnsr"}, "Did you mean 'test/psnr'?"),
    ],
)
def test_an_unknown_name_is_rejected_with_the_nearest_one(
    grid: Path, question: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as error:
        asked(grid, **question)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_sorting(tmp_path: Path) -> None:
    for name, mse, psnr, lr in (("a", 0.3, 5.0, 0.01), ("b", 0.1, 9.0, 0.002), ("c", 0.2, 7.0, 0.1)):
        write_run(tmp_path / name, mse, lr=lr, summary={"test": {"mse": mse, "psnr": psnr}})
    write_run(tmp_path / "d", lr=0.5, state="running")
    write_run(tmp_path / "e", float("nan"), lr=0.4)

    def order(**question: object) -> str:
        return "".join(group.runs[0].name for group in asked(tmp_path, **question).groups)

    assert order() == "bcaed"
    assert order(descending=True) == "acbed"
    assert order(metrics=("test/psnr",)) == "ebcad"  # higher is better
    assert order(sort="test/psnr", descending=True) == "acbed"
    assert order(sort="optimizer.lr") == "baced"
    assert order(sort="optimizer.lr", descending=True) == "decab"
    assert order(best=2) == "bc"


def test_numbers_of_metrics_jsonl_are_metrics_too(grid: Path) -> None:
    number = asked(grid, metrics=("validation/loss",)).groups[0].statistic("validation/loss")
    assert number is not None and (number.mean, number.n) == (pytest.approx(0.1), 3)


def test_better_than_pca_is_marked(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 0.01, lr=0.1, pca=0.02)
    write_run(tmp_path / "b", 0.03, lr=0.2, pca=0.02)
    table = asked(tmp_path)
    assert [group.mse_over_pca for group in table.groups] == [0.5, 1.5]
    text = format_terminal(table)
    assert "0.50*" in text and "1.50" in text and "* lower error than PCA with the same code size" in text
    assert [baseline.name for baseline in table.baselines] == ["mean image", "PCA, 64 components"]


def test_no_value_breaks_a_row_or_controls_the_terminal(tmp_path: Path) -> None:
    for name in ("x", "y"):
        write_run(tmp_path / name, 0.1, config={"note": f"{name}\n\x1b[31mred"}, state="failed", error="E: \x1b[2J")
    text = format_terminal(asked(tmp_path))
    assert "\x1b" not in text and "x  [31mred" in text and len(text.splitlines()[2:6]) == 4


def test_no_name_breaks_a_row_or_controls_the_terminal(tmp_path: Path) -> None:
    """Of a run, of a key, of a state, in the table, its notes, the failures and the doctor's rows."""
    for name, state in (("x\n\x1b[2Jy", "finished"), ("y", "failed\n\x1b[2J")):
        summary = {"test": {"mse": 0.1, "output_spread": 0.0}}
        config = {"note\n\x1b[2J": name}
        write_run(tmp_path / name, 0.1, config=config, state=state, error="E", summary=summary)
    text = format_terminal(asked(tmp_path, grouped=False))
    assert "\x1b" not in text and text.count(r"x\n\u001b[2Jy") == 2 and r"note\n\u001b[2J" in text
    assert len(text.splitlines()[2:6]) == 4 and r"1 failed\n\u001b[2J" in text
    rows = [Row(tmp_path / "x\ny", None, "is damaged"), Row(tmp_path / "z", None, "is damaged")]
    assert format_table(rows).splitlines()[2].startswith(r"x\ny  not examined: is damaged")


def test_best_needs_a_finished_run(tmp_path: Path) -> None:
    write_run(tmp_path / "a", state="running")
    with pytest.raises(ConfigError, match="no run has finished"):
        asked(tmp_path, best=1)


def test_a_narrow_terminal_shortens_texts_but_not_numbers(tmp_path: Path) -> None:
    root = "/a/very/long/path/to/a/data/set/that/nobody/can/read/at/once"
    for name in ("x", "y"):
        write_run(tmp_path / name, 0.1234, config={"data": {"_target_": "aerun.D", "root": f"{root}/{name}"}})
    wide, narrow = format_terminal(asked(tmp_path)), format_terminal(asked(tmp_path), 70)
    assert f"{root}/x" in wide
    table = narrow.splitlines()[2:6]
    assert all(len(line) <= 70 for line in table), table
    assert "…" in narrow and "0.1234" in narrow and "2.000" in narrow
    assert format_terminal(asked(tmp_path), 10).count("0.1234") == 2
    assert [shorten("abcdefgh", width) for width in (8, 7, 4)] == ["abcdefgh", "abc…fgh", "a…gh"]


def test_settings_are_formatted_as_they_are_typed() -> None:
    assert [format_setting(value) for value in (None, True, 3.0, 0.001, 1e-5, "topk")] == [
        *("–", "true", "3", "0.001", "1e-05", "topk"),  # noqa: RUF001
    ]


def test_copies_of_a_run_count_once(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write_run(tmp_path / folder / "a", 0.05, seed=0)
        write_run(tmp_path / folder / "b", 0.07, seed=1)
    write_run(tmp_path / "three" / "a", 0.09, seed=0)  # another machine's
    [group] = compare(collect([tmp_path / name for name in ("one", "two", "three")])).groups
    statistic = group.statistic("test/mse")
    assert statistic is not None and statistic.n == 3
    assert statistic.mean == pytest.approx(np.mean([0.05, 0.07, 0.09]))
    assert "copies of other runs in another folder (2)" in format_terminal(
        compare(collect([tmp_path / "one", tmp_path / "two"]))
    )


def test_runs_of_data_that_changed_are_noted(tmp_path: Path) -> None:
    """The same data set by its settings, with other data by its checksum."""
    digits, letters = ({"dataset": {"_target_": "aerun.dataset.Array", "root": root}} for root in ("0.npy", "a.npy"))
    for name, config, data in (("a", digits, "1"), ("b", digits, "1"), ("c", letters, "2"), ("d", digits, "3")):
        seed = ord(name)
        write_run(tmp_path / name, 0.1, seed=seed, config=config, summary={"dataset_checksum": data})
    table = build_table(compare(collect([tmp_path]), Question()))
    assert [note for note in table.notes if "data changed" in note] == [
        "not comparable: the data changed between a and d"
    ]
    before = build_table(compare(collect([tmp_path / name for name in "abc"]), Question()))
    assert not any("data changed" in note for note in before.notes)
