"""Runs that must end equally: killed and resumed, or in two processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from tests.faults.kills import contents, differences, finish, start

# A checkpoint after every step, so that the renaming of a file at which a run dies is always that of the same step.
EVERY_STEP = "checkpoint.every_minutes=0.000001"


def killed_and_resumed(config: dict[str, Any], folder: Path, die_at: Sequence[int] = (31, 20)) -> list[str]:
    """Compare an undisturbed run with one that dies after these numbers of renamed files and is resumed each time.

    The names of what differs. ``config`` needs ``EVERY_STEP``. AssertionError if the run ends before it dies, or has no
    checkpoint then. The runs are ``folder / "whole"`` and ``folder / "run"``.
    """
    whole, run = folder / "whole", folder / "run"
    assert finish(start(config, whole)) == 0
    for number in die_at:
        assert finish(start(config, run, die_at=number)) == 9
        assert list((run / "checkpoints").glob("*.safetensors")) and not (run / "summary.json").exists()
    assert finish(start(config, run)) == 0
    return differences(contents(whole), contents(run))


def weights(folder: Path, name: str = "last") -> dict[str, np.ndarray]:
    """The model's tensors in a checkpoint of a run, by their names in the model."""
    tensors = load_file(folder / "checkpoints" / f"{name}.safetensors")
    return {key.removeprefix("model."): value for key, value in tensors.items() if key.startswith("model.")}


def same_in_two_processes(
    compose: Callable[[list[str]], dict[str, Any]], words: Sequence[str], folder: Path
) -> dict[str, np.ndarray]:
    """Check that a run ends with the same weights in two processes, up to the order in which numbers are added.

    Returns the weights. The runs are ``folder / "one"`` and ``folder / "two"``.
    """
    assert finish(start(compose([*words]), folder / "one")) == 0
    assert finish(start(compose([*words, "trainer.processes=2"]), folder / "two")) == 0
    one, two = weights(folder / "one"), weights(folder / "two")
    assert one.keys() == two.keys()
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, rtol=1e-3, atol=1e-5, err_msg=name)
    return one
