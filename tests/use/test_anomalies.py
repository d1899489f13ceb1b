"""aerun-anomalies: scores of folders and arrays, the threshold, and what it writes."""

from __future__ import annotations

import csv
import json
import logging
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import aerun
from aerun.cli import anomalies
from aerun.dataset.data import Split
from aerun.errors import ConfigError, DataError
from aerun.metrics import anomaly_scores
from aerun.protocol.anomaly import MAPS as PROTOCOL_MAPS
from aerun.protocol.anomaly import SCORES as PROTOCOL_SCORES
from aerun.use.anomalies.anomaly_report import anomalies_as_csv, heat
from aerun.use.anomalies.finding import find_anomalies, fit_run
from aerun.use.opened_run import open_run

ROOT = Path(__file__).resolve().parent.parent.parent
Trained = Callable[..., Path]
TROUSERS = ("dataset.exclude=[all,but,trouser]", "dataset.validation=200")


def call(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["aerun-anomalies", *map(str, words)])
    return anomalies.main()


@pytest.fixture
def run(trained: Trained) -> Path:
    return trained(*TROUSERS, "trainer.epochs=15")


@pytest.fixture
def clothes(run: Path, tmp_path: Path) -> Path:
    """Twelve trousers, and six other garments below ``other``."""
    data = open_run(run).data
    assert data.anomalies is not None
    for name, images in {"trouser": data.test.inputs[:12], "other/piece": data.anomalies.inputs[:6]}.items():
        for number, image in enumerate(images):
            path = tmp_path / "clothes" / f"{name}_{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[0].numpy()).save(path)
    return tmp_path / "clothes"


def shown_commands() -> list[str]:
    """Every line of the pages that shows the command, without comments."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    blocks = [block for page in pages for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL)]
    lines = [re.split(r"\s#", line)[0].strip() for block in blocks for line in block.splitlines()]
    return list(dict.fromkeys(line for line in lines if line.startswith("aerun-anomalies ")))


def test_pages_show_the_command() -> None:
    assert len(shown_commands()) >= 5


@pytest.mark.parametrize("line", shown_commands())
def test_a_command_that_a_page_shows_works(
    line: str, run: Path, clothes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "vectors.npy", open_run(run).data.test.inputs[:3].numpy())
    monkeypatch.chdir(tmp_path)
    places = {"outputs/RUN_FOLDER": str(run), "RUN": str(run), "~/new": str(clothes)}
    assert call(monkeypatch, *(places.get(word, word) for word in shlex.split(line)[1:])) == 0


def test_names_of_scores_are_the_same_everywhere() -> None:
    assert set(anomalies.SCORES) == set(PROTOCOL_SCORES) == set(anomaly_scores.SCORES)
    assert set(PROTOCOL_MAPS) == set(anomaly_scores.PEAKS)


def test_a_folder_with_all_outputs(
    run: Path, clothes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = ["--csv", tmp_path / "new" / "s.csv", "--sheet", tmp_path / "s.png", "--maps", tmp_path / "m.npz"]
    assert call(monkeypatch, run, clothes, "-k", "4", "--false-alarms", "0.05", *outputs) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8 and "other/piece" in lines[1] and "alarm" in lines[1]
    assert lines[5] == "and 14 other pictures with lower scores; --csv writes all"
    assert "for 0.05 false alarms, from 200 normal images" in lines[6] and lines[7].endswith("of 18 pictures above it")
    with (tmp_path / "new" / "s.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 18 and [float(row["fused"]) for row in rows] == sorted(
        (float(row["fused"]) for row in rows), reverse=True
    )
    assert sum(row["name"].startswith("other/") for row in rows[:6]) >= 5
    maps = np.load(tmp_path / "m.npz")
    assert set(maps) == {"names", "error", "ssim", "pca"} and maps["error"].shape == (18, 28, 28)
    by_name = dict(zip(maps["names"].tolist(), maps["error"].max((1, 2)), strict=True))
    assert all(by_name[row["name"]] == pytest.approx(float(row["error_peak"]), rel=1e-5) for row in rows)
    sheet = np.asarray(Image.open(tmp_path / "s.png"))
    assert sheet.shape[1] == 9 * 136 + 8 and (sheet == (208, 32, 32)).all(2).any()  # a red frame
    assert call(monkeypatch, run, clothes, *outputs) == 1
    assert "already exist; pass --overwrite" in capsys.readouterr().err
    assert call(monkeypatch, run, clothes / "trouser_00.png", "--json", "--by", "knn") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["by"] == "knn" and answer["validation_images"] == 200 and answer["false_alarms"] == 0.01
    [picture] = answer["pictures"]
    row = next(row for row in rows if row["name"] == "trouser_00.png")
    for name, score in picture["scores"].items():  # of a picture alone as among others
        assert score == pytest.approx(float(row[name]), rel=1e-4), name
    low, high = answer["false_alarms_interval"]
    assert low < 0.01 < high


def test_python_takes_folders_arrays_and_images(run: Path, clothes: Path, tmp_path: Path) -> None:
    folder = aerun.find_anomalies(run, clothes, by="error", false_alarms=0.05, maps=True)
    data = open_run(run).data
    images = torch.cat([data.anomalies.inputs[:6], data.test.inputs[:12]])  # in the order of the names
    given = aerun.find_anomalies(run, images, by="error", false_alarms=0.05)
    np.testing.assert_array_equal(folder.values, given.values)
    assert folder.maps is not None and given.maps is None and given.names[:2] == ["000000", "000001"]
    np.save(tmp_path / "images.npy", images.numpy())
    np.savez(tmp_path / "images.npz", images=images.numpy(), other=np.zeros(3))
    for file in ("images.npy", "images.npz"):
        read = find_anomalies(run, tmp_path / file, by="error", false_alarms=0.05)
        np.testing.assert_array_equal(read.values, given.values)
    assert given.alarms.tolist() == (given.values > given.threshold.value).tolist() and given.alarms.any()
    outputs = open_run(run).reconstruct(images)
    np.testing.assert_allclose(given.values, (images / 255 - outputs).square().mean((1, 2, 3)), rtol=1e-4)


def test_normal_images_that_were_not_trained_on_keep_the_rate(run: Path) -> None:
    """203 of them: a binomial with a rate within the interval of the threshold."""
    opened = open_run(run)
    found = find_anomalies(opened, opened.data.test.inputs, by="error", false_alarms=0.1)
    low, high = found.threshold.low, found.threshold.high
    assert low - 0.05 < found.alarms.mean() < high + 0.05


def test_vectors_and_standardized_data(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    rows = (random.normal(size=(400, 3)) @ random.normal(size=(3, 12)) * np.logspace(0, 3, 12)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", images=rows)
    words = ["dataset=array", f"dataset.root={tmp_path / 'rows.npz'}", "dataset.normalize=standardise"]
    words += ["dataset.train_limit=null", "dataset.validation=100", "model.hidden=[16]", "model.code_size=3"]
    run = trained(*words, "trainer.epochs=60", "trainer.batch_size=16")
    others = random.permuted(rows[:40], axis=0)  # each value as often, but without the correlations
    np.save(tmp_path / "others.npy", others)
    found = find_anomalies(run, tmp_path / "others.npy", by="error", false_alarms=0.05)
    assert found.alarms.mean() > 0.5 and set(found.scores) == {"error", "pca", "mahalanobis", "knn", "fused"}
    deviation = open_run(run).autoencoder.standardise_target.deviation
    errors = ((torch.from_numpy(others) - open_run(run).reconstruct(others)) / deviation).square().mean(1)
    np.testing.assert_allclose(found.values, errors, rtol=1e-3)
    assert call(monkeypatch, run, tmp_path / "others.npy", "--sheet", tmp_path / "s.png") == 1
    assert call(monkeypatch, run, tmp_path, "--false-alarms", "0.05") == 1  # vectors are not in picture files


def test_a_gaussian_latent_has_a_likelihood(trained: Trained) -> None:
    run = trained("model=fc_vae", "model.hidden=[16]", "model.code_size=2", "loss.reduction=sum", *TROUSERS)
    opened = open_run(run)
    images = opened.data.test.inputs[:30]
    found = find_anomalies(opened, images, by="likelihood", false_alarms=0.05)
    alone = find_anomalies(opened, images[7:8], by="likelihood", false_alarms=0.05)
    assert alone.values[0] == pytest.approx(found.values[7], rel=1e-6)
    error = found.scores["error"] * 784
    assert np.corrcoef(error, found.values)[0, 1] > 0.9  # MSE is a Gaussian of variance 1/2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--false-alarms", "0.001"],
            "--false-alarms=0.001: needs at least 999 validation images, there are 200;",
        ),
        (["--by", "likelihood"], "--by=likelihood: this model and its data do not have this score. Allowed: error, "),
        (["--csv", "s.txt"], "--csv s.txt: must end in .csv"),
        (["--maps", "m.npy"], "--maps m.npy: must end in .npz"),
        (["--sheet", "s.jpg"], "argument --sheet: 's.jpg': must end in .png"),
        (["--false-alarms", "2"], "argument --false-alarms: '2': must be a number above 0, at most 1"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(
    run: Path, clothes: Path, words: list[str], message: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert call(monkeypatch, run, clothes, *words) == 1
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1].startswith(f"aerun: {message}") and not captured.out


def test_a_threshold_of_5_validation_images(trained: Trained, clothes: Path) -> None:
    few = trained("dataset.exclude=[all,but,trouser]", "dataset.validation=5")
    with pytest.raises(ConfigError) as raised:
        find_anomalies(few, clothes)
    assert str(raised.value) == (
        "false_alarms=0.01: needs at least 99 validation images, there are 5; with 5 the rate must be at least 0.167"
    )
    assert find_anomalies(few, clothes, false_alarms=0.2).threshold.images == 5
    for rate in (0, -0.1, 1.5, float("nan")):
        with pytest.raises(ConfigError, match=rf"^false_alarms={rate:g}: must be above 0 and at most 1$"):
            find_anomalies(few, clothes, false_alarms=rate)
    with pytest.raises(ConfigError, match=r"neighbors=0: must be at least 1"):
        find_anomalies(few, clothes, neighbors=0)
    binary = trained("dataset.exclude=[all,but,trouser]", "dataset.binarise=dynamic")
    with pytest.raises(ConfigError, match=r"dataset\.binarise=dynamic: this run has seen sampled binary images"):
        find_anomalies(binary, clothes, false_alarms=0.2)
    none = trained("dataset.exclude=[all,but,trouser]", "dataset.validation=0")
    with pytest.raises(ConfigError, match=r"needs at least 99 validation images, there are 0$"):
        find_anomalies(none, clothes)


def test_what_is_read_is_checked(run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def find(name: str, **arrays: np.ndarray) -> None:
        np.savez(tmp_path / name, **arrays)
        find_anomalies(run, tmp_path / name, false_alarms=0.05)

    with pytest.raises(DataError, match=r"no\.npy: there is no such file"):
        find_anomalies(run, tmp_path / "no.npy", false_alarms=0.05)
    with pytest.raises(DataError, match=r"a\.npz: does not contain an array 'images'; it contains rows"):
        find("a.npz", rows=np.zeros((2, 1, 28, 28)))
    with pytest.raises(DataError, match=r"images of shape \[2, 1, 20, 28\]: .* takes \[N,1,28,28\]"):
        find("b.npz", images=np.zeros((2, 1, 20, 28), np.uint8))
    with pytest.raises(DataError, match="have values that are not finite; the first is 1"):
        find("c.npz", images=np.stack([np.zeros((1, 28, 28)), np.full((1, 28, 28), np.nan)]))
    with pytest.raises(DataError, match=r"there is no such file or folder"):
        find_anomalies(run, tmp_path / "nowhere", false_alarms=0.05)
    (tmp_path / "d").mkdir()
    Image.new("L", (28, 28), 200).save(tmp_path / "d" / "a.png")
    (tmp_path / "d" / "b.png").write_bytes(b"none")
    caplog.set_level(logging.WARNING)
    assert find_anomalies(run, tmp_path / "d", false_alarms=0.05).names == ["a.png"] and "b.png" in caplog.text
    with pytest.raises(DataError, match="has no run folder that names its data"):
        find_anomalies(aerun.load(run), np.zeros((2, 28, 28), np.uint8))


def test_an_image_has_the_same_scores_whatever_others_there_are(run: Path) -> None:
    opened = open_run(run)
    detector, images = fit_run(opened, 0.05), opened.data.test.inputs[:70]
    together, alone = (detector.scores(Split(part, part, None)) for part in (images, images[66:67]))
    for name, values in together.items():
        assert alone[name][0] == pytest.approx(values[66], rel=1e-5), name


def test_the_colors_of_a_map_and_names_in_a_table(run: Path) -> None:
    colors = heat(np.array([[0.0, 0.5], [1.0, 9.0]]))
    assert colors.transpose(1, 2, 0).tolist() == [[[255, 255, 255], [255, 255, 0]], [[255, 0, 0], [255, 0, 0]]]
    found = find_anomalies(run, np.zeros((1, 28, 28), np.uint8), false_alarms=0.05)
    found.names[0] = "=cmd(),a"
    assert anomalies_as_csv(found).splitlines()[1].startswith('"\'=cmd(),a",')
