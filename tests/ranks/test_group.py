"""Ranks compute what a single process computes; in float64, so that only the order of additions can differ."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from aerun.config.parse import parse
from aerun.dataset.data import Split
from aerun.errors import ConfigError
from aerun.ranks.group import Group, WholeBatch, gather_rows
from aerun.training.batches import Resident
from aerun.training.build import build_parts
from aerun.training.parts import Parts
from aerun.training.step import make_step
from tests.ranks.forks import forked, group_of

CPU = torch.device("cpu")
IMAGES, BATCH, RANKS = 66, 32, 3  # minibatches of 32, 32 and 2: parts of 10, 11, 11 and of 0, 1, 1
TANH = "model=fc model.hidden=[12] model.code_size=6 model.activation=tanh"
DICTIONARY = (
    "model=fc model.code_size=12 model.activation=relu model.unit_norm_decoder=true model.pre_bias=true "
    "model.decoder_init=transpose regularizer=aux_k regularizer.aux_k.k=2 regularizer.aux_k.after_steps=3"
)
CONFIGURATIONS = [
    "model=fc noise=gaussian",
    "model=fc sparsity=topk trainer.clip_norm=0.01",
    "model=fc sparsity=lifetime noise=salt_pepper trainer.clip_value=0.001",
    "model=fc sparsity=kl sparsity.weight=0.1",
    "model=fc sparsity=l1 sparsity.weight=0.1",
    "model=fc_deep model.tied=true loss=mae",
    "model=conv sparsity=lifetime noise=gaussian",
    "model=conv sparsity=topk_lifetime sparsity.k=2 noise=masking",
    "model=conv sparsity=kl",
    "model=conv_fc loss.reduction=sum optimizer.lr=1e-4",
    "model=vae loss=bce",
    "model=fc_vae noise=gaussian loss.reduction=sum",
    "model=fc_vae latent=importance_weighted latent.samples=3 loss=bce dataset.binarise=dynamic",
    "model=vae latent=importance_weighted noise=gaussian dataset.binarise=dynamic",
    "model=fc latent=vq latent.entries=8 latent.decay=0.5 latent.restart=0.5 latent.restart_every=2",
    "model=fc latent=residual_vq latent.entries=8 latent.update=gradient latent.shared=true",
    "model=conv latent=lfq",
    "model=fc latent=factorized",
    "model=conv latent=hyperprior latent.channels=4",
    "model=fc model.condition=label",
    "model=vae model.condition=label model.condition_size=3",
    f"{TANH} regularizer=contractive",
    f"{TANH} regularizer=rae_l2",
    f"{TANH} regularizer=rae_gp",
    f"{TANH} regularizer=[rae_l2,spectral] regularizer.spectral.networks=both",
    f"{DICTIONARY} sparsity=matryoshka sparsity.k=2",
    f"{DICTIONARY} sparsity=gated",
]


def double(parts: Parts) -> Parts:
    """The same parts, computing in float64 throughout."""
    torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign, assignment]
    parts.autoencoder.double()
    inputs = parts.data.train.inputs.double() / 255
    parts.data = replace(parts.data, train=Split(inputs, inputs, parts.data.train.labels, parts.data.train.binarise))
    return parts


def trained(config: dict[str, Any], group: Group | None) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Weights after two epochs, and the terms, gradient norm and active units of each step, over all ranks."""
    settings = parse(config)
    torch.manual_seed(0)
    parts = double(build_parts(settings, settings.dataset.load(CPU), CPU))
    if group is not None:
        parts.ranks = parts.shares = group
        parts.autoencoder.whole_batch = WholeBatch(group)
    trainer = settings.trainer
    step = make_step(
        parts, learning_rate=lambda number: 1.0, clip_norm=trainer.clip_norm, clip_value=trainer.clip_value
    )
    parts.autoencoder.train()
    batches, rows = Resident(parts.data.train, BATCH, 0, with_labels=True), []
    for number, batch in enumerate([*batches.epoch(0), *batches.epoch(1)]):
        update = step(batch, number)
        active = (update.code != 0).sum().double()
        totals = parts.ranks.total(torch.stack([*update.terms.values(), active])).tolist()
        rows.append([*totals, 0.0 if update.norm is None else float(update.norm)])
    return {name: value.numpy() for name, value in parts.autoencoder.state_dict().items()}, np.array(rows)


@pytest.mark.parametrize("overrides", CONFIGURATIONS)
def test_ranks_train_as_one_process(compose: Any, tmp_path: Path, overrides: str) -> None:
    config = compose(["dataset=random", f"dataset.images={IMAGES}", "dataset.validation=0", *overrides.split()])
    [(weights, expected)] = forked(1, lambda rank: trained(config, None), tmp_path)
    assert "aux_k" not in overrides or weights["regularizer.aux_k.idle"].max() > 3  # so that aux_k does something
    for found_weights, found_rows in forked(RANKS, lambda rank: trained(config, group_of(BATCH)), tmp_path):
        assert len(expected) == 6
        np.testing.assert_allclose(found_rows, expected, rtol=1e-9)
        for name, value in weights.items():
            np.testing.assert_allclose(found_weights[name], value, rtol=1e-7, atol=1e-10, err_msg=name)


def test_ranks_that_start_again_continue_bit_for_bit(compose: Any, tmp_path: Path) -> None:
    """Three: with two, a sum does not depend on the order."""
    overrides = (
        "optimizer=sgd optimizer.momentum=0 optimizer.lr=0.1 model.hidden=[50,30] sparsity=lifetime noise=gaussian"
    )
    settings = parse(compose(["dataset=random", "dataset.images=70", "dataset.validation=0", *overrides.split()]))

    def steps(numbers: range, state: dict[str, Tensor] | None) -> Any:
        def function(rank: int) -> dict[str, Tensor]:
            torch.manual_seed(0)
            parts = build_parts(settings, settings.dataset.load(CPU), CPU)
            if state is not None:
                parts.autoencoder.load_state_dict(state)
            parts.ranks = parts.shares = group = group_of(20)
            parts.autoencoder.whole_batch = WholeBatch(group)
            step = make_step(parts, learning_rate=lambda number: 1.0)
            batches = list(Resident(parts.data.train, 20, 0).epoch(0))
            for number in numbers:
                step(batches[number % len(batches)], number)
            return {name: value.clone() for name, value in parts.autoencoder.state_dict().items()}

        return forked(3, function, tmp_path)

    whole, halves = steps(range(6), None), steps(range(3, 6), steps(range(3), None)[0])
    for one, other in zip(whole, halves, strict=True):
        assert all(one[name].equal(other[name]) for name in one)
        assert all(one[name].equal(whole[0][name]) for name in one)


def test_the_whole_minibatch_is_put_together_and_gradients_are_summed(tmp_path: Path) -> None:
    """Of f = sum over ranks s of (s + 1) * sum(whole^2 * w), the gradient at x is 2 x w (1 + 2 + 3)."""
    x = torch.arange(10.0, dtype=torch.float64).view(5, 2) - 4
    weight = torch.tensor([1.0, 10.0])

    def function(rank: int) -> tuple[Any, Any]:
        group = group_of(5)
        group.begin(5)
        own = group.rows_of(x).clone().requires_grad_()
        whole = gather_rows(own, group)
        ((rank + 1) * (whole.square() * weight).sum()).backward()
        assert own.grad is not None
        return whole.detach().numpy(), own.grad.numpy()

    results = forked(3, function, tmp_path)
    for whole, _ in results:
        np.testing.assert_array_equal(whole, x.numpy())
    np.testing.assert_allclose(np.concatenate([own for _, own in results]), (2 * x * weight * 6).numpy())


def test_ranks_agree(tmp_path: Path) -> None:
    def function(rank: int) -> list[Any]:
        group = group_of(5)
        return [
            group.sync_stop(None, False),
            group.sync_stop(15 if rank == 1 else None, rank == 1),
            group.sync_stop(None, rank == 0),
            group.sync_stop(15, True, now=False),
            group.first(lambda: {"loss": rank + 0.5}),
            float(group.total(torch.tensor(rank + 1.0))),
        ]

    expected = [(None, False), (15, False), (None, True), (None, False), {"loss": 0.5}, 3.0]
    assert forked(2, function, tmp_path) == [expected, expected]


class Half(torch.nn.Module):
    """A layer with a weight that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x)


def test_weights_that_nothing_uses_are_left_alone(tmp_path: Path, compose: Any) -> None:
    from aerun.core.autoencoder import Autoencoder

    settings = parse(compose([]))

    def function(rank: int) -> list[bool]:
        shapes = dict.fromkeys(("input_shape", "output_shape", "code_shape"), (2,))
        options = {"sparsity": settings.sparsity, "latent": settings.latent, "output_activation": "identity"}
        autoencoder = Autoencoder(Half(), torch.nn.Linear(2, 2), **shapes, **options)
        group = group_of(4)
        forward = group.parallel(autoencoder, autoencoder, settings.loss)
        for _ in range(3):
            forward(torch.ones(2, 2)).prediction.sum().backward()
        return [parameter.grad is None for parameter in autoencoder.parameters()]

    assert forked(2, function, tmp_path) == [[False, False, True, True, False, False]] * 2


@pytest.mark.parametrize("layer", [torch.nn.BatchNorm2d(1), torch.nn.InstanceNorm2d(1, track_running_stats=True)])
def test_statistics_of_a_minibatch_are_refused(compose: Any, layer: torch.nn.Module) -> None:
    from aerun.training.build import _check_batch_statistics

    encoder = torch.nn.Sequential(layer, torch.nn.GroupNorm(1, 1), torch.nn.InstanceNorm2d(1))
    _check_batch_statistics(parse(compose([])), encoder)
    with pytest.raises(ConfigError, match=rf"trainer.processes=2: {type(layer).__name__} uses statistics"):
        _check_batch_statistics(parse(compose(["trainer.processes=2"])), encoder)


def test_every_row_is_some_ranks_own() -> None:
    """Once, in order, and no rank has more than one row more than another."""
    for rows, count in product(range(1, 40), range(1, 9)):
        found = []
        for index in range(count):
            group = object.__new__(Group)
            group.index, group.count = index, count
            group.begin(rows)
            found.append(range(rows)[group.start : group.stop])
        assert [row for own in found for row in own] == list(range(rows))
        assert max(map(len, found)) - min(map(len, found)) <= 1
