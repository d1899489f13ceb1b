"""Intervals, paired differences and the expected best, against scipy, enumeration and numbers worked out by hand."""

from __future__ import annotations

import csv
import io
import itertools
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from aerun.cli.compare import compare_runs
from aerun.compare import Comparison, Question, collect, compare
from aerun.compare.csv_json import as_rows
from aerun.compare.seed_statistics import PairedDifference, Statistic, expected_best, holm, t_quantile, with_tests
from aerun.compare.table_output import format_terminal
from aerun.compare.text_table import build_table
from aerun.errors import ConfigError
from tests.runs import write_run

NONE = (0.031, 0.034, 0.030, 0.036, 0.033, 0.035)
TOPK = (0.028, 0.033, 0.029, 0.031, 0.0335, 0.030)


def asked(path: Path, **question: object) -> Comparison:
    return compare(collect([path]), Question(**question))  # type: ignore[arg-type]


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    """Two models with six seeds of two sparsities each; validation errors are in the order opposite to test errors."""
    for model, shift in (("fc", 0.0), ("conv", 0.01)):
        for sparsity, errors in (("none", NONE), ("topk", TOPK)):
            for seed, error in enumerate(errors):
                folder = tmp_path / f"{model}-{sparsity}-{seed}"
                write_run(folder, error + shift, model=model, sparsity=sparsity, seed=seed)
                set_validation(folder, 0.1 - error - shift)
    return tmp_path


def set_validation(folder: Path, mse: float) -> None:
    """The validation error of the last epoch, which is the one whose weights are kept."""
    *lines, last = (folder / "metrics.jsonl").read_text().splitlines()
    changed = json.dumps(json.loads(last) | {"validation/mse": mse})
    (folder / "metrics.jsonl").write_text("\n".join([*lines, changed]) + "\n")


@pytest.mark.parametrize("freedom", [*range(1, 40), 99, 100, 999, 1000])
def test_the_quantile_of_t_is_scipys(freedom: int) -> None:
    assert t_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-11)


@pytest.mark.parametrize("count", [2, 3, 10, 31])
def test_the_interval_of_a_mean_is_scipys(count: int) -> None:
    values = np.random.default_rng(count).normal(3.0, 2.0, count)
    statistic = Statistic.from_values(values.tolist())
    wanted = stats.t.interval(0.95, count - 1, loc=values.mean(), scale=stats.sem(values))
    assert statistic is not None and statistic.interval == pytest.approx(wanted, rel=1e-11)


def test_a_single_value_has_no_interval() -> None:
    for values in ([1.0], [1.0, float("inf")]):
        statistic = Statistic.from_values(values)
        assert statistic is not None and statistic.interval is None


def test_an_interval_covers_the_true_mean_as_often_as_it_says() -> None:
    """Of 4000 samples, 95 % within three binomial standard deviations of 0.0034."""
    samples = np.random.default_rng(0).normal(0.0, 1.0, (4000, 5)).tolist()
    intervals = [statistic.interval for sample in samples if (statistic := Statistic.from_values(sample))]
    covered = statistics.fmean(low < 0 < high for low, high in filter(None, intervals))
    assert covered == pytest.approx(0.95, abs=0.0103)


def test_holm_by_hand() -> None:
    """Of 0.01, 0.02, 0.03, 0.04: 0.01*4, 0.02*3, 0.03*2, 0.04*1, and none below an earlier one."""
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, None, 0.6, 0.001]) == [1.0, None, 1.0, pytest.approx(0.003)]
    assert holm([]) == [] and holm([None]) == [None]


def test_paired_tests_are_those_of_the_two_samples() -> None:
    """The t-test of scipy on both samples; Wilcoxon's p by enumerating all signs of the ranks."""
    differences = tuple(b - a for a, b in zip(NONE, TOPK, strict=True))
    [pair] = with_tests([PairedDifference("test/mse", "none", differences, (6, 6))])
    assert pair.p_t == pytest.approx(stats.ttest_rel(TOPK, NONE).pvalue, rel=1e-9)
    assert pair.p_wilcoxon == pytest.approx(enumerated_wilcoxon(differences), rel=1e-12)
    assert pair.p_wilcoxon == pytest.approx(stats.wilcoxon(TOPK, NONE).pvalue, rel=1e-12)
    statistic = pair.statistic
    assert statistic is not None and pair.effect_size is not None
    assert pair.effect_size == pytest.approx(stats.ttest_rel(TOPK, NONE).statistic / np.sqrt(6), rel=1e-9)
    assert statistic.interval == pytest.approx(stats.ttest_rel(TOPK, NONE).confidence_interval(0.95), rel=1e-9)


def enumerated_wilcoxon(differences: Sequence[float]) -> float:
    """Twice the share of all signs for which the sum of the positive ranks is at most as large as the smaller sum."""
    ranks = stats.rankdata(np.abs(differences))
    smaller = min(ranks[np.array(differences) > 0].sum(), ranks[np.array(differences) < 0].sum())
    sums = [
        sum(rank for rank, sign in zip(ranks, signs, strict=True) if sign) for signs in product_of_signs(len(ranks))
    ]
    return min(1.0, 2 * statistics.fmean(total <= smaller for total in sums))


def product_of_signs(count: int) -> itertools.product[tuple[bool, ...]]:
    return itertools.product((False, True), repeat=count)


def test_equal_differences_are_not_tested() -> None:
    """Nor those that differ by rounding: 0.1 + 0.2 is not 0.3."""
    for differences in ((), (0.1,), (0.0, 0.0, 0.0), (0.5, 0.5), (0.3, 0.1 + 0.2, 0.3)):
        [pair] = with_tests([PairedDifference("test/mse", "none", differences, (3, 3))])
        assert (pair.p_t, pair.p_wilcoxon, pair.p_t_holm, pair.effect_size) == (None, None, None, None)


@pytest.mark.parametrize("higher_is_better", [True, False])
@pytest.mark.parametrize("values", [(0.3, 0.1, 0.2), (5.0, 5.0, 1.0, 2.0), (7.0,)])
def test_the_expected_best_is_the_mean_over_all_draws(values: tuple[float, ...], higher_is_better: bool) -> None:
    best = max if higher_is_better else min
    for draws in (1, 2, 3, 4):
        wanted = statistics.fmean(best(drawn) for drawn in itertools.product(values, repeat=draws))
        assert expected_best(values, draws, higher_is_better) == pytest.approx(wanted, rel=1e-12)


def test_validation_ranks_and_the_test_error_stands_next_to_it(grid: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Here the best by validation is the worst on the test set."""
    table = asked(grid)
    assert table.metrics[:2] == ["validation/mse", "test/mse"] and table.choice is None
    assert table.groups[0].label == "model=conv, sparsity=none"
    compare_runs([str(grid), "--best"])
    out = capsys.readouterr().out
    assert "the best 1 by validation/mse" in out and "chosen by test" not in out
    best = "validation/mse 0.054, test/mse 0.046"
    assert f"best by validation/mse: model=conv, sparsity=none; its best run has {best}\n{grid / 'conv-none-3'}" in out
    by_test = asked(grid, metrics=("test/mse",))
    assert by_test.groups[0].label == "model=fc, sparsity=topk" and "chosen by test/mse" in (by_test.choice or "")
    assert "chosen by test/mse" in (asked(grid, sort="test/mse").choice or "")
    assert asked(grid, sort="test/mse", best=1).choice is None  # --best chooses by the first metric


def test_validation_does_not_rank_if_a_finished_run_lacks_it(grid: Path) -> None:
    write_run(grid / "without", 0.01, lr=0.5)
    table = asked(grid)
    assert table.metrics[0] == "test/mse" and "chosen by test/mse" in (table.choice or "")


def test_every_row_of_seeds_has_its_interval(grid: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compare_runs([str(grid), "--format", "csv"])
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    row = next(row for row in rows if (row["model"], row["sparsity"]) == ("fc", "topk"))
    wanted = stats.t.interval(0.95, 5, loc=np.mean(TOPK), scale=stats.sem(TOPK))
    assert [float(row["test/mse low"]), float(row["test/mse high"])] == pytest.approx(wanted, rel=1e-9)
    assert float(row["validation/mse std"]) == pytest.approx(np.std(TOPK, ddof=1)) and row["n"] == "6"
    low, high = wanted
    assert f"[{low:.5f}, {high:.5f}]" in format_terminal(asked(grid))
    assert "95 % interval" not in format_terminal(asked(grid, grouped=False))


def test_an_interval_over_more_than_seeds_is_pointed_out(grid: Path) -> None:
    said = "intervals treat runs that differ in model as independent draws, like seeds"
    assert said in build_table(asked(grid, group_by=("sparsity",))).notes
    assert not any("independent draws" in note for note in build_table(asked(grid)).notes)


def test_rows_are_compared_with_the_row_of_the_same_other_keys(grid: Path) -> None:
    groups = {group.label: group for group in asked(grid, against=("sparsity=none",)).groups}
    for model in ("fc", "conv"):
        assert groups[f"model={model}, sparsity=none"].paired is None
        pair = groups[f"model={model}, sparsity=topk"].paired
        assert pair is not None and (pair.metric, pair.baseline) == ("test/mse", f"model={model}, sparsity=none")
        assert pair.differences == pytest.approx([b - a for a, b in zip(NONE, TOPK, strict=True)])
        p_value = stats.ttest_rel(TOPK, NONE).pvalue
        assert pair.p_t == pytest.approx(p_value) and pair.p_t_holm == pytest.approx(2 * p_value)
        assert pair.p_wilcoxon_holm == pytest.approx(2 * enumerated_wilcoxon(pair.differences))
    only = asked(grid, against=("sparsity=none", "model=fc"))
    assert [group.paired and group.paired.baseline for group in only.groups].count("model=fc, sparsity=none") == 3


def test_differences_are_printed_and_written(grid: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compare_runs([str(grid), "--against", "sparsity=none"])
    out = capsys.readouterr().out
    low, high = stats.ttest_rel(TOPK, NONE).confidence_interval(0.95)
    mean, p_value = np.mean(TOPK) - np.mean(NONE), stats.ttest_rel(TOPK, NONE).pvalue
    assert out.count(f"{mean:+.6f} [{low:.6f}, {high:.6f}]") == 2 and out.count(f"{2 * p_value:.4f}") == 2
    assert "Holm-corrected over 2 rows" in out and "baseline: model=conv, sparsity=none; model=fc, " in out
    compare_runs([str(grid), "--against", "sparsity=none", "--format", "json"])
    found = json.loads(capsys.readouterr().out)["groups"]
    [group] = [each for each in found if each["values"] == {"model": "fc", "sparsity": "topk"}]
    assert group["difference"]["mean"] == pytest.approx(mean) and group["difference"]["pairs"] == 6
    rows = as_rows(asked(grid, against=("sparsity=none",)))
    assert len({tuple(row) for row in rows}) == 1  # all rows have the same columns
    assert [row["test/mse difference p t"] for row in rows].count(None) == 2


def test_the_order_of_runs_does_not_pair_wrong_seeds(grid: Path) -> None:
    runs = collect([grid])
    question = Question(against=("sparsity=none",))
    mixed = sorted(runs, key=lambda run: (run.settings["sparsity"] == "none") * -int(run.name[-1]))  # of one row only
    assert [run.name for run in mixed] != [run.name for run in runs]
    straight, shuffled = (compare(each, question) for each in (runs, mixed))
    for groups in zip(*(sorted(each.groups, key=lambda g: g.label) for each in (straight, shuffled)), strict=True):
        one, other = (group.paired for group in groups)
        assert (one and sorted(one.differences)) == (other and sorted(other.differences))


def test_failed_and_missing_seeds_are_pointed_out(grid: Path) -> None:
    folder = grid / "fc-topk-5"
    (folder / "summary.json").unlink()
    write_run(folder, sparsity="topk", seed=5, state="diverged", error="DivergedError: nan")
    notes = build_table(asked(grid, against=("sparsity=none",))).notes
    assert "runs that failed are not in the means, which flatters these rows: model=fc, sparsity=topk (1)" in notes
    assert "the numbers of runs and of pairs differ: model=fc, sparsity=topk (5 pairs, 5 and 6 runs)" in notes
    assert "Wilcoxon's p cannot be below 0.0625 with 5 common seeds, before correction" in notes
    few = build_table(asked(grid, against=("sparsity=none",), where=("seed<2",))).notes
    assert any(note.startswith("fewer than 3 common seeds, too few for a test: ") for note in few)
    assert not any("fewer than 3" in note for note in notes)


def test_a_baseline_of_other_hyperparameters_has_none_of_them(tmp_path: Path) -> None:
    """sparsity.k varies, and the baseline does not have it."""
    for seed in range(3):
        write_run(tmp_path / f"none-{seed}", 0.1 + seed / 100, seed=seed)
        for k in (4, 8):
            config = {"sparsity": {"_target_": "aerun.sparsity.TopK", "k": k}}
            write_run(tmp_path / f"{k}-{seed}", 0.1 + seed * k / 100, sparsity="topk", seed=seed, config=config)
    by_k = asked(tmp_path, against=("sparsity=none",))
    found = {group.values["sparsity.k"]: group.paired for group in by_k.groups}
    assert found[None] is None and all(pair and len(pair.differences) == 3 for k, pair in found.items() if k)
    together = asked(tmp_path, against=("sparsity=none",), group_by=("sparsity",))
    [pair] = [group.paired for group in together.groups if group.paired]
    assert pair.differences == pytest.approx([seed * 6 / 100 - seed / 100 for seed in range(3)])


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (
            {"against": ("sparsty=none",)},
            "--against 'sparsty=none': no run has sparsty. Did you mean 'sparsity'?",
        ),
        ({"against": ("sparsity=l1",)}, "--against 'sparsity=l1': no row meets this; sparsity is none, topk"),
        ({"against": ("seed=0",)}, "seed does not choose a row"),
        ({"against": ("sparsity",)}, "--against 'sparsity': must be key=value"),
        ({"against": ("sparsity=none",), "grouped": False}, "leave out --no-group"),
    ],
)
def test_a_mistaken_baseline_is_one_line(grid: Path, question: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        asked(grid, **question)
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_more_than_one_baseline_is_one_line(tmp_path: Path) -> None:
    for lr in (0.001, 0.002, 0.1):
        write_run(tmp_path / f"{lr}", 0.1, lr=lr)
    message = r"lr=0\.1 has 2 baselines, optimizer\.lr=0\.001 and optimizer\.lr=0\.002; add a condition$"
    with pytest.raises(ConfigError, match=message):
        asked(tmp_path, against=("optimizer.lr<0.01",))
    with pytest.raises(ConfigError, match=r"no other row agrees with optimizer\.lr=0\.001 in all other keys$"):
        asked(tmp_path, against=("optimizer.lr<1",))


def test_a_row_without_a_baseline_is_pointed_out(grid: Path) -> None:
    write_run(grid / "other", 0.1, model="fc", lr=0.5, sparsity="topk")
    notes = build_table(asked(grid, against=("sparsity=none",))).notes
    assert "no baseline with the same other keys: model=fc, sparsity=topk, optimizer.lr=0.5" in notes


@pytest.mark.parametrize(("words", "imported"), [([], False), (["--against", "sparsity=none"], True)])
def test_scipy_is_imported_for_tests_of_differences_only(grid: Path, words: list[str], imported: bool) -> None:
    code = (
        "import sys; from aerun.cli.compare import compare_runs; compare_runs(sys.argv[1:]);"
        "print('scipy' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(grid), *words], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == str(imported)


def test_the_expected_best_of_a_row_is_that_of_its_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three finished draws and a failed one, which counts as the worst: of two, by enumerating all 16 pairs."""
    for number, mse in enumerate((0.05, 0.02, 0.03)):
        write_run(tmp_path / f"{number}", mse, lr=0.1 + number)
    write_run(tmp_path / "lost", lr=9.0, state="diverged", error="DivergedError: nan")
    write_run(tmp_path / "other", 0.04, model="conv")
    words = [str(tmp_path), "--group-by", "model", "--expected-best", "1,2,4"]
    compare_runs([*words, "--format", "csv"])
    rows = {row["model"]: row for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    drawn = (0.05, 0.02, 0.03, 0.05)
    for draws in (1, 2, 4):
        wanted = statistics.fmean(min(each) for each in itertools.product(drawn, repeat=draws))
        assert float(rows["fc"][f"test/mse best of {draws}"]) == pytest.approx(wanted, rel=1e-12)
    assert rows["conv"]["test/mse best of 1"] == "0.04" and rows["conv"]["test/mse best of 2"] == ""
    compare_runs(words)
    assert "best of m: the expected best test/mse of m runs" in capsys.readouterr().out


def test_the_pareto_front_by_hand(tmp_path: Path) -> None:
    """psnr is better if higher: b equals a in both, c is worse than a in both, d is best in psnr, e in mse; f has not
    finished."""
    points = {"a": (0.2, 20.0), "b": (0.2, 20.0), "c": (0.3, 19.0), "d": (0.5, 30.0), "e": (0.1, 20.0)}
    for lr, (name, (mse, psnr)) in enumerate(points.items(), 1):
        write_run(tmp_path / name, mse, lr=lr / 10, summary={"test": {"mse": mse, "psnr": psnr}})
    write_run(tmp_path / "f", lr=0.9, state="running")
    table = asked(tmp_path, pareto=("mse", "psnr"))
    assert [(group.runs[0].name, group.on_front) for group in table.groups] == [
        *(("e", True), ("d", True), ("a", False), ("b", False), ("c", False), ("f", False)),
    ]
    assert table.metrics == ["test/mse", "test/psnr"] and table.metric == "test/mse"
    assert [row["front"] for row in as_rows(table)] == [True, True, False, False, False, False]
    assert [line.count("●") for line in format_terminal(table).splitlines()[2:10]] == [0, 0, 1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("seed", range(20))
def test_the_pareto_front_is_what_no_other_row_dominates(seed: int, tmp_path: Path) -> None:
    """Random points on a small grid, so that ties are common, against the definition by comparing all pairs."""
    costs = np.random.default_rng(seed).integers(1, 6, (12, 2)) / 10
    for number, (mse, loss) in enumerate(costs.tolist()):
        write_run(tmp_path / f"{number}", mse, lr=1 + number, summary={"test": {"mse": mse, "loss": loss}})
    found = {int(group.runs[0].name): group.on_front for group in asked(tmp_path, pareto=("mse", "loss")).groups}
    dominated = ((costs[:, None] <= costs[None]).all(2) & (costs[:, None] < costs[None]).any(2)).any(0)
    assert found == {number: not lost for number, lost in enumerate(dominated.tolist())}


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({"pareto": ("mse",)}, "--pareto mse: must be two numbers, NAME,NAME"),
        ({"pareto": ("mse", "mes")}, "--pareto mes: no run has this number."),
        ({"expected_best": (1, 7)}, "--expected-best 7: must be at most 6, the runs of the largest row; --group-by"),
        ({"expected_best": (1,), "grouped": False}, "leave out --no-group, and use --group-by"),
    ],
)
def test_a_mistaken_front_or_draw_is_one_line(grid: Path, question: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        asked(grid, **question)
    assert message in str(raised.value) and "\n" not in str(raised.value)
