"""Runs of sparse dictionaries end equally when they are killed and resumed, and in two processes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.faults.kills import contents, differences, finish, start, wait_for

Compose = Callable[[Sequence[str]], dict[str, Any]]
TINY = [
    *("dataset=superposition", "dataset.images=200", "dataset.features=12", "dataset.dimension=8", "model=fc"),
    *("model.code_size=12", "model.activation=relu", "trainer.batch_size=32", "trainer.epochs=2"),
    *("trainer.pictures=0", "trainer.device=cpu", "trainer.threads=1"),
]
DICTIONARY = [
    *("model.unit_norm_decoder=true", "model.pre_bias=true", "model.decoder_init=transpose", "regularizer=aux_k"),
    *("regularizer.aux_k.k=2", "regularizer.aux_k.after_steps=3", "sparsity.k=2"),
]


def test_a_run_that_is_killed_and_resumed_ends_as_an_undisturbed_one(compose: Compose, tmp_path: Path) -> None:
    words = [*DICTIONARY, "sparsity=matryoshka", "callback=resample", "callback.resample.every_steps=7"]
    more = ["dataset.images=2000", "trainer.epochs=6", "checkpoint.every_minutes=0.0005"]
    plan = compose([*TINY, *words, *more])
    assert finish(start(plan, tmp_path / "whole")) == 0
    child = start(plan, tmp_path / "run")
    wait_for(tmp_path / "run" / "checkpoints" / "last.safetensors", child)
    time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    finish(child)
    assert finish(start(plan, tmp_path / "run")) == 0
    assert differences(contents(tmp_path / "whole"), contents(tmp_path / "run")) == []


@pytest.mark.parametrize("sparsity", ["matryoshka", "gated"])
def test_two_processes_end_as_one(compose: Compose, tmp_path: Path, sparsity: str) -> None:
    own = DICTIONARY if sparsity == "matryoshka" else DICTIONARY[:-1]
    words = [*TINY, *own, f"sparsity={sparsity}"]
    assert finish(start(compose(words), tmp_path / "one")) == 0
    assert finish(start(compose([*words, "trainer.processes=2"]), tmp_path / "two")) == 0
    one, two = (load_file(tmp_path / name / "checkpoints" / "last.safetensors") for name in ("one", "two"))
    assert one["model.regularizer.aux_k.idle"].max() > 3
    for name in (name for name in one if name.startswith("model.")):
        np.testing.assert_allclose(two[name], one[name], rtol=1e-3, atol=1e-5, err_msg=name)
