"""The scikit-learn estimator: scikit-learn's own checks, and that it trains as the command line does."""

from __future__ import annotations

import json
import pickle
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import check_estimator

import aerun
from aerun.errors import DivergedError
from aerun.runs.folder import read_status
from aerun.runs.folder_metrics import read_metrics
from aerun.sklearn import Autoencoder
from aerun.training.checkpoint import BEST, load_model

TINY: dict[str, Any] = {"code_size": 4, "epochs": 2, "batch_size": 50, "device": "cpu", "threads": 1, "random_state": 3}
# Names of scikit-learn's checks that this estimator cannot pass, each with its reason.
EXPECTED: dict[str, str] = {}


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    rows: np.ndarray = (load_digits().data[:200] / 16).astype(np.float32)
    return rows


@pytest.fixture(scope="module")
def fitted(digits: np.ndarray) -> Autoencoder:
    return Autoencoder(**TINY).fit(digits)


def test_it_passes_the_checks_of_scikit_learn() -> None:
    estimator = Autoencoder(code_size=2, epochs=1, batch_size=256, device="cpu", threads=1)
    results = check_estimator(estimator, expected_failed_checks=EXPECTED, on_fail="raise", on_skip=None)
    assert len(results) > 40
    # That one looks at other libraries' arrays, and only where an environment variable asks for it.
    assert {r["check_name"] for r in results if r["status"] != "passed"} <= {"check_array_api_input"}


def test_it_has_the_weights_of_a_run_of_the_same_configuration(digits: np.ndarray, tmp_path: Path) -> None:
    """The run goes through the whole of aerun.runs.run, in a folder; noise and sparsity draw and select in both."""
    from aerun.config.parse import parse
    from aerun.dataset.data import Arrays
    from aerun.dataset.in_memory import InMemory
    from aerun.runs.run import run

    estimator = Autoencoder(**TINY, noise="masking", sparsity={"name": "topk", "k": 2}, hidden=[20], lr=0.01).fit(
        digits
    )
    settings = parse(estimator.config_)
    data = InMemory(
        **{k: v for k, v in estimator.config_["dataset"].items() if k != "_target_"}, arrays=Arrays(*[digits] * 2)
    )
    run(settings, estimator.config_, tmp_path / "run", load=data.load)
    theirs = aerun.load(tmp_path / "run")
    load_model(tmp_path / "run" / "checkpoints" / BEST, theirs)
    ours = estimator.autoencoder_.state_dict()
    assert all(torch.equal(value, ours[name]) for name, value in theirs.state_dict().items())
    assert estimator.history_[-1]["validation/mse"] == read_metrics(tmp_path / "run")[-1]["validation/mse"]


def test_the_same_seed_gives_the_same_codes_and_another_one_others(digits: np.ndarray, fitted: Autoencoder) -> None:
    codes = fitted.transform(digits)
    again, other = clone(fitted), clone(fitted).set_params(random_state=4)
    assert np.array_equal(again.fit_transform(digits), codes)
    assert not np.allclose(other.fit_transform(digits), codes)
    state = [clone(fitted).set_params(random_state=np.random.RandomState(0)).fit_transform(digits) for _ in range(2)]
    assert np.array_equal(*state)


def test_a_code_is_the_same_alone_and_among_others(digits: np.ndarray, fitted: Autoencoder) -> None:
    together = fitted.transform(digits)
    assert np.array_equal(np.concatenate([fitted.transform(row[None]) for row in digits[:20]]), together[:20])


def test_the_score_is_the_explained_share_of_the_variance(digits: np.ndarray, fitted: Autoencoder) -> None:
    output = fitted.inverse_transform(fitted.transform(digits))
    mean = digits.mean(0, dtype=np.float64)
    assert fitted.score(digits) == pytest.approx(r2_score((digits - mean).ravel(), (output - mean).ravel()), abs=1e-6)
    assert fitted.score(np.tile(digits.mean(0), (5, 1))) < 1


def test_a_linear_one_comes_near_the_best_linear_code(digits: np.ndarray) -> None:
    linear = Autoencoder(
        code_size=4, activation="identity", epochs=150, lr=0.01, validation=0, device="cpu", threads=1, random_state=0
    )
    pca = PCA(4).fit(digits)
    best = r2_score(digits, pca.inverse_transform(pca.transform(digits)), multioutput="variance_weighted")
    assert best - 0.02 < linear.fit(digits).score(digits) <= best + 1e-6


def test_it_works_in_a_pipeline_a_search_and_a_pickle(digits: np.ndarray) -> None:
    pipeline = make_pipeline(MinMaxScaler(), Autoencoder(**TINY | {"random_state": 0, "epochs": 3, "lr": 0.01}))
    grid = {
        "autoencoder__code_size": np.array([1, 16]),
        "autoencoder__sparsity": ["none", {"name": "l1", "weight": 1e-5}],
    }
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(digits)
    assert search.best_params_["autoencoder__code_size"] == 16
    assert search.best_score_ == max(search.cv_results_["mean_test_score"])
    found = pickle.loads(pickle.dumps(search.best_estimator_))
    assert np.array_equal(found.transform(digits), search.best_estimator_.transform(digits))
    assert list(found.get_feature_names_out())[-1] == "autoencoder15"


def test_rows_can_be_images(digits: np.ndarray) -> None:
    convolutional = Autoencoder("conv", image_shape=(8, 8), hidden=[4, 4], **TINY | {"code_size": None}).fit(digits)
    assert convolutional.autoencoder_.input_shape == (1, 8, 8)
    codes = convolutional.transform(digits)
    assert codes.shape == (200, np.prod(convolutional.autoencoder_.code_shape))
    assert convolutional.inverse_transform(codes).shape == digits.shape
    gaussian = Autoencoder(latent="gaussian", **TINY).fit(digits)
    assert np.array_equal(gaussian.transform(digits), gaussian.transform(digits))


def test_it_leaves_nothing_behind_unless_it_is_told_to(
    digits: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AERUN_DATA", str(tmp_path))
    torch.manual_seed(7)
    before = torch.get_rng_state(), torch.get_num_threads(), torch.is_grad_enabled()
    plain = Autoencoder(**TINY | {"threads": before[1] + 1}).fit(digits)
    pickle.loads(pickle.dumps(plain))
    assert torch.equal(before[0], torch.get_rng_state()) and torch.get_num_threads() == before[1]
    assert not list(tmp_path.iterdir()) and capfd.readouterr() == ("", "")

    kept = Autoencoder(**TINY | {"threads": before[1] + 1}, run_folder="kept", verbose=True).fit(digits)
    assert np.array_equal(kept.transform(digits), plain.transform(digits))
    model = aerun.load(tmp_path / "kept")
    assert np.array_equal(model.encode(torch.from_numpy(digits)).numpy(), model.encode(digits).numpy())
    assert all(torch.equal(v, kept.autoencoder_.state_dict()[k]) for k, v in model.state_dict().items())
    described = json.loads((tmp_path / "kept" / "environment.json").read_text())["dataset"]
    assert described["images"] == {"train": 180, "validation": 20, "test": 0}
    status = read_status(tmp_path / "kept")
    assert status is not None and status["state"] == "finished"
    assert read_metrics(tmp_path / "kept") == [
        {k: v if "second" not in k else pytest.approx(v, rel=1) for k, v in line.items()} for line in kept.history_
    ]
    assert capfd.readouterr().out.startswith("epoch 1/2: train 0.")
    with pytest.raises(ValueError, match=r"run_folder=.*not an empty or new folder"):
        kept.fit(digits)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"sparsity": {"name": "topk", "k": 9}}, r"sparsity\.k=9 is larger than the code size, model\.code_size=4"),
        ({"sparsity": "topkk"}, r"sparsity=topkk: there is no such option\. Did you mean 'topk'\?"),
        ({"sparsity": {"k": 3}}, r"an option is a name, or"),
        ({"overrides": ["optimizer.lrr=1"]}, r"optimizer\.lrr: there is no such key\. Did you mean 'optimizer\.lr'"),
        ({"overrides": ["dataset=mnist"]}, r"the data are the arrays passed from Python"),
        ({"overrides": ["dataset.classes=[1]"]}, r"dataset\.classes: arrays passed from Python have no labels"),
        ({"overrides": ["dataset.exclude=[1]"]}, r"dataset\.exclude: arrays passed from Python have no labels"),
        ({"overrides": ["trainer=greedy"]}, r"trainer=greedy: .*run_folder=FOLDER"),
        ({"overrides": ["protocol=knn"]}, r"protocol and resume"),
        ({"image_shape": (3, 8)}, r"image_shape=\(3, 8\): is not \(H,W\) or \(C,H,W\) of X's 64 columns"),
        ({"epochs": 0}, r"trainer\.epochs=0"),
        ({"model": "conv", "code_size": None}, r"convolutions need images"),
        (
            {"loss": "bce", "image_shape": (8, 8), "shift": 1},
            r"requires targets in \[0,1\]; the data range from 1 to 2",
        ),
    ],
)
def test_what_cannot_work_is_a_value_error_in_a_line(digits: np.ndarray, keys: dict[str, Any], message: str) -> None:
    rows = digits + keys.pop("shift", 0)
    with pytest.raises(ValueError, match=message) as raised:
        Autoencoder(**TINY | keys).fit(rows)
    assert "\n" not in str(raised.value)


def test_a_loss_that_is_not_finite_is_an_error(digits: np.ndarray) -> None:
    with pytest.raises(DivergedError):
        Autoencoder(**TINY, optimizer="sgd", lr=1e30).fit(digits)


def test_the_best_epoch_is_the_result_not_the_last(digits: np.ndarray) -> None:
    """Validation on a hundred rows of which the training has seen nothing alike: it soon gets worse."""
    rows = np.random.default_rng(0).standard_normal((40, 30)).astype(np.float32)
    found = Autoencoder(**TINY | {"epochs": 40, "code_size": 20}, hidden=[100], lr=0.01, validation=0.5).fit(rows)
    losses = [line["validation/loss"] for line in found.history_]
    assert found.best_epoch_ == 1 + int(np.argmin(losses)) < 40 == found.n_iter_
    shorter = clone(found).set_params(epochs=found.best_epoch_).fit(rows)
    assert np.array_equal(found.transform(rows), shorter.transform(rows))


def test_a_program_that_uses_hydra_itself_goes_on_undisturbed(digits: np.ndarray, tmp_path: Path) -> None:
    from hydra import compose, initialize_config_dir

    (tmp_path / "theirs.yaml").write_text("key: 1\n")
    with initialize_config_dir(str(tmp_path), version_base="1.3"):
        Autoencoder(**TINY | {"epochs": 1, "lr": 0.002}).fit(digits)  # words that were not composed before
        assert compose("theirs") == {"key": 1}


def test_older_configurations_name_data_from_python_otherwise() -> None:
    from aerun.config.schema import locate
    from aerun.dataset import InMemory

    assert locate("aerun.dataset.Given") is InMemory


def test_fits_in_threads_give_what_they_give_alone(digits: np.ndarray) -> None:
    """While other threads load models, which draws first weights, too. Each thread takes turns with all others."""
    import joblib

    from aerun.config.parse import parse
    from aerun.runs.reopen import build_for_shapes

    def codes(seed: int) -> bytes:
        fitted = Autoencoder(**TINY | {"random_state": seed}).fit(digits)
        return bytes(fitted.transform(digits).tobytes())

    config = Autoencoder(**TINY).fit(digits).config_
    shapes = {"input_shape": digits.shape[1:], "output_shape": digits.shape[1:]}
    alone, before = [codes(seed) for seed in range(4)], sys.getswitchinterval()
    ended = threading.Event()

    def load() -> None:
        while not ended.is_set():
            build_for_shapes(parse(config), shapes)

    sys.setswitchinterval(1e-5)
    loading = threading.Thread(target=load)
    loading.start()
    try:
        together = joblib.Parallel(n_jobs=4, backend="threading")(joblib.delayed(codes)(seed) for seed in range(4))
    finally:
        ended.set()
        loading.join()
        sys.setswitchinterval(before)
    assert together == alone


def test_images_that_are_not_scaled_are_named(caplog: pytest.LogCaptureFixture) -> None:
    """With ``image_shape``; vectors may be in any units, and images standardized."""
    rows = np.random.default_rng(0).random((40, 64), np.float32)
    rows[:, :2] = [0, 1]
    keys = {"code_size": 3, "hidden": [8], "epochs": 1, "random_state": 0}
    Autoencoder(**keys).fit(rows * 255).transform(rows)
    Autoencoder(image_shape=(8, 8), **keys).fit(rows * 2 - 1).transform(rows * 255)
    fitted = Autoencoder(image_shape=(8, 8), **keys).fit(rows)
    fitted.score(rows)
    assert not caplog.text
    for each in (fitted, pickle.loads(pickle.dumps(fitted))):
        caplog.clear()
        wanted = each.transform(rows * 255)
        assert "images from 0 to 255, but floating-point images are in [0,1]" in caplog.text
        assert np.array_equal(each.transform(rows * 255), wanted)
    caplog.clear()
    Autoencoder(image_shape=(8, 8), **keys).fit(rows * 16)
    assert "X: images from 0 to 16, not in [0,1]: divide by the value of white" in caplog.text
