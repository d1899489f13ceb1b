"""``python -m aerun compare``: formats, files, errors, and real runs."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from aerun.cli.compare import compare_runs
from aerun.compare import collect
from aerun.metrics.declared import find_metric
from tests.runs import write_run, write_sweep

Train = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).resolve().parent.parent
TINY = ["dataset.train_limit=300", "dataset.validation=50", "trainer.epochs=2", "trainer.pictures=0"]


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    """Two learning rates with two seeds each; one run diverged, and one job is waiting."""
    folder = tmp_path / "grid"
    write_run(folder / "a", 1 / 3, lr=0.1, seed=0)
    write_run(folder / "b", 1 / 7, lr=0.1, seed=1)
    write_run(folder / "c", 0.2, lr=0.01, seed=0)
    write_run(folder / "d", lr=0.01, seed=1, state="diverged", error="DivergedError: the loss | is nan")
    jobs = {
        name: {"optimizer.lr": lr, "seed": seed}
        for name, lr, seed in zip("abcd", (0.1, 0.1, 0.01, 0.01), (0, 1, 0, 1), strict=True)
    }
    write_sweep(folder, {**jobs, "e": {"optimizer.lr": 0.01, "seed": 2}})
    return folder


def test_csv_has_one_row_for_each_group_in_full_precision(grid: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compare_runs([str(grid), "--format", "csv"])
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["optimizer.lr"] for row in rows] == ["0.01", "0.1"]
    assert float(rows[1]["test/mse"]) == statistics.fmean([1 / 3, 1 / 7])
    assert float(rows[1]["test/mse std"]) == statistics.stdev([1 / 3, 1 / 7])
    assert (rows[0]["n"], rows[0]["runs"], rows[0]["state"]) == ("1", "3", "1 of 3, 1 diverged, 1 waiting")
    assert rows[0]["test/mse std"] == "" and rows[1]["folder"] == str(grid / "b")


def test_json_has_all_runs(grid: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(grid / "f", float("nan"), lr=0.5)
    compare_runs([str(grid), "--format", "json", "--metric", "test/mse,validation/loss", "--metric", "test/psnr"])
    content = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert content["metrics"] == ["test/mse", "validation/loss", "test/psnr"] and content["over"] == {"seed": 3}
    group, errors = next(each for each in content["groups"] if each["values"] == {"optimizer.lr": 0.1}), (1 / 3, 1 / 7)
    assert group["metrics"]["test/mse"] == {
        "mean": statistics.fmean([1 / 3, 1 / 7]),
        "std": statistics.stdev([1 / 3, 1 / 7]),
        "n": 2,
        "interval": pytest.approx(list(stats.t.interval(0.95, 1, np.mean(errors), stats.sem(errors)))),
    }
    assert [run["metrics"]["test/mse"] for run in group["runs"]] == [1 / 3, 1 / 7]
    assert content["groups"][-1]["metrics"]["test/mse"] == {"mean": None, "std": None, "n": 1, "interval": None}
    assert content["failures"] == [
        {
            "state": "diverged",
            "cause": "DivergedError: the loss | is nan",
            "runs": [
                {"folder": str(grid / "d"), "overrides": ["model=fc", "sparsity=none", "optimizer.lr=0.01", "seed=1"]}
            ],
        }
    ]


def test_markdown_is_a_table_that_no_value_breaks(grid: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(grid / "f", 0.5, config={"note": "a|b <i>"})
    compare_runs([str(grid), "--format", "markdown"])
    out = capsys.readouterr().out
    table = [line for line in out.splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1
    assert table[0].startswith("| optimizer.lr | note | test/mse ↓ |") and "a\\|b \\<i>" in out
    assert "- 1 diverged: DivergedError: the loss \\| is nan" in out


def test_best_prints_how_to_load_the_run(grid: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compare_runs(["--best", str(grid), "--no-group"])
    out = capsys.readouterr().out
    assert f"test/mse 0.142857\n{grid / 'b'}\n\nimport aerun\n\nmodel = aerun.load('{grid / 'b'}')\n" in out
    compare_runs([str(grid), "--best", "2", "--format", "csv"])
    assert len(capsys.readouterr().out.splitlines()) == 3


def run_script(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aerun", "compare", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--metric", "test/mes"], "aerun: --metric test/mes: no run has this number. Did you mean 'test/mse'?\n"),
        (["--metrics", "test/mse"], "aerun: --metrics: unknown option. Did you mean '--metric'?\n"),
        (["--best=0"], "aerun: argument --best: '0': must be a whole number, at least 1; see --help\n"),
        (["nowhere"], "aerun: nowhere: no such folder\n"),
    ],
)
def test_a_mistake_is_one_line(grid: Path, words: list[str], error: str) -> None:
    done = run_script(str(grid), *words)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", error)


def test_options_and_folders_come_in_any_order(grid: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = []
    for words in (
        ["--no-group", "A", "B", "--best"],
        ["A", "--best", "B", "--no-group"],
        ["--best", "1", "A", "--no-group", "B"],
    ):
        compare_runs([{"A": str(grid), "B": str(grid / "a")}.get(word, word) for word in words])
        outputs.append(capsys.readouterr().out)
    assert "aerun.load" in outputs[0] and len(set(outputs)) == 1
    done = run_script()
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "aerun: the following arguments are required: SWEEP_OR_RUN; see --help\n"


def test_a_reader_may_stop_reading(grid: Path) -> None:
    script = f"{sys.executable} -m aerun compare {grid} --format json | true"
    done = subprocess.run(["bash", "-c", f"{script}; echo ${{PIPESTATUS[0]}}"], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_a_folder_without_runs_is_one_line(tmp_path: Path) -> None:
    done = run_script(str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"aerun: {tmp_path}: contains no run (a folder with config.yaml)\n"


def test_damage_is_a_warning_and_the_table_is_printed(grid: Path) -> None:
    (grid / "a" / "summary.json").write_text("{")
    done = run_script(str(grid))
    assert done.returncode == 0 and "1 damaged" in done.stdout
    assert (
        done.stderr.startswith(f"aerun: {grid / 'a' / 'summary.json'}: cannot be read") and done.stderr.count("\n") == 1
    )


@pytest.fixture(scope="module")
def real(compose: Callable[[Sequence[str]], dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one real run."""
    from aerun.config.parse import parse
    from aerun.runs.run import run

    folder = tmp_path_factory.mktemp("real") / "run"
    config = compose([*TINY, "model=fc", "trainer.device=cpu", "trainer.threads=1"])
    run(parse(config, {"model": "fc"}), config, folder, overrides=TINY)
    return folder


def test_a_thousand_runs_are_compared_without_torch(real: Path, tmp_path: Path) -> None:
    names = ("config.yaml", "overrides.yaml", "status.json", "metrics.jsonl", "summary.json", "environment.json")
    text = (real / "config.yaml").read_text()
    summary = json.loads((real / "summary.json").read_text())
    assert "\nseed: 0\n" in text and "lr: 0.001\n" in text and "hidden: []\n" in text
    for number in range(1000):
        folder = tmp_path / "sweep" / f"run_{number}"
        folder.mkdir(parents=True)
        for name in names:
            shutil.copyfile(real / name, folder / name)
        lr = f"lr: {1 + number // 10 % 20}e-3\n"
        hidden = f"hidden: [{64 * (1 + number // 200)}]\n"
        changed = text.replace("\nseed: 0\n", f"\nseed: {number % 10}\n").replace("lr: 0.001\n", lr)
        (folder / "config.yaml").write_text(changed.replace("hidden: []\n", hidden))
        summary["test"]["mse"] = 0.01 + number / 1e5
        (folder / "summary.json").write_text(json.dumps(summary))
    code = (
        "import sys; sys.argv = ['compare', sys.argv[1]]; from aerun.cli.compare import main; main()\n"
        "print(*[name for name in ('torch', 'numpy', 'matplotlib', 'PIL') if name in sys.modules], file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "sweep")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr.strip() == ""
    assert done.stdout.startswith("1000 runs: 1000 finished") and "100 rows" in done.stdout


def test_every_number_of_a_real_run_is_declared(real: Path) -> None:
    [run] = collect([real])
    assert len(run.numbers) > 30
    assert [name for name in run.numbers if find_metric(name) is None] == []


def test_a_real_grid_and_its_report(train: Train, tmp_path: Path) -> None:
    done = train("-m", "model=fc,conv", "seed=0,1", *TINY, "hydra.sweep.dir=outputs/grid")
    assert done.returncode == 0, done.stderr
    train("optimizer=sgd", "optimizer.lr=1e9", *TINY, "hydra.run.dir=outputs/grid/wild")
    done = train("outputs", "--output", "report", command="compare")
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "report" / "compare.json").read_text())
    assert content["states"] == {"finished": 4, "diverged": 1}
    assert content["keys"] == ["model", "optimizer", "optimizer.lr"] or content["keys"] == ["model", "optimizer"]
    for group in content["groups"][:2]:
        values = [
            json.loads((tmp_path / run["folder"] / "summary.json").read_text())["test"]["mse"] for run in group["runs"]
        ]
        number = group["metrics"]["test/mse"]
        assert number["n"] == 2 and number["mean"] == pytest.approx(np.mean(values), rel=1e-12)
        assert number["std"] == pytest.approx(np.std(values, ddof=1), rel=1e-9)
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert {"compare.md", "compare.csv", "index.html", "learning_curves.png", "montage.png"} <= names
    assert "DivergedError" in done.stdout


def test_the_probes_are_test_images_at_even_distances_and_their_reconstructions(real: Path) -> None:
    import aerun
    from aerun.dataset.idx import find_idx, read_idx_bytes

    path = find_idx(ROOT / "aerun" / "data" / "fashion_mnist_mini", "t10k-images-idx3-ubyte")
    assert path is not None
    every = np.asarray(read_idx_bytes(path)[0])
    images = every[np.arange(16) * len(every) // 16].reshape(16, 1, 28, 28)
    with np.load(real / "probes.npz") as probes:
        assert set(probes) == {"inputs", "noisy", "targets", "reconstructions"}
        for name in ("inputs", "noisy", "targets"):
            assert np.array_equal(probes[name], images)
        outputs = aerun.load(real).reconstruct(images.astype(np.float32) / 255).clamp(0, 1).numpy()
        assert np.array_equal(probes["reconstructions"], np.round(outputs * 255).astype(np.uint8))


def test_the_probes_file_depends_only_on_the_images(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aerun.runs.tracking import FolderLog

    with np.load(real / "probes.npz") as probes:
        arrays = {name: probes[name] for name in ("inputs", "noisy", "targets", "reconstructions")}
    monkeypatch.setattr(time, "time", lambda: 2e9)
    FolderLog(tmp_path).arrays("probes.npz", **arrays)
    assert (tmp_path / "probes.npz").read_bytes() == (real / "probes.npz").read_bytes()
