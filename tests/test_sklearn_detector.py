"""The outlier detector of scikit-learn: its own checks, its conventions, and the scores behind them."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from aerun.dataset.splitting import split_train_validation
from aerun.sklearn import Autoencoder, AutoencoderDetector

TINY = Autoencoder(code_size=2, epochs=1, batch_size=256, device="cpu", threads=1, random_state=0)


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """300 ones and sevens, of which nothing else is trained on, and 200 other digits."""
    data = load_digits()
    known = np.isin(data.target, (1, 7))
    return (data.data[known][:300] / 16).astype(np.float32), (data.data[~known][:200] / 16).astype(np.float32)


@pytest.fixture(scope="module")
def fitted(digits: tuple[np.ndarray, np.ndarray]) -> AutoencoderDetector:
    net = Autoencoder(code_size=6, epochs=60, batch_size=32, device="cpu", threads=1, random_state=0)
    return AutoencoderDetector(net, contamination=0.1).fit(digits[0])


def test_it_passes_the_checks_of_scikit_learn() -> None:
    results = check_estimator(AutoencoderDetector(TINY), on_fail="raise", on_skip=None)
    assert len(results) > 40
    # They look at other libraries' arrays, if an environment variable asks for it or pandas is installed.
    skipped = {"check_array_api_input", "check_classifier_data_not_an_array"}
    assert {r["check_name"] for r in results if r["status"] != "passed"} <= skipped
    names = {r["check_name"] for r in results}
    assert {"check_outliers_train", "check_outliers_fit_predict", "check_outlier_contamination"} <= names


def test_conventions_are_those_of_the_isolation_forest(
    fitted: AutoencoderDetector, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    normal, others = digits
    forest = IsolationForest(contamination=0.1, random_state=0).fit(normal)
    for detector in (fitted, forest):
        assert (detector.predict(normal) == -1).sum() == 30
        scores = detector.score_samples(others)
        np.testing.assert_allclose(detector.decision_function(others), scores - detector.offset_)
        np.testing.assert_array_equal(detector.predict(others), np.where(scores < detector.offset_, -1, 1))
        assert scores.mean() < detector.score_samples(normal).mean()


def test_the_error_is_that_of_the_reconstruction(digits: tuple[np.ndarray, np.ndarray]) -> None:
    normal, others = digits
    found = AutoencoderDetector(TINY).fit(normal)
    inner = found.estimator_
    outputs = inner.inverse_transform(inner.transform(others))
    np.testing.assert_allclose(found.score_samples(others), -((others - outputs) ** 2).mean(1), rtol=1e-4)
    assert np.array_equal(found.estimator_.transform(others), TINY.fit(normal).transform(others))


def test_scores_are_brought_to_one_scale_by_the_rows_that_are_held_out(
    fitted: AutoencoderDetector, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    def mean_level(detector: AutoencoderDetector, rows: np.ndarray) -> float:
        output = detector.estimator_.inverse_transform(detector.estimator_.transform(rows))
        return float(np.log(((rows - output) ** 2).mean(1)).mean())

    held_out = digits[0][split_train_validation(300, 0.1, None, 0)[1]]
    assert len(held_out) == 30
    assert fitted._detector.fusion.moments["error"][0] == pytest.approx(mean_level(fitted, held_out), abs=1e-4)
    small = AutoencoderDetector(TINY).fit(digits[0][:50])  # of 5 rows nothing is known
    assert small._detector.fusion.moments["error"][0] == pytest.approx(mean_level(small, digits[0][:50]), abs=1e-4)


def test_it_works_in_a_pipeline_and_a_pickle(digits: tuple[np.ndarray, np.ndarray]) -> None:
    normal, others = digits
    pipeline = make_pipeline(StandardScaler(), AutoencoderDetector(TINY, by="knn")).fit(normal)
    scores = pipeline.score_samples(others)
    again = pickle.loads(pickle.dumps(pipeline))
    np.testing.assert_array_equal(again.score_samples(others), scores)
    truth = np.r_[np.zeros(len(normal)), np.ones(len(others))]
    assert roc_auc_score(truth, -pipeline.decision_function(np.r_[normal, others])) > 0.7
    changed = pipeline.set_params(autoencoderdetector__estimator__code_size=3).fit(normal)
    assert changed[-1].estimator_.autoencoder_.code_shape == (3,)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"by": "ssim"}, r"by=ssim: these rows do not have this score\. Allowed: error, "),
        ({"neighbors": 0}, r"neighbors=0: must be at least 1"),
        ({"contamination": 0.7}, r"contamination=0\.7: must be above 0 and at most 0\.5"),
        ({"estimator": Autoencoder(code_size=0)}, r"model\.code_size=0"),
    ],
)
def test_what_cannot_work_is_a_value_error(
    digits: tuple[np.ndarray, np.ndarray], keys: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        AutoencoderDetector(**{"estimator": TINY, **keys}).fit(digits[0])
