"""The presets of the sparse autoencoders: they compose as their papers have it, and run to their probe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from aerun.conf import conf_dir
from aerun.experiment import run
from aerun.settings import parse

Compose = Callable[[Sequence[str]], dict[str, Any]]
SMALL = ["trainer.steps=2", "trainer.device=cpu", "trainer.threads=1", "trainer.pictures=0", "dataset.train_limit=400"]
FEW = {
    "fcwta": ("svm_error", ["model.code_size=300", "protocol.linear_svm.strengths=[1e-4,1e-5]"]),
    "ksparse": ("logistic_error", ["model.code_size=300", "protocol.logistic.strengths=[1e-4,1e-5]"]),
    "ufldl_selftaught": ("logistic_error", ["dataset.train_limit=null", "protocol.logistic.strengths=[1e-2]"]),
    "conv_wta": ("svm_error", ["model.hidden=[3,3]", "protocol.linear_svm.strengths=[1e-2]"]),
}


@pytest.mark.parametrize("name", FEW)
def test_a_preset_runs_on_a_few_images(compose: Compose, tmp_path: Path, name: str) -> None:
    number, fewer = FEW[name]
    config = compose([f"experiment={name}", "dataset=fashion_mnist_mini", *SMALL, *fewer])
    summary = run(parse(config), config, tmp_path / "run")
    assert 0 < summary["test"][number] < 90
    assert summary["unanswered"] == {}


@pytest.mark.parametrize("name", FEW)
def test_a_preset_opens_with_what_it_is(name: str) -> None:
    lines = (conf_dir() / "experiment" / f"{name}.yaml").read_text().splitlines()
    comments = [line for line in lines[1:] if line.startswith("# ")]
    assert lines[0] == "# @package _global_" and lines[1].startswith(f"# python scripts/train.py experiment={name}")
    for start in ("# Protocol: ", "# Published: ", "# ours: ", "# Minutes: "):
        assert sum(line.startswith(start) for line in comments) == 1, start
