"""What a sweep checks before its first job: layers, stages and protocols."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from aerun.config.parse import parse
from aerun.errors import ConfigError
from aerun.sweep.point_check import check_points
from aerun.sweep.sweep_report import failed_protocols, job_result

Compose = Callable[[Sequence[str]], dict[str, Any]]
RANDOM = ["dataset=random", "dataset.images=40", "dataset.shape=[1,8,8]", "trainer.device=cpu"]


def errors(compose: Compose, *points: list[str]) -> list[str | None]:
    return [result.error for result in check_points([(compose([*RANDOM, *point]), {}) for point in points], None)]


def test_points_that_differ_in_their_stages_are_checked_one_by_one(compose: Compose) -> None:
    greedy = ["trainer=greedy", "model.hidden=[12]", "trainer.stage_epochs=[2,0]"]
    without, tuned = errors(compose, [*greedy, "trainer.epochs=0"], [*greedy, "trainer.epochs=5"])
    assert without is not None and "would not be trained" in without and tuned is None
    held = ["trainer=greedy", "model.hidden=[12]", "freeze=[encoder.1,decoder.2]"]
    (error,) = errors(compose, held)
    assert error is not None and "stage 1 would have nothing to train" in error


def test_a_protocol_that_does_not_fit_the_model_makes_its_point_invalid(compose: Compose) -> None:
    pooled = ["protocol=linear_svm", "protocol.linear_svm.pool=2"]
    maps, vectors = errors(compose, ["model=conv_wta", *pooled], ["model=fc", *pooled])
    assert maps is None
    assert vectors is not None and vectors.startswith("protocol.linear_svm: pool=2: needs feature maps")


def test_keys_of_a_protocol_that_is_not_chosen_are_refused(compose: Compose) -> None:
    typed = "protocol.linear_svm.held_out=0.5"
    config = compose([*RANDOM, "protocol=knn", f"+{typed}"])
    with pytest.raises(ConfigError, match=r"^protocol\.linear_svm\.held_out: has no effect.*chosen: knn$"):
        parse(config, {}, [f"+{typed}"])
    parse(config, {}, ["protocol.knn.k=3"])


def test_a_failed_protocol_is_reported_with_its_run(tmp_path: Path) -> None:
    summary = '{"test": {"mse": 0.5}, "baselines": {}, "epochs": 1, "steps": 1, "unanswered": {"knn": "too few"}}'
    (tmp_path / "summary.json").write_text(summary)
    assert failed_protocols(tmp_path) == ["protocol.knn: too few"]
    assert job_result(tmp_path) == "test MSE 0.500000; protocol failed: knn"
