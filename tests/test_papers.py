"""The table of papers: its arithmetic, and that it keeps what it did not measure."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from aerun.config.identity import identity
from aerun.sweep.job_index import JobIndex
from benchmarks.paper_rows import ROWS, Row
from benchmarks.papers import (
    Measured,
    configurations,
    keep_pictures,
    line,
    measured,
    spread,
    verdict,
    write_ours,
    write_page,
)

LOW = Row(name="low", paper="A 1999", protocol="p", metric="sse", published=3.0, sure="text", line=2.9, aim=2.65)
HIGH = Row(
    name="high", paper="B", protocol="p", metric="psnr", unit=" dB", line=18.2, higher=True, baselines=(("x", 1.5),)
)


def found(metric: str, *values: float) -> Measured:
    return Measured([{"test": {metric: v}, "baselines": {}, "wall_seconds": 90, "epochs": 31} for v in values])


@pytest.mark.parametrize(
    ("row", "value", "expected"),
    [
        (LOW, 2.9, "reaches at most 2.9; aim 2.65 not reached; as good as the paper"),
        (LOW, 3.1, "**falls short** at most 2.9; aim 2.65 not reached; behind the paper"),
        (LOW, 2.6, "reaches at most 2.9; aim 2.65 reached; as good as the paper"),
        (HIGH, 18.2, "reaches at least 18.2"),
        (HIGH, 18.1, "**falls short** at least 18.2"),
    ],
)
def test_verdict(row: Row, value: float, expected: str) -> None:
    assert verdict(row, value) == expected


def test_spread_is_mean_and_sample_deviation() -> None:
    assert spread([2.0, 4.0, 6.0], 2) == "4.00 ± 2.00 (3)" and spread([2.0], 1) == "2.0 (1)"


def test_rows_of_other_names_stay_as_they_were(tmp_path: Path) -> None:
    page = tmp_path / "papers.md"
    write_page({ROWS[0].name: line(ROWS[0], found("sse", 2.0, 4.0)), ROWS[1].name: line(ROWS[1], None, "get it")}, page)
    first = page.read_text()
    assert "3.00 ± 1.41 (2)" in first and "get it" in first and "What was tried" in first
    write_page({ROWS[0].name: line(ROWS[0], found("sse", 2.0))}, page)
    second = page.read_text()
    assert "2.00 (1)" in second and "What was tried" not in second
    write_page({ROWS[0].name: line(ROWS[0], None, "no run has finished")}, page)
    assert page.read_text() == second  # what was measured once is not forgotten where the runs, or the data, are gone
    kept = [text for text in second.splitlines() if text.startswith(f"| `{ROWS[1].name}`")]
    assert kept and kept[0] in first


def test_every_row_has_as_many_cells_as_the_head(tmp_path: Path) -> None:
    rows = {row.name: line(row, found(row.metric, 2.0)) for row in ROWS}
    cells = {text.count("|") for text in write_page(rows, tmp_path / "p.md").splitlines() if text.startswith("|")}
    assert len(cells) == 1


def test_a_presets_file_is_given_its_number_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "low.yaml"
    path.write_text("# paper: x\n# ours: 2.7,\n#   and more\n# minutes: 1\nseed: 0 # ours: no\n")
    write_ours(LOW, found("sse", 2.8, 2.9), tmp_path)
    lines = path.read_text().splitlines()
    assert lines[0] == "# paper: x" and lines[2:] == ["# minutes: 1", "seed: 0 # ours: no"]
    assert lines[1].startswith("# ours: test/sse 2.85 ± 0.07, 2 seeds (") and "31 epochs, 1.5 minutes a run" in lines[1]


def test_only_runs_of_the_presets_present_settings_count(tmp_path: Path) -> None:
    row = next(row for row in ROWS if row.name == "hinton2006")
    configs = configurations(row, 2)
    assert [config["seed"] for config in configs] == [0, 1] and configs[0]["trainer"]["threads"] == 1
    old = {**configs[1], "optimizer": {**configs[1]["optimizer"], "lr": 1.0}}
    jobs = {f"job{i}": {"overrides": [], "values": {}, "hash": identity(c)} for i, c in enumerate((configs[0], old))}
    folder = tmp_path / "papers_hinton2006"
    folder.mkdir()
    JobIndex("papers_hinton2006", [], jobs).write(folder)
    assert measured(row, configs, tmp_path) is None
    for i, name in enumerate(jobs):
        (folder / name).mkdir()
        summary = {"test": {"mse": 0.1, "sse": 3.0 + i}, "baselines": {}, "epochs": 1, "steps": 1, "wall_seconds": 60.0}
        (folder / name / "summary.json").write_text(json.dumps(summary))
    result = measured(row, configs, tmp_path)
    assert result is not None and result.values("test/sse") == [3.0]
    assert (result.place, result.day) == ("not known", str(date.today()))
    about = {"device": "cuda:0", "device_name": "Big GPU", "threads": 1, "host": "elsewhere"}
    (folder / "job0" / "environment.json").write_text(json.dumps(about))
    result = measured(row, configs, tmp_path)
    assert result is not None and result.place == "Big GPU"  # of the run, not of who writes the page


def test_the_page_shows_the_first_runs_figures(tmp_path: Path) -> None:
    row = replace(ROWS[0], pictures=(("code_map", "a map"), ("absent", "nothing")))
    (tmp_path / "run" / "figures").mkdir(parents=True)
    (tmp_path / "run" / "figures" / "code_map.png").write_bytes(b"picture")
    keep_pictures(row, replace(found("sse", 1.0), folder=tmp_path / "run"), tmp_path / "docs")
    kept = tmp_path / "docs" / "papers"
    assert [path.name for path in kept.iterdir()] == [f"{row.name}_code_map.png"]
    (kept / "fcwta_features_dictionary.png").write_bytes(b"picture")
    assert "](papers/fcwta_features_dictionary.png)" in write_page({}, tmp_path / "docs" / "papers.md")
