"""Tables for LaTeX, pandas and Parquet, rows for each epoch, and figures for a page."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aerun
from aerun.cli.compare import compare_runs
from aerun.compare import Question, collect, compare, curve_pictures
from aerun.compare.epoch_rows import clocked_lines, epoch_rows
from aerun.compare.export import one_type_per_column
from aerun.compare.latex_table import escape, format_latex
from aerun.compare.report_pictures import draw_pictures
from aerun.errors import ConfigError
from tests.runs import write_run

PDFLATEX = shutil.which("pdflatex")
NASTY = r"50%_a&b {x} \end{tabular} #1 $~^<>"


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    """Two sparsities with three seeds, and one key whose values are a number and a word."""
    for sparsity, shift in (("none", 0.0), ("topk", 3e-6)):
        for seed in range(3):
            config = {"graph": True if sparsity == "none" else "auto"}
            folder = tmp_path / "grid" / f"{sparsity}-{seed}"
            write_run(folder, 0.01 + shift * (1 + seed) + seed / 1000, sparsity=sparsity, seed=seed, config=config)
    return tmp_path / "grid"


def latex(folder: Path, **question: object) -> str:
    return format_latex(compare(collect([folder]), Question(**question)))  # type: ignore[arg-type]


def cells(text: str) -> list[list[str]]:
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    return [re.split(r"(?<!\\)&", line.removesuffix(r"\\")) for line in rows]


def test_latex_has_the_rules_of_booktabs_and_rows_of_equal_length(grid: Path) -> None:
    text = latex(grid, against=("sparsity=none",))
    assert re.findall(r"\\(\w+rule)", text) == ["toprule", "midrule", "midrule", "bottomrule"]
    [columns] = re.findall(r"\\begin\{tabular\}\{(\w+)\}", text)
    assert {len(row) for row in cells(text)} == {len(columns)} and columns.startswith("ll")
    assert all(text.count(one) == text.count(other) for one, other in ("{}", ("\\begin", "\\end")))
    mean, std = np.mean([0.01, 0.011, 0.012]), np.std([0.01, 0.011, 0.012], ddof=1)
    assert rf"${mean:.5f} \pm {std:.5f}$" in text and r"test/mse $\downarrow$" in text and r"d\_z" in text
    assert re.search(r"\$\+0\.\d+\\ \[-?0\.\d+, 0\.\d+\]\$", text)  # the difference and its interval
    assert all(line.startswith("%") for line in text.splitlines() if "chosen by" in line or "Holm" in line)


def test_latex_writes_large_and_small_numbers_with_powers_of_ten(tmp_path: Path) -> None:
    for name, mse in (("a", 2.5e-9), ("b", 0.5), ("c", 0.4)):
        write_run(tmp_path / name, mse, lr=mse)
    assert r"$2.5 \times 10^{-9}$" in latex(tmp_path)


@pytest.mark.skipif(PDFLATEX is None, reason="there is no LaTeX to compile the table with")
def test_latex_compiles_whatever_the_settings_are(grid: Path, tmp_path: Path) -> None:
    assert PDFLATEX is not None
    write_run(grid / "nasty", 0.04, config={"note": NASTY})
    head = r"\documentclass{article}\usepackage{booktabs}\usepackage[landscape]{geometry}\begin{document}\tiny"
    table = latex(grid, against=("sparsity=none", "graph=true"), keys=("note",))
    (tmp_path / "table.tex").write_text(f"{head}\n{table}\\end{{document}}\n")
    command = [PDFLATEX, "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]


def test_every_special_character_is_escaped() -> None:
    wanted = r"50\%\_a\&b \{x\} \textbackslash{}end\{tabular\} \#1 \$\textasciitilde{}\textasciicircum{}"
    assert escape(NASTY) == wanted + r"\textless{}\textgreater{}"


def test_parquet_has_the_rows_of_csv(grid: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    compare_runs([str(grid), "--format", "parquet"])
    table = parquet.read_table(io.BytesIO(capfdbinary.readouterr().out))
    compare_runs([str(grid), "--format", "csv"])
    rows = list(csv.DictReader(io.StringIO(capfdbinary.readouterr().out.decode())))
    assert table.column_names == list(rows[0]) and table.num_rows == len(rows) == 2
    assert table["test/mse"].to_pylist() == [float(row["test/mse"]) for row in rows]
    assert table["graph"].to_pylist() == [row["graph"] for row in rows] == ["true", "auto"]


def test_columns_of_mixed_types_become_text() -> None:
    rows = [{"a": True, "b": 1, "c": None}, {"a": "auto", "b": 0.5, "c": 2.0}, {"a": None, "b": None, "c": 1}]
    assert one_type_per_column(rows) == [
        {"a": "true", "b": 1, "c": None},
        {"a": "auto", "b": 0.5, "c": 2.0},
        {"a": None, "b": None, "c": 1},
    ]
    assert [row["x"] for row in one_type_per_column([{"x": 3}, {"x": "a"}])] == ["3", "a"]


def test_a_frame_is_the_table_in_pandas(grid: Path) -> None:
    pandas = pytest.importorskip("pandas")
    compared = aerun.compare_runs(grid, against="sparsity=none")
    frame = compared.frame()
    assert list(frame.columns) == list(compared.rows[0]) and frame["test/mse"].dtype == float
    assert frame["test/mse difference p t"].isna().tolist() == [True, False]
    epochs = compared.epochs()
    assert epochs["seed"].dtype == int and epochs["seed"].tolist()[:4] == [0, 0, 0, 1]
    assert len(epochs) == 6 * 3 and epochs.groupby("sparsity")["validation/loss"].min().tolist() == [0.1, 0.1]
    read = pandas.read_csv(io.StringIO(subprocess_csv(grid)))
    assert read["kept"].dtype == bool and len(read) == len(epochs) and list(read.columns) == list(epochs.columns)


def subprocess_csv(folder: Path) -> str:
    command = [sys.executable, "-m", "aerun", "compare", str(folder), "--per-epoch", "--format", "csv"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_without_pandas_a_frame_is_one_line(grid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aerun.compare.export.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"^frame\(\) and epochs\(\): need pandas: pip install 'aerun\[pandas\]'$"):
        aerun.compare_runs(grid).frame()


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--per-epoch"], "--per-epoch: needs --format csv, json or parquet"),
        (["--figures", "pdf"], "--figures: needs --output FOLDER"),
        (["--figures", "gif"], "argument --figures: 'gif': must be png, pdf, svg or several of these; see --help"),
    ],
)
def test_a_mistake_is_one_line(grid: Path, words: list[str], error: str) -> None:
    with pytest.raises(ConfigError) as raised:
        compare_runs([str(grid), *words])
    assert str(raised.value) == error


def test_each_epoch_of_each_run_is_a_row(grid: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (grid / "topk-2" / "summary.json").unlink()
    write_run(grid / "topk-2", sparsity="topk", seed=2, state="stopped", losses=(0.5, 0.4), config={"graph": "auto"})
    for run in (grid / "none-0", grid / "topk-1"):
        summary = json.loads((run / "summary.json").read_text())
        (run / "summary.json").write_text(json.dumps(summary | {"best_epoch": 2}))
    compare_runs([str(grid), "--per-epoch", "--format", "csv", "--where", "seed>=0"])
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 5 * 3 + 2 and [row["epoch"] for row in rows if row["run"] == "none-0"] == ["1", "2", "3"]
    kept = [(row["run"], row["epoch"]) for row in rows if row["kept"] == "true"]
    assert kept == [("none-0", "2"), ("topk-1", "2")]
    first = next(row for row in rows if row["run"] == "topk-2")
    assert (first["sparsity"], first["graph"], first["seed"], first["state"]) == ("topk", "auto", "2", "stopped")
    assert first["validation/loss"] == "0.5" and first["images"] == "" and first["folder"] == str(grid / "topk-2")
    compare_runs([str(grid), "--per-epoch", "--format", "json"])
    assert len(json.loads(capsys.readouterr().out)) == len(rows)


def write_clock(folder: Path, size: int, batch: int, steps: Sequence[int], speeds: Sequence[float]) -> None:
    """A run whose epochs end after these steps, at these images per second."""
    trainer = {"_target_": "aerun.trainer.Joint", "epochs": len(steps), "batch_size": batch}
    write_run(folder, 0.1, lr=batch, config={"trainer": trainer})
    lines = [
        {"epoch": i, "step": step, "train/loss": 0.1, "validation/loss": 1 / i, "train/images_per_second": speed}
        for i, (step, speed) in enumerate(zip(steps, speeds, strict=True), 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    data = {"checksum": "x", "input_shape": [1, 2, 2], "output_shape": [1, 2, 2], "images": {"train": size}}
    (folder / "environment.json").write_text(json.dumps({"dataset": data}))


def test_images_and_seconds_of_an_epoch_by_hand(tmp_path: Path) -> None:
    """Epochs of 100 images in batches of 30, so 4 steps, the last one with 10 images; the third epoch ends early."""
    write_clock(tmp_path / "a", 100, 30, [4, 8, 10], [50.0, 100.0, 60.0])
    [run] = collect([tmp_path / "a"])
    assert [line["images"] for line in clocked_lines(run)] == [100, 200, 260]
    assert [line["seconds"] for line in clocked_lines(run)] == pytest.approx([2.0, 3.0, 4.0])


def test_seconds_of_a_real_run_are_those_of_its_summary(
    compose: Callable[[Sequence[str]], dict[str, Any]], tmp_path: Path
) -> None:
    """The trainer's own clock and count are an independent record."""
    from aerun.config.parse import parse
    from aerun.runs.run import run

    words = ["dataset.train_limit=300", "dataset.validation=50", "trainer.epochs=3", "trainer.pictures=0"]
    config = compose([*words, "trainer.device=cpu", "trainer.threads=1"])
    run(parse(config, {}), config, tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    rows = epoch_rows(compare(collect([tmp_path / "run"])))
    assert rows[-1]["seconds"] == pytest.approx(summary["train_seconds"], rel=1e-9)
    assert rows[-1]["images"] == pytest.approx(summary["images_per_second"] * summary["train_seconds"])
    assert [row["kept"] for row in rows].index(True) == summary["best_epoch"] - 1


@pytest.mark.parametrize("clock", ["epoch", "step", "image", "second"])
def test_learning_curves_are_drawn_over_the_chosen_clock(
    tmp_path: Path, clock: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clock(tmp_path / "a", 100, 30, [4, 8], [50.0, 100.0])
    write_clock(tmp_path / "b", 100, 50, [2, 4], [50.0, 100.0])
    drawn: list[list[float]] = []
    real = curve_pictures.learning_curves
    monkeypatch.setattr(
        "aerun.compare.curve_pictures.learning_curves",
        lambda curves, *rest: drawn.append([*curves[0].x]) or real(curves, *rest),
    )
    draw_pictures(compare(collect([tmp_path])), clock)
    wanted = {"epoch": [1.0, 2.0], "step": [4.0, 8.0], "image": [100.0, 200.0], "second": [2.0, 3.0]}
    assert drawn[0] == wanted[clock]


def test_figures_for_a_page_have_its_width_and_their_fonts(grid: Path, tmp_path: Path) -> None:
    report = tmp_path / "report"
    for columns, inches in ((1, 3.25), (2, 6.75)):
        compare_runs([str(grid), "--output", str(report), "--figures", "pdf,svg", "--columns", str(columns)])
        pdf, svg = ((report / f"learning_curves.{form}").read_bytes() for form in ("pdf", "svg"))
        [box] = re.findall(rb"/MediaBox \[ 0 0 ([\d.]+) [\d.]+ \]", pdf)
        assert float(box) == pytest.approx(72 * inches, abs=0.01)
        assert b"/FontFile2" in pdf and b"/Type3" not in pdf
        [width] = re.findall(rb'<svg [^>]*width="([\d.]+)pt"', svg)
        assert float(width) == pytest.approx(72 * inches, abs=0.01) and b"<text" not in svg
        again = [picture for picture in draw_pictures(compare(collect([grid]))) if picture.name == "learning_curves"]
        assert again[0].as_file("pdf", columns) == pdf and again[0].as_file("svg", columns) == svg
    assert not list(report.glob("*.png")) and (report / "compare.tex").exists() and (report / "epochs.csv").exists()
