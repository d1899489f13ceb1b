"""Runs of sparse dictionaries end equally when they are killed and resumed; in several processes: tests/ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.ends import EVERY_STEP, killed_and_resumed

Compose = Callable[[Sequence[str]], dict[str, Any]]
TINY = [
    *("dataset=superposition", "dataset.images=200", "dataset.features=12", "dataset.dimension=8", "model=fc"),
    *("model.code_size=12", "model.activation=relu", "trainer.batch_size=32", "trainer.epochs=2"),
    *("trainer.figures=none", "trainer.device=cpu", "trainer.threads=1"),
]
DICTIONARY = [
    *("model.unit_norm_decoder=true", "model.pre_bias=true", "model.decoder_init=transpose", "regularizer=aux_k"),
    *("regularizer.aux_k.k=2", "regularizer.aux_k.after_steps=3", "sparsity.k=2"),
]


def test_a_run_that_is_killed_and_resumed_ends_as_an_undisturbed_one(compose: Compose, tmp_path: Path) -> None:
    words = [*DICTIONARY, "sparsity=matryoshka", "callback=resample", "callback.resample.every_steps=7"]
    plan = compose([*TINY, *words, "trainer.epochs=4", EVERY_STEP])
    assert killed_and_resumed(plan, tmp_path) == []  # after the 8th step and about the 13th
