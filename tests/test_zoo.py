"""Every option of every group, read from conf/, with every model, on images of four shapes and on vectors.

Each combination trains, or is rejected in one line that names the option or one of its keys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from aerun.config.settings import SEVERAL
from aerun.errors import AerunError
from tests.keys import Options, own_modules
from tests.test_options import RANDOM, options, two_steps

Compose = Callable[[Sequence[str]], dict[str, Any]]
SHAPES = ([1, 28, 28], [3, 32, 32], [3, 36, 48], [1, 16, 16], [40])
GROUPS = ("noise", "sparsity", "latent", "regularizer", "loss", "optimizer", "scheduler")
FOR_SHAPES = ("noise", "sparsity", "latent", "regularizer", "loss")  # whose options depend on the shape
ZOO = [(group, option) for group in GROUPS for option in options(group)]


@pytest.fixture(scope="module")
def composed(compose: Compose) -> Options:
    return Options(compose, RANDOM)


@pytest.mark.parametrize("model", options("model"))
def test_every_option_trains_with_this_model_or_is_rejected_in_a_line(composed: Options, model: str) -> None:
    configs = {}
    for group, option in ZOO:
        noise = {"noise": "gaussian"} if group == "regularizer" else {}  # decorrelation compares two corruptions
        configs[group, option] = composed.config(model, **noise, **{group: option})
        node = configs[group, option][group]
        for part in node.values() if group in SEVERAL else [node]:
            if isinstance(part, dict) and "k" in part:
                part["k"] = 2  # few enough for small feature maps
    trained: set[tuple[str, str]] = set()
    shapes = [shape for shape in SHAPES if _takes(configs["noise", "none"], model, shape)]
    for shape in shapes:
        for group, option in ZOO:
            if shape is not shapes[0] and group not in FOR_SHAPES:
                continue
            try:
                two_steps(
                    _for_shape(configs[group, option], shape), {"model": model, "dataset": "random", group: option}
                )
                trained.add((group, option))
            except AerunError as error:
                text = str(error)
                assert "\n" not in text and (f"{group}={option}" in text or f"{group}." in text), (option, text)
    assert ("optimizer", "sgd") in trained
    if model == "fc":
        assert trained == set(ZOO)


def _for_shape(config: dict[str, Any], shape: list[int]) -> dict[str, Any]:
    """The configuration with data of that shape, and the user's modules for it."""
    is_own = "encoder" in config["model"]
    model = config["model"] | (own_modules(shape) if is_own else {})
    return {**config, "dataset": {**config["dataset"], "shape": shape}, "model": model}


def _takes(config: dict[str, Any], model: str, shape: list[int]) -> bool:
    """Whether the model can have data of that shape; if not, the error names model and data."""
    try:
        two_steps(_for_shape(config, shape), {"model": model, "dataset": "random"})
    except AerunError as error:
        assert f"model={model}" in str(error) and "dataset=random" in str(error) and "\n" not in str(error)
        return False
    return True
