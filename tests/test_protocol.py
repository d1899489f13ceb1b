"""Protocols on known codes, compared with scikit-learn and with results computed by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from torch import nn

from aerun.cli.run_report import print_protocols
from aerun.compare import Question, compare
from aerun.compare.records import read_run
from aerun.config.parse import parse
from aerun.core.autoencoder import Autoencoder
from aerun.dataset.data import Data, Split
from aerun.dataset.random import Random
from aerun.errors import ConfigError, DataError
from aerun.latent import Deterministic
from aerun.protocol import LabelEfficiency, LinearSVM, Logistic, NearestNeighbours, SemiSupervised, Subject
from aerun.protocol.codes import CodeProtocol, LabeledImages
from aerun.protocol.label_efficiency import balanced_draws
from aerun.protocol.linear import root_mean_square
from aerun.protocol.runner import check_protocols, run_protocols
from aerun.sparsity import KL, Lifetime, NoSparsity, TopK

Compose = Callable[[Sequence[str]], dict[str, Any]]
RANDOM = {
    "images": 40, "shape": [6], "factors": 3, "generator_seed": 0, "validation": 0, "train_limit": None,
    "split_seed": 0, "normalize": "none", "input_transform": [], "target_transform": [],
}  # fmt: skip


def model(sparsity: Any = None, code: tuple[int, ...] = (6,), shape: tuple[int, ...] = (6,)) -> Autoencoder:
    """Codes are the images themselves, under the sparsity."""
    parts = {"input_shape": shape, "output_shape": shape, "code_shape": code, "output_activation": "identity"}
    constrained = sparsity or NoSparsity("identity")
    return Autoencoder(nn.Flatten(), nn.Linear(6, 6), sparsity=constrained, latent=Deterministic(), **parts).eval()


def blobs(count: int, seed: int, classes: int = 3) -> Split:
    """Vectors of overlapping classes."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count)
    centers = np.random.default_rng(9).normal(size=(classes, 6)) * 0.8
    values = torch.from_numpy(centers[labels] + random.normal(size=(count, 6))).float()
    return Split(values, values, torch.from_numpy(labels))


def subject(autoencoder: Autoencoder | None = None, **parts: Any) -> Subject:
    train, validation, test = blobs(300, 1), blobs(60, 2), blobs(200, 3)
    whole: dict[str, Any] = {"train": train, "validation": validation, "test": test, "classes": None} | parts
    return Subject(autoencoder or model(), Data(**whole, checksum=""), None, None, Random(**RANDOM), 0)


def pooled(asked: Subject) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training and validation vectors and the test's, divided by the root mean square of the former's lengths."""
    data = asked.data
    assert data.validation is not None
    fitted = np.concatenate([data.train.inputs[:].numpy(), data.validation.inputs[:].numpy()])
    labels = np.concatenate([data.train.labels, data.validation.labels])
    scale = np.sqrt((fitted.astype(np.float64) ** 2).sum(1).mean())
    return fitted / scale, labels, data.test.inputs[:].numpy() / scale, np.asarray(data.test.labels)


def test_logistic_regression_is_that_of_the_mean_loss_and_half_the_squared_weights() -> None:
    asked = subject()
    codes, labels, tested, truth = pooled(asked)
    numbers = Logistic(strengths=[1e-2])(asked)
    reference = LogisticRegression(C=1 / (1e-2 * len(labels)), tol=1e-10, max_iter=10_000).fit(codes, labels)
    assert numbers == {
        "logistic_error": pytest.approx(100 * (reference.predict(tested) != truth).mean(), abs=0.51),
        "logistic_strength": 1e-2,
    }
    fitted = Logistic(strengths=[1e-2]).fit(codes, labels, 1e-2)
    weights, shares = fitted.coef_, fitted.predict_proba(codes) - np.eye(3)[labels]
    slope = shares.T @ codes / len(labels) + 1e-2 * weights  # zero where the objective is least
    assert np.abs(slope).max() < 1e-4


def test_the_support_vector_machine_is_squared_hinge_one_versus_the_rest() -> None:
    asked = subject()
    codes, labels, _, _ = pooled(asked)
    fitted = LinearSVM(strengths=[1e-2]).fit(codes.astype(np.float64), labels, 1e-2)
    signs = 2 * np.eye(3)[labels] - 1
    short = np.maximum(0, 1 - signs * fitted.decision_function(codes))
    slope = (-2 * signs * short).T @ codes / len(labels) + 1e-2 * fitted.coef_
    assert np.abs(slope).max() < 1e-3
    assert 0 < LinearSVM(strengths=[1e-2])(asked)["svm_error"] < 60


def test_the_strength_is_chosen_on_images_that_are_held_out_and_then_all_are_fitted() -> None:
    asked = subject()
    codes, labels, tested, truth = pooled(asked)
    numbers = LinearSVM(strengths=[10.0, 1e-2], held_out=0.25)(asked)
    assert numbers["svm_strength"] == 1e-2
    reference = LinearSVC(C=1 / (1e-2 * len(labels)), tol=1e-6, max_iter=100_000).fit(codes, labels)
    assert numbers["svm_error"] == pytest.approx(100 * (reference.predict(tested) != truth).mean(), abs=0.51)
    assert numbers["svm_validation_error"] != numbers["svm_error"]
    assert numbers == LinearSVM(strengths=[1e-2, 10.0], held_out=0.25)(asked)


def test_nearest_neighbours_by_hand() -> None:
    asked = subject()
    codes, labels, tested, truth = pooled(asked)
    distances = ((tested[:, None].astype(np.float64) - codes[None]) ** 2).sum(2)
    votes = np.stack([np.bincount(labels[row], minlength=3) for row in distances.argsort(1)[:, :7]])
    wrong = 100 * (votes.argmax(1) != truth).mean()
    assert NearestNeighbours(k=7)(asked) == {"knn_error": pytest.approx(wrong)}
    with pytest.raises(DataError, match="k=361: is more than the 360 labeled images"):
        NearestNeighbours(k=361)(asked)


def test_what_the_sparsity_leaves_of_a_code() -> None:
    values = torch.tensor([[3.0, -1.0, 2.0, 0.5, 1.0, -4.0]])

    def code(keys: CodeProtocol, sparsity: Any) -> list[float]:
        return keys.encode(model(sparsity), values)[0].tolist()

    assert code(CodeProtocol(), TopK(1, "relu")) == [3, 0, 0, 0, 0, 0]
    assert code(CodeProtocol(k_factor=3), TopK(1, "relu")) == [3, 0, 2, 0, 1, 0]
    assert code(CodeProtocol(k_factor=100), TopK(1, "identity")) == values[0].tolist()
    assert code(CodeProtocol(sparse=False), TopK(1, "relu")) == [3, 0, 2, 0.5, 1, 0]
    assert code(CodeProtocol(), Lifetime(0.5, "relu")) == [3, 0, 2, 0.5, 1, 0]
    assert code(CodeProtocol(sparse=False), KL(0.1, 1.0, "sigmoid")) == pytest.approx(values[0].sigmoid().tolist())


def test_feature_maps_are_pooled_over_regions() -> None:
    maps = torch.arange(32.0).view(1, 2, 4, 4)

    def code(**keys: int) -> list[float]:
        return CodeProtocol(**keys).encode(identity, maps).flatten().tolist()

    shape = (2, 4, 4)
    identity = model(code=shape, shape=shape)
    identity.encoder = nn.Identity()
    assert code(pool=2) == [5, 7, 13, 15, 21, 23, 29, 31]
    assert len(code(pool=3, pool_stride=1)) == 2 * 2 * 2


@pytest.mark.parametrize("nonzero", [0.1, 0.9])
def test_mostly_empty_codes_are_kept_sparse(nonzero: float) -> None:
    random = torch.Generator().manual_seed(0)
    images = torch.rand(2500, 20, generator=random) * (torch.rand(2500, 20, generator=random) < nonzero)
    part = LabeledImages([images[:1700], images[1700:]], torch.zeros(2500).long())
    values = part.map_images(lambda batch: batch)
    assert sparse.issparse(values) == (nonzero < 0.3)
    dense = values.toarray() if sparse.issparse(values) else values
    assert np.array_equal(dense, images.numpy())
    assert root_mean_square(values) == pytest.approx(float(images.double().square().sum(1).mean().sqrt()))


def test_other_classes_and_halves_of_the_same_set() -> None:
    random = Random(**{**RANDOM, "images": 100, "factors": 8, "validation": 0.2, "classes": [4, 5, 6, 7]})
    data = random.load(torch.device("cpu"))
    assert data.train.labels is not None and set(data.train.labels.tolist()) == {4, 5, 6, 7}
    whole = Random(**{**RANDOM, "images": 100, "factors": 8}).load(torch.device("cpu"))
    assert whole.train.labels is not None and isinstance(whole.train.inputs, torch.Tensor)
    asked = Subject(model(), data, None, None, random, 0)
    fitted, tested = CodeProtocol(classes=[1, 3], tested_on="second_half").labeled_parts(asked)
    rows = torch.isin(whole.train.labels, torch.tensor([1, 3]))
    count = int(rows.sum())
    assert (len(fitted.labels), len(tested.labels)) == ((count + 1) // 2, count // 2)
    assert set(fitted.labels.tolist()) == {0, 1}
    found = torch.cat([piece[:] for part in (fitted, tested) for piece in part.images])
    expected = whole.train.inputs[rows]
    assert torch.equal(found, expected)  # in the stored order, cut in two
    labels = dict(zip(map(tuple, expected.tolist()), whole.train.labels[rows].tolist(), strict=True))
    for part in (fitted, tested):
        values = torch.cat([piece[:] for piece in part.images]).tolist()
        assert [labels[tuple(value)] for value in values] == [(1, 3)[label] for label in part.labels.tolist()]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"classes": [1, 8]}, "classes=[1, 8]: 8 is not a label of these data. Allowed: 0 to 2"),
        ({"k_factor": 2.0}, "k_factor=2: needs a sparsity with k"),
        ({"pool": 2}, "pool=2: needs feature maps; the code is [6]"),
    ],
)
def test_what_cannot_be_is_refused_before_training(keys: dict[str, Any], message: str) -> None:
    asked = subject(classes=["a", "b", "c"])
    with pytest.raises(ConfigError) as refusal:
        check_protocols({"knn": NearestNeighbours(**keys)}, asked.data, asked.autoencoder)
    assert str(refusal.value).startswith(f"protocol.knn: {message}")
    unlabelled = Split(asked.data.test.inputs, asked.data.test.targets, None)
    with pytest.raises(ConfigError, match=r"^protocol\.knn: needs labels; these data have none$"):
        check_protocols({"knn": NearestNeighbours()}, subject(test=unlabelled).data, asked.autoencoder)


def test_one_that_cannot_answer_takes_nothing_from_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    answers = run_protocols({"far": NearestNeighbours(k=1000), "near": NearestNeighbours(k=1)}, subject())
    assert answers.unanswered == {"far": "k=1000: is more than the 360 labeled images"}
    assert list(answers.numbers) == ["near"]
    print_protocols(answers.flat, {"near": ["knn_error"]}, answers.unanswered)
    output = capsys.readouterr().out
    assert "knn_error" in output and "protocol.far: k=1000: is more" in output


def test_a_model_is_asked_in_evaluation_mode_and_left_as_it_was() -> None:
    """A user's layer may behave differently in training mode, and keep statistics."""
    asked = subject()
    seen = []

    def spoils(about: Subject) -> dict[str, float]:
        seen.append(about.autoencoder.training)
        about.autoencoder.train()
        return {}

    for mode in (True, False):
        asked.autoencoder.train(mode)
        run_protocols({"one": spoils, "two": spoils}, asked)
        assert asked.autoencoder.training is mode
    assert seen == [False] * 4


def test_classifiers_of_dynamically_binarized_images_see_binary_ones() -> None:
    random = Random(**{**RANDOM, "images": 60, "shape": [1, 2, 3], "binarise": "dynamic", "validation": 10})
    data = random.load(torch.device("cpu"))
    assert data.train.inputs[:].unique().numel() > 2  # gray until a minibatch is formed
    for part in CodeProtocol().labeled_parts(Subject(model(), data, None, None, random, 0)):
        assert all(set(piece[:].unique().tolist()) <= {0, 255} for piece in part.images)


def test_an_error_of_any_kind_takes_nothing_from_the_run() -> None:
    """scikit-learn's own, for one: a classifier of a single class."""
    single = blobs(50, 1)
    single.labels = torch.zeros(50).long()
    answers = run_protocols(
        {"svm": LinearSVM(strengths=[1e-3]), "near": NearestNeighbours(k=1)}, subject(train=single, validation=None)
    )
    assert answers.unanswered["svm"].startswith("ValueError: ") and "near" in answers.numbers


def test_layers_that_training_held_are_trained_with_labels() -> None:
    asked = subject(Autoencoder(
        nn.Linear(6, 6), nn.Linear(6, 6), input_shape=(6,), output_shape=(6,), code_shape=(6,),
        output_activation="identity", sparsity=NoSparsity("identity"), latent=Deterministic(),
    ))  # fmt: skip
    keys: dict[str, Any] = {"labels": [30], "draws": 1, "steps": 20, "hidden": 0, "batch_size": 10, "lr": 0.1}
    keys |= {"weight_decay": 0.0, "draw_seed": 0}
    found = []
    for held in (False, True):
        asked.autoencoder.requires_grad_(not held)
        found.append(SemiSupervised(**keys)(asked))
    assert found[0] == found[1]


def test_draws_are_balanced_and_depend_on_the_seed() -> None:
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    draws = balanced_draws(labels, 11, 4, seed=0)
    for rows in draws:
        assert len(set(rows.tolist())) == 11 and sorted(np.bincount(labels[rows])) == [3, 4, 4]
    assert len({tuple(rows) for rows in draws}) == 4
    assert all(map(np.array_equal, draws, balanced_draws(labels, 11, 4, seed=0)))
    assert not np.array_equal(draws[0], balanced_draws(labels, 11, 1, seed=1)[0])
    with pytest.raises(DataError, match="63 labels of 3 classes: class 2 has only 20 images"):
        balanced_draws(labels, 63, 1, seed=0)


def test_label_efficiency_is_the_mean_over_draws_of_fits_to_them() -> None:
    asked = subject()
    codes, labels, tested, truth = pooled(asked)
    protocol = LabelEfficiency(labels=[3, 30], all=True, draws=3, strengths=[1e-2], draw_seed=5)
    answer = protocol(asked)
    for count in (3, 30):
        errors = []
        for rows in balanced_draws(labels, count, 3, seed=5):
            reference = LogisticRegression(C=1 / (1e-2 * count), tol=1e-9, max_iter=9999).fit(codes[rows], labels[rows])
            errors.append(100 * (reference.predict(tested) != truth).mean())
        for kind in ("codes", "pixels"):  # the code of this model is its input
            assert answer.numbers[f"labels_{count}/{kind}_error"] == pytest.approx(np.mean(errors), abs=0.2)
            assert answer.numbers[f"labels_{count}/{kind}_deviation"] == pytest.approx(np.std(errors, ddof=1), abs=0.3)
        assert 0 < answer.numbers[f"labels_{count}/pca_error"] < 70
    all_labels = Logistic(strengths=[1e-2])(asked)["logistic_error"]
    assert answer.numbers["labels_all/codes_error"] == all_labels
    assert "labels_all/codes_deviation" not in answer.numbers
    assert answer.numbers["labels_3/codes_error"] > answer.numbers["labels_all/codes_error"]
    [picture] = answer.pictures.values()
    assert picture.dtype == np.uint8 and picture.shape[2] == 3


def test_a_few_labels_choose_their_strength_by_cross_validation_among_themselves() -> None:
    protocol = LabelEfficiency(labels=[60], all=False, draws=2, strengths=[100.0, 1e-2], draw_seed=0)
    alone = LabelEfficiency(labels=[60], all=False, draws=2, strengths=[1e-2], draw_seed=0)
    assert protocol(subject()).numbers == alone(subject()).numbers


def test_fine_tuning_starts_from_the_encoder_and_leaves_it_as_it_was() -> None:
    keys = {"labels": [12], "draws": 2, "hidden": 0, "batch_size": 12, "weight_decay": 0.0, "draw_seed": 0}
    torch.manual_seed(0)
    asked = subject(model())
    encoder = nn.Sequential(nn.Linear(6, 6))
    encoder[0].weight.data = torch.eye(6)
    asked.autoencoder.encoder = encoder
    before = encoder[0].weight.clone()
    numbers = SemiSupervised(steps=60, lr=1e-2, **keys)(asked)
    assert torch.equal(encoder[0].weight, before)
    assert set(numbers) == {
        f"labels_12/{kind}_{what}" for kind in ("finetuned", "scratch") for what in ("error", "deviation")
    }
    assert numbers == SemiSupervised(steps=60, lr=1e-2, **keys)(asked)
    # Without effective steps the fine-tuned net is the encoder with a random head; the other is all random.
    protocol = SemiSupervised(steps=1, lr=1e-9, **keys)
    tuned, fresh = (protocol._net(asked.autoencoder, 3, seed=0, fresh=fresh) for fresh in (False, True))
    assert torch.equal(tuned.model.encoder[0].weight, before)
    assert not torch.equal(fresh.model.encoder[0].weight, before)


def test_a_run_ends_with_its_protocols(compose: Compose, tmp_path: Path) -> None:
    from aerun.runs.reopen import reevaluate
    from aerun.runs.run import run

    words = ["protocol=[linear_svm,knn]", "protocol.knn.k=3", "protocol.linear_svm.strengths=[1e-3]"]
    words += ["dataset.train_limit=500", "dataset.validation=100", "trainer.epochs=1", "trainer.device=cpu"]
    config = compose(words)
    summary = run(parse(config), config, tmp_path / "run")
    stored = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["protocols"] == {"linear_svm": ["svm_error", "svm_strength"], "knn": ["knn_error"]}
    assert 10 < stored["test"]["knn_error"] < 60 and 10 < stored["test"]["svm_error"] < 60
    assert stored["unanswered"] == {}
    assert reevaluate(tmp_path / "run")["differs_from_summary"] == []
    further = compose(["protocol=knn", "protocol.knn.k=1"])["protocol"]
    again = reevaluate(tmp_path / "run", protocols=further)
    assert again["differs_from_summary"] == [] and again["further"]["knn"].keys() == {"knn_error"}
    written = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert written["further"] == again["further"] and "svm_error" not in written["test"]
    record = read_run(tmp_path / "run")
    table = compare([record], Question(metrics=("svm_error",), sort="knn_error"))
    assert table.metrics == ["test/svm_error"]


def test_classes_that_a_data_set_does_not_have() -> None:
    with pytest.raises(ConfigError, match=r"^dataset\.classes=\[1, 9\]: no image has the label 9\. Allowed: 0 to 2$"):
        Random(**{**RANDOM, "images": 100, "classes": [1, 9]}).load(torch.device("cpu"))
    with pytest.raises(ValueError, match="classes=\\[\\]: must list at least one label"):
        Random(**{**RANDOM, "classes": []})


def test_classes_of_a_set_without_labels(tmp_path: Path) -> None:
    from aerun.dataset import Array

    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((20, 6), np.float32))
    keys = {key: RANDOM[key] for key in ("validation", "train_limit", "split_seed", "normalize")}
    lists: dict[str, Any] = {"input_transform": [], "target_transform": []}
    names = {"images_key": "images", "labels_key": "labels"}
    with pytest.raises(ConfigError, match=r"^dataset\.classes=\[1\]: these data have no labels$"):
        Array(root=str(tmp_path / "x.npy"), test=0.2, classes=[1], **names, **keys, **lists).load(torch.device("cpu"))
