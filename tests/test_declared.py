"""Metrics: declared by aerun and by runs, and read by comparisons."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aerun.compare import Question, collect, compare
from aerun.compare.html_page import build_page
from aerun.compare.table_output import format_terminal
from aerun.contracts import Metric
from aerun.errors import DataError
from aerun.metrics.declared import find_metric, metric_of, metrics_from_json, metrics_to_json
from tests.runs import write_run

KIT = Path(__file__).resolve().parent / "data" / "runs"
# Every number in the summaries and metrics.jsonl of the runs of the benchmarks, papers and old folders.
EVALUATED = (
    *("loss", "reconstruction", "reconstruction_nats", "bound_nats", "kl", "kl_sparsity", "l1", "mse", "sse", "psnr"),
    *("psnr_pooled", "input_psnr", "input_psnr_pooled", "output_spread", "active_units", "dead_units"),
)
TRAINED = (
    *("loss", "reconstruction", "reconstruction_nats", "bound_nats", "kl", "kl_sparsity", "l1", "learning_rate"),
    *("gradient_norm", "update_ratio", "loss_roughness", "images_per_second", "active_units"),
)
PROTOCOLS = (
    *("ssim", "ms_ssim", "input_ssim", "nll", "nll_error", "nll_2", "nll_100", "nll_all", "nll_all_error"),
    *("log_likelihood", "elbo", "likelihood_samples", "likelihood_images", "active_latents", "kl_dimension_00"),
    *("kl_dimension_49", "knn_error", "svm_error", "svm_validation_error", "svm_strength", "logistic_error"),
    *("logistic_validation_error", "logistic_strength", "labels_8/codes_error", "labels_8/codes_deviation"),
    *("labels_100/pixels_error", "labels_100/pca_error", "labels_100/finetuned_error", "labels_8/scratch_error"),
    *("labels_all/codes_error", "labels_all/pca_error", "labels_all/pixels_error"),
)
OF_RUNS = (
    *("epoch", "step", "stage", "epochs", "steps", "best_epoch", "best_loss", "code_size", "parameters"),
    *("train_seconds", "compile_seconds", "wall_seconds", "images_per_second"),
    *("precision_difference/loss", "precision_difference/gradient", "baselines/linear/draws"),
)
NAMES = [
    *(f"{part}/{name}" for part in ("validation", "probe", "test", "stage1/validation") for name in EVALUATED),
    *(f"{stage}train/{name}" for stage in ("", "stage3/") for name in TRAINED),
    *(f"test/{name}" for name in PROTOCOLS),
    *(
        f"baselines/{kind}/{m}"
        for kind in ("mean_image", "pca", "linear")
        for m in ("mse", "sse", "psnr", "psnr_pooled")
    ),
    *(
        f"{part}/dead_units/{layer}"
        for part in ("validation", "probe")
        for layer in ("encoder.0", "decoder.2.0.body.3")
    ),
    *("baseline/pca/mse", *OF_RUNS),
]


def by_spelling(metric: str) -> bool:
    """The direction that was guessed from the name before metrics were declared."""
    words = ("psnr", "ssim", "accuracy", "knn", "f1", "auc", "r2", "images_per_second", "likelihood", "elbo")
    last = metric.rpartition("/")[2]
    if re.search(r"(^|_)error(_|$)", last):
        return False
    return any(re.search(rf"(^|_){word}(_|$|@)", last) for word in words)


def test_every_number_is_declared_with_the_direction_that_was_guessed_before() -> None:
    """Except for two, whose guessed direction was wrong: collapsed reconstructions have an output spread of 0, and
    inactive latents are unused."""
    kept = {name for run in collect([KIT]) for name in run.numbers}
    names = kept.union(NAMES)
    assert len(kept) > 100 and [name for name in names if find_metric(name) is None] == []
    changed = {name for name in names if metric_of(name).higher_is_better != by_spelling(name)}
    assert {name.rpartition("/")[2] for name in changed} == {"output_spread", "active_latents"}
    assert all(metric_of(name).higher_is_better for name in changed)


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("stage12/validation/psnr", "psnr"),
        ("baselines/own/psnr", "psnr"),
        ("test/nll_5000", "nll_N"),
        ("test/labels_20/pixels_deviation", "labels_N/pixels_deviation"),
        ("probe/accuracy", "accuracy"),
        ("test/accuracy@100", "accuracy"),
        ("validation/dead_units/encoder.0", "dead_units"),
        ("test/pseudo_psnr", None),  # not psnr, though the name ends like it
        ("test/psnr_of_edges", None),
        ("psnr/test", "psnr"),
        ("test", None),
        ("stage1", None),
        ("", None),
    ],
)
def test_names_are_split_at_slashes(name: str, metric: str | None) -> None:
    found = find_metric(name)
    assert (found and found.name) == metric
    assert metric_of(name).higher_is_better == (metric in ("psnr", "accuracy"))


def test_declarations_of_the_run_take_precedence() -> None:
    own = {metric.name: metric for metric in (Metric("psnr"), Metric("f2", "%", True), Metric("test/mse", "", True))}
    assert not metric_of("test/psnr", own).higher_is_better
    assert metric_of("stage1/validation/f2", own).unit == "%"
    assert metric_of("test/mse", own).higher_is_better and not metric_of("validation/mse", own).higher_is_better
    assert metrics_from_json(metrics_to_json(own.values())) == own
    assert metrics_from_json(None) == {}
    for damaged in ([], {"f2": True}, {"f2": {"unit": "%"}}, {"f2": {"higher_is_better": "yes"}}):
        with pytest.raises(DataError, match=r"^metrics"):
            metrics_from_json(damaged)


def numbers(mse: float, f2: float, declared: object) -> dict[str, object]:
    return {"test": {"mse": mse, "psnr": 20.0, "f2": f2}, **({"metrics": declared} if declared else {})}


def test_a_declared_metric_is_ranked_in_its_direction(tmp_path: Path) -> None:
    declared = {"f2": {"unit": "%", "higher_is_better": True}}
    for name, f2 in (("low", 0.2), ("high", 0.9), ("middle", 0.5)):
        write_run(tmp_path / name, 0.1, lr=f2, summary=numbers(0.1, f2, declared))
    question = Question(metrics=("f2", "test/mse"))
    table = compare(collect([tmp_path]), question)
    assert [group.runs[0].name for group in table.groups] == ["high", "middle", "low"] == order(table.ranked())
    assert [group.runs[0].name for group in compare(collect([tmp_path]), Question(best=1, metrics=("f2",))).groups] == [
        "high"
    ]
    [together] = compare(collect([tmp_path]), Question(metrics=("f2",), group_by=())).groups
    assert (best := together.best_run("test/f2")) is not None and best.name == "high"
    assert "test/f2 ↑" in format_terminal(table) and "test/mse ↓" in format_terminal(table)
    page = build_page(table, [], tmp_path)
    assert 'data-name="test/f2" class=number data-best=highest' in page
    assert 'data-name="test/mse" class=number><' in page


def order(groups: list) -> list[str]:  # type: ignore[type-arg]
    return [group.runs[0].name for group in groups]


def test_without_a_valid_declaration_lower_is_better(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, f2, declared in (("low", 0.2, None), ("high", 0.9, {"f2": 3})):
        write_run(tmp_path / name, 0.1, lr=f2, summary=numbers(0.1, f2, declared))
    runs = collect([tmp_path])
    assert order(compare(runs, Question(metrics=("f2",))).groups) == ["low", "high"]
    assert [run.state for run in runs] == ["damaged", "finished"]
    assert "high/summary.json: is not the summary of a run (metrics.f2=3: must be a mapping)" in caplog.text


@pytest.mark.parametrize(
    "question", [Question(metrics=("f2", "mse")), Question(sort="f2"), Question(best=1, metrics=("f2",))]
)
def test_the_direction_of_a_number_that_nothing_declares_is_reported(
    question: Question, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever its name suggests: renaming a number changes no ranking silently."""
    declared = {"f2": {"unit": "", "higher_is_better": True}}
    for folder, content in (("declared", declared), ("undeclared", None)):
        for name, f2 in (("low", 0.2), ("high", 0.9)):
            write_run(tmp_path / folder / name, 0.1, lr=f2, summary=numbers(0.1, f2, content))
        compare(collect([tmp_path / folder]), question)
        found = "test/f2: nothing declares its direction, so lower is better here" in caplog.text
        assert found == (folder == "undeclared")


def test_runs_that_disagree_on_a_direction_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, up in (("a", True), ("b", False)):
        declared = {"f2": {"unit": "", "higher_is_better": up}}
        write_run(tmp_path / name, 0.1, lr=0.1 + up, summary=numbers(0.1, 0.1 + up, declared))
    table = compare(collect([tmp_path]), Question(metrics=("f2",)))
    assert order(table.groups) == ["a", "b"]
    assert "b: declares f2 in the opposite direction; here higher is better" in caplog.text


def test_arrows_are_left_out_if_they_do_not_fit(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 0.1)
    table = compare(collect([tmp_path]))
    widest = max(map(len, format_terminal(table).splitlines()[2:4]))
    assert "↓" in format_terminal(table, widest) and "↓" not in format_terminal(table, widest - 1)
