"""Excluded classes, folders with defects and masks, and the protocol that scores them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch import nn

from aerun.config.parse import parse
from aerun.core.autoencoder import Autoencoder
from aerun.dataset import FashionMNISTMini, ImageFolder
from aerun.dataset.data import Arrays, Data, Split
from aerun.dataset.shared import map_shared, write_shared
from aerun.dataset.splitting import exclude_classes
from aerun.errors import ConfigError, DataError
from aerun.latent import Deterministic
from aerun.loss import MSE
from aerun.noise import NoNoise
from aerun.protocol import Anomaly, Likelihood, Subject
from aerun.protocol.runner import check_protocols, run_protocols
from aerun.sparsity import NoSparsity
from tests.keys import PLAIN

Compose = Callable[[Sequence[str]], dict[str, Any]]
CPU = torch.device("cpu")
FOLDER: dict[str, Any] = {**PLAIN, "size": 16, "channels": 1, "fit": "crop", "on_error": "fail", "test": 0.5}


def arrays() -> Arrays:
    """Each image is its label; class 3 is in the test part alone."""
    train, test = np.array([0, 1, 2, 0, 1, 2]), np.array([0, 1, 2, 3])
    names = ["zero", "one", "two", "three"]
    return Arrays(*(part[:, None].astype(np.float32) for part in (train, test)), train, test, names)


@pytest.mark.parametrize(
    ("exclude", "train", "anomalies"),
    [
        ([1], [0, 2, 0, 2], [1]),
        (["one", 3], [0, 2, 0, 2], [1, 3]),
        (["all", "but", 2], [2, 2], [0, 1, 3]),
        (["all", "but", "two", 0], [0, 2, 0, 2], [1, 3]),
    ],
)
def test_excluded_classes_are_neither_trained_nor_tested_on(
    exclude: list[int | str], train: list[int], anomalies: list[int]
) -> None:
    found = exclude_classes(arrays(), exclude)
    assert found.train[:, 0].tolist() == found.train_labels.tolist() == train
    assert found.anomalies[:, 0].tolist() == found.anomaly_labels.tolist() == anomalies
    assert sorted([*found.test_labels, *anomalies]) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("exclude", "message"),
    [
        ([4], "dataset.exclude=[4]: no test image has the label 4. Allowed: 0 to 3, or zero, one, two, three"),
        (["twoo"], "dataset.exclude=[twoo]: no test image has the label twoo. Did you mean 'two'? Allowed: 0 to 3, or"),
        ([0, 1, 2], "dataset.exclude=[0,1,2]: leaves no training images"),
        (["all", "but", 3], "dataset.exclude=[all,but,3]: leaves no training images"),
        (["all", "but", 0, 1, 2, 3], "dataset.exclude=[all,but,0,1,2,3]: leaves no excluded test images"),
    ],
)
def test_what_cannot_be_excluded_is_an_error_in_a_line(exclude: list[int | str], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        exclude_classes(arrays(), exclude)
    assert str(raised.value).startswith(message)
    with pytest.raises(ConfigError, match="these data have no labels"):
        exclude_classes(Arrays(np.zeros((2, 1)), np.zeros((2, 1))), [1])


def test_the_parts_of_a_data_set_with_an_excluded_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AERUN_DATA", str(tmp_path))
    whole = FashionMNISTMini(**PLAIN).load(CPU)
    data = FashionMNISTMini(**PLAIN | {"validation": 100}, exclude=["bag"]).load(CPU)
    assert data.validation is not None and data.anomalies is not None
    for part in (data.train, data.validation, data.test):
        assert 8 not in part.labels.tolist()
    bags = whole.test.inputs[whole.test.labels == 8]
    assert torch.equal(data.anomalies.inputs, bags) and len(data.test) + len(bags) == len(whole.test)
    assert data.checksum != whole.checksum
    write_shared(data, tmp_path / "shared" / "file")
    again = map_shared(tmp_path / "shared" / "file", CPU)
    assert torch.equal(again.anomalies.inputs, bags) and again.masks is None
    streamed = FashionMNISTMini(**PLAIN | {"validation": 100, "memory_limit": "1MiB"}, exclude=["bag"]).load(CPU)
    assert streamed.streamed and torch.equal(streamed.anomalies.inputs[:], bags)
    assert torch.equal(streamed.test.inputs[:], data.test.inputs)


def draw(path: Path, brightness: int, spot: tuple[int, int, int, int] | None = None) -> None:
    """A gray picture of 32 x 32 pixels, with a white rectangle."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((32, 32), brightness, np.uint8)
    if spot is not None:
        pixels[spot[0] : spot[1], spot[2] : spot[3]] = 255
    Image.fromarray(pixels).save(path)


@pytest.fixture
def bottles(tmp_path: Path) -> Path:
    """30 good pictures for training, 4 for testing, 2 broken ones and a stain, in the layout of MVTec AD."""
    root = tmp_path / "bottle"
    for number in range(30):
        draw(root / "train" / "good" / f"{number:03}.png", 40 + number)
    for number in range(4):
        draw(root / "test" / "good" / f"{number:03}.png", 50 + number)
    for name, spots in {"broken": [(0, 8, 0, 8), (20, 28, 4, 20)], "stain": [(8, 16, 8, 16)]}.items():
        for number, spot in enumerate(spots):
            draw(root / "test" / name / f"{number:03}.png", 50, spot)
            draw(root / "ground_truth" / name / f"{number:03}_mask.png", 0, spot)
    return root


@pytest.mark.parametrize("cached", [False, True])
def test_a_folder_in_the_layout_of_mvtec(bottles: Path, cached: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if cached:
        monkeypatch.setenv("AERUN_DATA", str(bottles.parent / "cache"))
    else:
        monkeypatch.setattr(ImageFolder, "read_cached", lambda self: None)
    data = ImageFolder(**FOLDER, root=str(bottles), layout="mvtec").load(CPU)
    assert (len(data.train), len(data.test), len(data.anomalies)) == (30, 4, 3)
    assert data.classes == ["broken", "good", "stain"]
    assert data.test.labels.tolist() == [1] * 4 and data.anomalies.labels.tolist() == [0, 0, 2]
    assert data.test.inputs[:, 0, 0, 0].tolist() == [50, 51, 52, 53]
    assert torch.equal(data.masks, (data.anomalies.inputs[:, 0] > 150).to(torch.uint8))
    assert data.masks.sum((1, 2)).tolist() == [16, 32, 16]  # at half the size


def test_masks_that_do_not_fit_are_errors(bottles: Path) -> None:
    def load(**keys: Any) -> Data:
        return ImageFolder(**FOLDER | keys, root=str(bottles), layout="mvtec").load(CPU)

    mask = bottles / "ground_truth" / "stain" / "000_mask.png"
    with pytest.raises(ConfigError, match="masks are not transformed"):
        load(input_transform=["RandomInvert"], target_transform=["RandomInvert"])
    Image.new("L", (32, 16)).save(mask)
    with pytest.raises(DataError, match=r"stain/000_mask\.png: is of 32 x 16 pixels, its picture of 32 x 32"):
        load()
    mask.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"stain/000_mask\.png: cannot be decoded"):
        load()
    mask.unlink()
    with pytest.raises(DataError, match=r"stain/000_mask\.png: there is no such mask; without the folder ground_truth"):
        load()
    (bottles / "ground_truth").rename(bottles / "masks")
    assert load().masks is None


def test_folders_that_lack_a_part_are_errors(bottles: Path) -> None:
    def folder(**keys: Any) -> ImageFolder:
        return ImageFolder(**FOLDER | {"root": str(bottles), "layout": "mvtec"} | keys)

    for key, value in {"exclude": [1], "classes": [1], "test_root": "x"}.items():
        with pytest.raises(ValueError, match=rf"{key}=.*: layout=mvtec says which pictures are which"):
            folder(**{key: value})
    draw(bottles / "test" / "x.png", 1)
    with pytest.raises(DataError, match="layout=mvtec needs every picture in train/CLASS/ or test/CLASS/"):
        folder().load(CPU)
    (bottles / "test" / "x.png").unlink()
    (bottles / "test" / "good").rename(bottles / "test" / "fine")
    with pytest.raises(
        DataError, match="found no normal test pictures; it needs train/good, test/good and test/DEFECT"
    ):
        folder().load(CPU)
    (bottles / "train").rename(bottles / "training")
    with pytest.raises(DataError, match=r"layout=mvtec needs the folder train in it"):
        folder().check()


@pytest.mark.parametrize("cached", [False, True])
def test_a_folder_of_test_pictures_of_its_own(bottles: Path, cached: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if cached:
        monkeypatch.setenv("AERUN_DATA", str(bottles.parent / "cache"))
    else:
        monkeypatch.setattr(ImageFolder, "read_cached", lambda self: None)
    two = {"root": str(bottles / "train"), "test_root": str(bottles / "test")}
    data = ImageFolder(**FOLDER, **two).load(CPU)
    assert (len(data.train), len(data.test), data.classes) == (30, 7, ["broken", "good", "stain"])
    data = ImageFolder(**FOLDER, **two, exclude=["broken", "stain"]).load(CPU)
    assert (len(data.test), len(data.anomalies)) == (4, 3)
    for root, test_root in (("", "test"), ("test", ""), ("test", "test"), ("test/../train", ".")):
        shared = {"root": str(bottles / root), "test_root": str(bottles / test_root)}
        with pytest.raises(DataError, match=r"dataset\.test_root=.*: this folder and dataset\.root=.* share pictures"):
            ImageFolder(**FOLDER, **shared).check()
    with pytest.raises(DataError, match=r"dataset\.test_root=nowhere: no such file or folder"):
        ImageFolder(**FOLDER, **two | {"test_root": "nowhere"}).check()


class Halves(nn.Module):
    """Keeps the first half of a vector."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows[:, :4]


def subject(latent: Any = None) -> Subject:
    """The model reconstructs the first four of eight values, and zeros; anomalies have more in the last four."""
    decoder = nn.Linear(4, 8, bias=False)
    with torch.no_grad():
        decoder.weight.copy_(torch.eye(8)[:, :4])
    shapes = {"input_shape": (8,), "output_shape": (8,), "code_shape": (4,), "output_activation": "identity"}
    model = Autoencoder(Halves(), decoder, sparsity=NoSparsity("identity"), latent=latent or Deterministic(), **shapes)
    random = torch.Generator().manual_seed(0)
    sizes = torch.tensor([1.0] * 4 + [0.1] * 4)

    def part(count: int, factor: float = 1.0) -> Split:
        rows = torch.randn(count, 8, generator=random) * sizes
        rows[:, 4:] *= factor
        return Split(rows, rows, None)

    data = Data(part(400), part(100), part(200), None, "", anomalies=part(150, 2.0))
    return Subject(model.eval(), data, NoNoise(), MSE(reduction="mean"), FashionMNISTMini(**PLAIN), 0)


def test_the_protocol_by_hand() -> None:
    asked = subject()
    found = Anomaly(neighbors=5, false_alarms=0.05, samples=0)(asked).numbers
    normal, others = (
        (part.inputs[:, 4:].double() ** 2).mean(1).numpy() / 2 for part in (asked.data.test, asked.data.anomalies)
    )
    truth = np.r_[np.zeros(200), np.ones(150)]
    assert found["anomaly/error_auroc"] == pytest.approx(roc_auc_score(truth, np.r_[normal, others]), abs=1e-3)
    assert 0.4 < found["anomaly/knn_auroc"] < 0.6  # codes are of the first values
    assert found["anomaly/images"] == 150 and "anomaly/likelihood_auroc" not in found
    assert found["anomaly/fused_false_alarms"] < 0.15
    declared = {metric.name for metric in Anomaly.metrics}
    assert found.keys() <= declared and all(name.startswith("anomaly/") for name in declared)


def test_what_the_protocol_cannot_evaluate_is_an_error_before_training(compose: Compose) -> None:
    asked = subject()
    protocol = Anomaly(neighbors=5, false_alarms=0.01, samples=0)
    check_protocols({"anomaly": protocol}, asked.data, asked.autoencoder)
    asked.data.validation = Split(torch.zeros(5, 8), torch.zeros(5, 8), None)
    with pytest.raises(ConfigError) as raised:
        check_protocols({"anomaly": protocol}, asked.data, asked.autoencoder)
    assert str(raised.value) == (
        "protocol.anomaly: false_alarms=0.01: needs at least 99 validation images, there are 5; with 5 the rate must "
        "be at least 0.167"
    )
    asked.data.validation = None
    with pytest.raises(ConfigError, match=r"needs at least 99 validation images, there are 0$"):
        check_protocols({"anomaly": protocol}, asked.data, asked.autoencoder)
    asked.data.anomalies = None
    with pytest.raises(ConfigError, match=r"protocol\.anomaly: there are no anomalies: name classes to keep out"):
        check_protocols({"anomaly": protocol}, asked.data, asked.autoencoder)
    assert run_protocols({"anomaly": protocol}, asked).unanswered == {"anomaly": "there are no anomalies"}
    with pytest.raises(ConfigError, match=r"exclude=\['all', 'but'\]: must list at least one label"):
        parse(compose(["dataset.exclude=[all,but]"]))


def run_words(out: str) -> list[str]:
    return [f"hydra.run.dir={out}", "trainer.epochs=1", "tracker=none", "trainer.figures=none", "trainer.device=cpu"]


def test_a_run_reports_the_scores_of_a_class_against_the_rest(train: Callable[..., Any], tmp_path: Path) -> None:
    words = ["dataset.exclude=[all,but,trouser]", "protocol=anomaly", "protocol.anomaly.samples=10", *run_words("run")]
    words += ["model=fc_vae", "model.hidden=[32]", "model.code_size=4", "loss.reduction=sum", "trainer.epochs=20"]
    words += ["trainer.figures=final"]
    done = train(*words)
    assert done.returncode == 0, done.stderr
    test = json.loads((tmp_path / "run" / "summary.json").read_text())["test"]
    for score in ("error", "error_peak", "ssim", "mahalanobis", "knn", "likelihood", "fused", "pca"):
        assert 0.6 < test[f"anomaly/{score}_auroc"] <= 1, score
    assert test["anomaly/fused_false_alarms"] < 0.2 and test["anomaly/images"] == 1797
    assert (tmp_path / "run" / "figures" / "anomalies_test.png").exists()
    again = train("run=run", command="evaluate")
    assert again.returncode == 0 and "differ" not in again.stderr, again.stderr


def test_a_run_on_a_folder_with_masks_reports_pixels(train: Callable[..., Any], bottles: Path, tmp_path: Path) -> None:
    words = ["dataset=image_folder", f"dataset.root={bottles}", "dataset.layout=mvtec", "dataset.size=16"]
    words += ["dataset.channels=1", "dataset.validation=9", "protocol=anomaly", "protocol.anomaly.false_alarms=0.1"]
    done = train(*words, *run_words("run"), "model.hidden=[16]", "model.code_size=2")
    assert done.returncode == 0, done.stderr
    test = json.loads((tmp_path / "run" / "summary.json").read_text())["test"]
    assert test["anomaly/error_auroc"] == 1  # white spots on gray
    assert test["anomaly/error_pixel_auroc"] > 0.8 and 0 <= test["anomaly/pca_pro"] <= 1
    wrong = train(*words, "dataset.validation=5", *run_words("other"))
    assert wrong.returncode == 1 and "needs at least 9 validation images, there are 5" in wrong.stderr


def test_the_likelihood_of_an_image_does_not_depend_on_other_images() -> None:
    from aerun.latent import Gaussian

    asked = subject()
    encoder = nn.Sequential(nn.Linear(8, 8))
    gaussian = Gaussian(beta=1.0, free_bits=0.0)
    model = Autoencoder(
        encoder, nn.Linear(4, 8), sparsity=NoSparsity("identity"), latent=gaussian, input_shape=(8,),
        output_shape=(8,), code_shape=(4,), output_activation="identity",
    ).eval()  # fmt: skip
    whole = Likelihood(samples=20, images=None, samples_of_rest=None, batch_size=500)
    rows = asked.data.test.inputs

    def each(part: torch.Tensor) -> torch.Tensor:
        split = Split(part, part, None)
        data = Data(split, None, split, None, "")
        return whole.each(Subject(model, data, NoNoise(), MSE(reduction="sum"), None, 0))

    torch.testing.assert_close(each(rows)[7:8], each(rows[7:8]))
    assert each(rows).std() > 0
