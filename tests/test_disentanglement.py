"""Sprites and their factors, and the scores of codes that are the factors, that are random, and by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aerun.config.parse import parse
from aerun.dataset import Sprites
from aerun.errors import ConfigError
from aerun.protocol import Disentanglement
from aerun.protocol import disentanglement_scores as measure
from tests.keys import PLAIN

Compose = Callable[[Sequence[str]], dict[str, Any]]
SMALL = {**PLAIN, "size": 16, "scales": 3, "rotations": 4, "positions": 5, "test": 0.3}
GRID = np.stack(np.unravel_index(np.arange(3 * 4 * 5 * 5), (3, 4, 5, 5)), 1)
ORDERED = (False, True, True, True)


def test_every_combination_occurs_once_with_its_factors() -> None:
    dataset = Sprites(**SMALL)
    data = dataset.load(torch.device("cpu"))
    factors = dataset.true_factors()
    assert factors.names == ("shape", "scale", "rotation", "x", "y") and factors.ordered == (False, *[True] * 4)
    assert len(data.train) + len(data.test) == math.prod(dataset.counts()) == 3 * 3 * 4 * 5 * 5
    assert len({tuple(row) for row in factors.values}) == len(data.test) == 270
    assert set(np.unique(data.test.inputs)) == {0, 255}
    np.testing.assert_array_equal(factors.values[:, 0], data.test.labels)
    other = Sprites(**{**SMALL, "split_seed": 1})
    assert not np.array_equal(other.true_factors().values, factors.values)


def test_images_are_where_their_factors_say() -> None:
    """The center of mass follows x and y, the area the squared scale, and no shape touches the border."""
    dataset = Sprites(**{**SMALL, "size": 48})
    data, (values, *_) = dataset.load(torch.device("cpu")), dataset.true_factors()
    images = data.test.inputs[:, 0].double().numpy() / 255
    pixels = (np.arange(48) + 0.5) / 48
    area = images.sum((1, 2))
    for axis, factor in ((1, 3), (2, 4)):
        center = (images.sum(axis) * pixels).sum(1) / area
        expected = np.linspace(1.1 * 0.25, 1 - 1.1 * 0.25, 5)[values[:, factor]]
        round_ones = values[:, 0] < 2  # a heart's center is not its origin
        np.testing.assert_allclose(center[round_ones], expected[round_ones], atol=0.01)
        assert np.corrcoef(center, expected)[0, 1] > 0.98
    radius = 0.25 * np.linspace(0.5, 1, 3)[values[:, 1]] * 48
    square = values[:, 0] == 0
    assert (abs(np.sqrt(area[square]) - 1.4 * radius[square]) < 1).all()  # a side is off by less than a pixel
    np.testing.assert_allclose(area[values[:, 0] == 1], math.pi / 2 * radius[values[:, 0] == 1] ** 2, rtol=0.12)
    assert images[:, [0, -1]].sum() == images[:, :, [0, -1]].sum() == 0


def test_factors_follow_the_chosen_classes() -> None:
    dataset = Sprites(**{**SMALL, "classes": [2]})
    assert (dataset.true_factors().values[:, 0] == 2).all()
    assert len(dataset.true_factors().values) == len(dataset.load(torch.device("cpu")).test)


def test_the_mutual_information_gap_by_hand() -> None:
    """Two binary factors, each of four pairs twice. Code 1 is factor 1; code 2 equals factor 2 in three of four images.

    I(c1, v1) = H(v1) = log 2, I(c2, v1) = 0, I(c1, v2) = 0; I(c2, v2) = log 2 - H(1/4) = 0.1308 nats.
    """
    factors = np.array([[0, 0], [0, 0], [0, 1], [0, 1], [1, 0], [1, 0], [1, 1], [1, 1]])
    second = np.array([0, 1, 1, 1, 0, 0, 0, 1])
    codes = np.stack([factors[:, 0] * 5.0, second * 1.0], 1)
    joint = np.array([[3, 1], [1, 3]]) / 8  # of second and factor 2
    information = (joint * np.log(joint / 0.25)).sum()
    assert information == pytest.approx(math.log(2) + 0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    between = measure.mutual_information(second, factors[:, 0])
    # second: two of three ones in the first half, one of ... : counts [[1,3],[3,1]] with factor 1
    gap_1 = (math.log(2) - between) / math.log(2)
    gap_2 = (information - 0) / math.log(2)
    assert measure.mig(codes, factors, 20) == pytest.approx((gap_1 + gap_2) / 2)
    assert between == pytest.approx(information)


def test_codes_that_are_the_factors_have_the_highest_scores() -> None:
    codes = GRID * 2.0 - 1
    assert measure.mig(codes, GRID, 20) == pytest.approx(1)
    assert measure.factor_vae(codes, GRID, 400, 40) == 1
    disentanglement, completeness, informativeness = measure.dci(codes, GRID, 5)
    assert min(disentanglement, completeness) > 0.99 and informativeness > 0.99
    # Ordered factors have a gap of 1; thresholds on another factor still get a third of three shapes right.
    assert measure.sap(codes, GRID, ORDERED) == pytest.approx((2 / 3 + 3) / 4, abs=1e-6)


def test_random_codes_have_scores_near_zero_or_chance() -> None:
    codes = np.random.default_rng(1).standard_normal((len(GRID), 6))
    assert measure.mig(codes, GRID, 20) < 0.06 and measure.sap(codes, GRID, ORDERED) < 0.05
    assert measure.factor_vae(codes, GRID, 800, 40) < 0.45  # chance is 1/4
    disentanglement, completeness, informativeness = measure.dci(codes, GRID, 5)
    assert max(disentanglement, completeness) < 0.1 and informativeness < 0.4


def test_mixed_codes_are_informative_but_not_disentangled() -> None:
    """Rotated by 45 degrees, a pair of factors is in two code values each."""
    codes = GRID.astype(float)
    codes[:, 2:] = codes[:, 2:] @ np.array([[1.0, 1.0], [-1.0, 1.0]])
    for score in (
        lambda c: measure.mig(c, GRID, 20),
        lambda c: measure.sap(c, GRID, ORDERED),
        lambda c: measure.dci(c, GRID, 5)[0],
    ):
        assert score(codes) < score(GRID.astype(float)) - 0.2


def test_scores_do_not_depend_on_the_scale_and_order_of_code_values() -> None:
    codes = np.random.default_rng(1).standard_normal((len(GRID), 4)) + GRID
    changed = (codes * [1, -10, 100, 0.1])[:, [2, 0, 3, 1]]
    for score in (lambda c: measure.sap(c, GRID, ORDERED), lambda c: measure.factor_vae(c, GRID, 400, 40)):
        assert score(changed) == pytest.approx(score(codes), abs=1e-9)
    assert measure.mig(abs(changed), GRID, 20) != measure.mig(codes, GRID, 20)
    assert measure.factor_vae(np.zeros((len(GRID), 2)), GRID, 10, 4) == 0  # constant codes do not vote


def test_mutual_information_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import mutual_info_score

    random = np.random.default_rng(0)
    first, second = random.integers(0, 6, 500), random.integers(0, 4, 500)
    second[first > 3] = 0
    assert measure.mutual_information(first, second) == pytest.approx(mutual_info_score(first, second))


def test_a_run_reports_scores_floors_and_ceiling(train: Callable[..., Any], tmp_path: Path) -> None:
    import json

    words = ["dataset=sprites", "dataset.size=16", "dataset.scales=2", "dataset.rotations=2", "dataset.positions=4"]
    words += ["model=fc_vae", "model.hidden=[16]", "model.code_size=5", "latent=tc", "protocol=disentanglement"]
    words += ["protocol.disentanglement.votes=100", "trainer.epochs=1", "tracker=none", "trainer.pictures=0"]
    done = train(*words, "hydra.run.dir=run", "trainer.device=cpu")
    assert done.returncode == 0, done.stderr + done.stdout
    test = json.loads((tmp_path / "run" / "summary.json").read_text())["test"]
    for score in ("mig", "sap", "factor_vae", "dci_disentanglement", "dci_completeness", "dci_informativeness"):
        assert 0 <= test[score] <= 1 and test[f"{score}_random"] < test[f"{score}_factors"] <= 1
    assert {"index_code_mi", "total_correlation", "dimension_wise_kl", "kl"} <= test.keys()


def test_data_without_factors_are_refused(compose: Compose) -> None:
    words = ["protocol=disentanglement"]
    with pytest.raises(ConfigError, match=r"protocol=disentanglement and dataset=.*use dataset=sprites"):
        parse(compose(words), overrides=words)
    assert Disentanglement.metrics[0].higher_is_better
