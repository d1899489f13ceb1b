"""Optimizers: each YAML has torch's keys, all of them, and a step is torch's own."""

from __future__ import annotations

import copy
import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from aerun.base.conf import conf_dir
from aerun.config.parse import build_part
from aerun.errors import ConfigError

NODES = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(Path(conf_dir(), "optimizer").glob("*.yaml"))}
optimizers = pytest.mark.parametrize("name", NODES)


def torch_class(name: str) -> Any:
    return getattr(torch.optim, NODES[name]["_target_"].rpartition(".")[2])


def settings(name: str) -> dict[str, Any]:
    return {key: value for key, value in NODES[name].items() if key != "_target_"}


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 5))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        batch = torch.randn(8, 5, generator=generator)
        optimizer.zero_grad()
        (model(batch) - batch).square().mean().backward()
        optimizer.step()
    return [parameter.detach() for parameter in model.parameters()]


@optimizers
def test_keys_are_those_of_torchs_signature(name: str) -> None:
    expected = set(inspect.signature(torch_class(name)).parameters) - {"params"}
    assert set(settings(name)) == expected


@optimizers
def test_builds_torchs_class_with_the_values_of_the_yaml(name: str) -> None:
    optimizer = build_part("optimizer", NODES[name]).build(model().parameters())
    assert type(optimizer) is torch_class(name)
    [group] = optimizer.param_groups
    assert len(group["params"]) == 4
    for key in settings(name).keys() & group.keys():
        assert (list(group[key]) if key == "betas" else group[key]) == settings(name)[key]


@optimizers
@pytest.mark.parametrize("steps", [1, 10])
def test_steps_are_those_of_torchs_plain_loop(name: str, steps: int) -> None:
    """Whatever implementation the YAML asks for, against the one without fusion."""
    ours, theirs = model(), model()
    plain = {**settings(name), "foreach": False} | ({"fused": False} if "fused" in settings(name) else {})
    actual = train(ours, build_part("optimizer", NODES[name]).build(ours.parameters()), steps)
    expected = train(theirs, torch_class(name)(theirs.parameters(), **plain), steps)
    torch.testing.assert_close(actual, expected)
    assert not actual[0].equal(model()[0].weight)


CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("adam", {"lr": 0.02, "betas": [0.5, 0.9], "eps": 0.001, "weight_decay": 0.1, "amsgrad": True}),
    ("adam", {"weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True}),
    ("adamw", {"lr": 0.02, "betas": [0.5, 0.9], "weight_decay": 0.3, "fused": None, "foreach": True}),
    ("nadam", {"lr": 0.02, "momentum_decay": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("sgd", {"lr": 0.02, "momentum": 0.5, "nesterov": True, "weight_decay": 0.1}),
    ("sgd", {"momentum": 0.5, "dampening": 0.3, "maximize": True}),
    ("rmsprop", {"alpha": 0.5, "momentum": 0.5, "centered": True, "weight_decay": 0.1, "eps": 0.001}),
]


@pytest.mark.parametrize(("name", "changes"), CHANGES)
def test_changed_values_reach_torch(name: str, changes: dict[str, Any]) -> None:
    ours, theirs, default = model(), model(), model()
    node = {**NODES[name], **changes}
    actual = train(ours, build_part("optimizer", node).build(ours.parameters()), 5)
    expected = train(theirs, torch_class(name)(theirs.parameters(), **{**settings(name), **changes}), 5)
    assert all(a.equal(b) for a, b in zip(actual, expected, strict=True))
    unchanged = train(default, build_part("optimizer", NODES[name]).build(default.parameters()), 5)
    assert not actual[0].equal(unchanged[0])


def refused(name: str, **changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        build_part("optimizer", {**NODES[name], **changes}).build(model().parameters())
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_foreach_and_fused_exclude_each_other(name: str) -> None:
    message = refused(name, foreach=True, fused=True)
    assert "optimizer.foreach=true" in message and "optimizer.fused=true" in message


@pytest.mark.parametrize("changes", [{"momentum": 0.0}, {"momentum": 0.9, "dampening": 0.1}])
def test_nesterov_needs_momentum_without_dampening(changes: dict[str, float]) -> None:
    message = refused("sgd", nesterov=True, **changes)
    assert "optimizer.nesterov=true" in message and "optimizer.momentum" in message


@optimizers
def test_differentiable_is_refused(name: str) -> None:
    assert "optimizer.differentiable=true" in refused(name, differentiable=True)


@pytest.mark.parametrize("name", [name for name in NODES if "capturable" in NODES[name]])
def test_capturable_is_refused_on_the_cpu(name: str) -> None:
    message = refused(name, capturable=True)
    assert "optimizer.capturable=true" in message and "cpu" in message


@pytest.mark.parametrize("betas", [[0.9], [0.9, 0.99, 0.999], [0.9, 1.0], [-0.1, 0.9]])
def test_betas_are_two_decays(betas: list[float]) -> None:
    assert "optimizer.betas" in refused("adam", betas=betas)


@pytest.mark.parametrize("changes", [{"lr": 0.0}, {"lr": -1.0}, {"weight_decay": -0.1}, {"lr": "fast"}])
def test_values_out_of_range_are_refused_by_name(changes: dict[str, Any]) -> None:
    [key] = changes
    assert f"optimizer.{key}={changes[key]}" in refused("adam", **changes)


def test_a_key_of_another_optimizer_is_refused() -> None:
    assert "optimizer.momentum" in refused("adam", momentum=0.9)


@optimizers
def test_a_missing_key_is_refused(name: str) -> None:
    for key in settings(name):
        node = copy.deepcopy(NODES[name])
        del node[key]
        with pytest.raises(ConfigError, match=f"optimizer.{key}"):
            build_part("optimizer", node)
