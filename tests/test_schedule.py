"""Numbers that change during training, against closed forms; and a Gaussian latent's cures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from aerun.config.parse import parse
from aerun.contracts import Moment
from aerun.errors import ConfigError
from aerun.latent import Gaussian
from aerun.schedule import Cosine, Cyclical, Exponential, Linear, Steps
from aerun.sparsity import keep_largest
from aerun.training import build
from aerun.training.batches import Resident
from aerun.training.step import make_step

Compose = Callable[[Sequence[str]], dict[str, Any]]
TINY = [
    *("dataset=random", "dataset.images=96", "dataset.shape=[1,6,6]", "dataset.validation=0", "model=fc_vae"),
    *("model.hidden=[8]", "model.code_size=4", "trainer.epochs=4", "trainer.batch_size=32", "trainer.device=cpu"),
]
TOPK = ["model=fc", "sparsity=topk", "sparsity.k=2", "schedule=linear", "schedule.linear.key=sparsity.k"]
WARMUP = ["schedule=linear", "schedule.linear.key=latent.beta", "schedule.linear.epochs=2"]


def curve(schedule: Any, final: float, total: int = 20, per_epoch: int = 5) -> list[float]:
    return [schedule.value(Moment(step, total, per_epoch), final) for step in range(total)]


def test_shapes_are_their_formulas() -> None:
    share = [min(1.0, step / 10) for step in range(20)]  # two epochs of five steps
    assert curve(Linear(key="", start=3.0, epochs=2.0), 1.0) == pytest.approx([3 - 2 * s for s in share])
    whole = [3 - 2 * step / 19 for step in range(20)]
    assert curve(Linear(key="", start=3.0, epochs=None), 1.0) == pytest.approx(whole)
    cosine = [2 + math.cos(math.pi * s) for s in share]
    assert curve(Cosine(key="", start=3.0, epochs=2.0), 1.0) == pytest.approx(cosine)
    exponential = [1000 ** (-s) for s in share]
    assert curve(Exponential(key="", start=1.0, epochs=2.0), 0.001) == pytest.approx(exponential)
    # Fu et al. 2019, equations 6 and 7, with T = 20, M = 2, R = 0.5: tau = mod(t, T/M) / (T/M).
    tau = [(step % 10) / 10 for step in range(20)]
    assert curve(Cyclical(key="", start=0.0, cycles=2, ramp=0.5), 4.0) == pytest.approx(
        [4 * (t / 0.5 if t <= 0.5 else 1.0) for t in tau]
    )
    steps = Steps(key="", values=[9.0, 5.0], until=[1.0, 3.0])
    assert curve(steps, 2.0) == [9.0] * 5 + [5.0] * 10 + [2.0] * 5


def test_the_gaussians_own_keys_are_these_shapes() -> None:
    for latent, same in (
        (Gaussian(2.0, warmup_epochs=2.0), Linear(key="", start=0.0, epochs=2.0)),
        (Gaussian(2.0, cyclical=2), Cyclical(key="", start=0.0, cycles=2, ramp=0.5)),
    ):
        own = latent.schedules()["beta"]
        assert [own(Moment(step, 20, 5)) for step in range(20)] == pytest.approx(curve(same, 2.0))
    assert Gaussian(2.0).schedules() == {}


def steps_of(compose: Compose, words: list[str], numbers: range = range(12), state: Any = None) -> tuple[Any, Any]:
    """Terms of each step, and the parts."""
    settings = parse(compose([*TINY, *words]), overrides=words)
    device = build.prepare(settings)
    parts = build.build_parts(settings, settings.dataset.load(device), device)
    if state is not None:
        parts.autoencoder.load_state_dict(state)
    step = make_step(parts, learning_rate=lambda number: 1.0, total_steps=12, steps_per_epoch=3)
    parts.autoencoder.train()
    batches = [batch for epoch in range(4) for batch in Resident(parts.data.train, 32, 0).epoch(epoch)]
    return [step(batches[number], number).terms for number in numbers], parts


def test_the_loss_has_the_scheduled_weight_which_is_logged(compose: Compose) -> None:
    terms, parts = steps_of(compose, [*WARMUP, "latent.beta=3"])
    for number, term in enumerate(terms):
        beta = 3 * min(1.0, number / 6)
        assert term["latent.beta"].item() == pytest.approx(beta)
        expected = term["reconstruction"] + beta / 36 * term["kl"]
        assert term["loss"].item() == pytest.approx(expected.item(), rel=1e-6)
    assert parts.autoencoder.latent.beta == 3.0  # evaluation
    shorthand, _ = steps_of(compose, ["latent.warmup_epochs=2", "latent.beta=3"])
    assert all(one[name].equal(two[name]) for one, two in zip(terms, shorthand, strict=True) for name in one)


def test_a_constant_schedule_changes_no_bit(compose: Compose) -> None:
    scheduled, _ = steps_of(compose, [*WARMUP, "schedule.linear.start=1"])
    plain, _ = steps_of(compose, [])
    assert all(one["loss"].equal(two["loss"]) for one, two in zip(scheduled, plain, strict=True))


def test_values_depend_on_the_steps_number_alone(compose: Compose) -> None:
    words = [*WARMUP, "optimizer=sgd", "optimizer.momentum=0"]
    whole, expected = steps_of(compose, words)
    first, parts = steps_of(compose, words, range(5))
    second, found = steps_of(compose, words, range(5, 12), parts.autoencoder.state_dict())
    for one, two in zip(whole, [*first, *second], strict=True):
        assert one["loss"].equal(two["loss"])
    for one, two in zip(expected.autoencoder.parameters(), found.autoencoder.parameters(), strict=True):
        assert one.equal(two)


def test_k_falls_while_training_and_is_the_last_in_evaluation(compose: Compose) -> None:
    words = ["model=fc", "model.code_size=16", "sparsity=topk", "sparsity.k=2", "schedule=linear"]
    words += ["schedule.linear.key=sparsity.k", "schedule.linear.start=12", "schedule.linear.epochs=2"]
    terms, parts = steps_of(compose, words)
    wanted = [round(12 - 10 * min(1.0, number / 6)) for number in range(12)]
    assert [term["sparsity.k"].item() for term in terms] == wanted
    images = torch.rand(5, 1, 6, 6)
    assert ((parts.autoencoder.eval()(images).code != 0).sum(1) <= 2).all()


@pytest.mark.parametrize("shape", [(7, 20), (3, 4, 5, 6)])
@pytest.mark.parametrize("k", [1, 3, 20])
def test_a_scheduled_k_selects_as_a_number_does(shape: tuple[int, ...], k: int) -> None:
    code = torch.randn(shape, generator=torch.Generator().manual_seed(0), requires_grad=True)
    slope = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    results = [keep_largest(code, value) for value in (k, torch.tensor(k))]
    gradients = [torch.autograd.grad((result * slope).sum(), code)[0] for result in results]
    assert results[0].equal(results[1]) and gradients[0].equal(gradients[1])


def test_a_noise_rises(compose: Compose) -> None:
    words = ["model=fc", "noise=masking", "noise.rate=0.5", "noise.value=-1", "schedule=steps"]
    words += ["schedule.steps.key=noise.rate", "schedule.steps.values=[0,0.25]", "schedule.steps.until=[1,2]"]
    terms, parts = steps_of(compose, words)
    assert [term["noise.rate"].item() for term in terms] == [0.0] * 3 + [0.25] * 3 + [0.5] * 6
    step = make_step(parts, learning_rate=lambda number: 1.0, total_steps=12, steps_per_epoch=3)
    batch = next(Resident(parts.data.train, 32, 0).epoch(0))
    for number, masked in ((0, 0), (4, 9), (8, 18)):
        assert ((step.prepare(batch, number)[0] == -1).flatten(1).sum(1) == masked).all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["schedule=linear"], r"schedule\.linear\.key: a value is needed"),
        (["schedule=linear", "schedule.linear.key=optimizer.lr"], r"the learning rate has the group scheduler"),
        (["schedule=linear", "schedule.linear.key=latent.bet"], r"has no schedule\. Did you mean 'latent\.beta'"),
        ([*WARMUP, "latent.warmup_epochs=1"], r"key=latent\.beta: is already changed by latent; use one of the two"),
        ([*WARMUP, "schedule.linear.epochs=9"], r"schedule\.linear.*epochs=9 is longer than the run"),
        ([*WARMUP, "schedule.linear.start=-1"], r"schedule\.linear: latent\.beta=-1\.0: must be a number, at least 0"),
        (["latent.warmup_epochs=9"], r"latent\.warmup_epochs=9 is longer than the run, trainer\.epochs=4"),
        (["latent.warmup_epochs=1", "latent.cyclical=4"], r"warmup_epochs=1 and cyclical=4: use one of the two"),
        (["latent.free_bits=1", "latent.capacity=4"], r"free_bits=1 and capacity=4: use one of the two"),
        (
            ["schedule=exponential", "schedule.exponential.key=latent.beta", "latent.beta=0"],
            r"schedule\.exponential\.start=0\.01 and latent\.beta=0: both must be above 0",
        ),
        (["schedule=linear", "schedule.linear.key=latent.capacity"], r"latent\.capacity: has no schedule"),
        (
            [*TOPK, "schedule.linear.start=2.5"],
            r"schedule\.linear: sparsity\.k=2\.5: must be a whole number",
        ),
        (
            [*TOPK, "schedule.linear.start=5"],
            r"schedule\.linear: sparsity\.k=5 is larger than the code size, model\.code_size=4",
        ),
        (
            ["schedule=steps", "schedule.steps.key=latent.beta", "schedule.steps.until=[1,2]"],
            r"values=\[0\.0\] and until=\[1\.0, 2\.0\]: must have one epoch for each value",
        ),
    ],
)
def test_what_cannot_work_is_refused_in_a_line(compose: Compose, words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refusal:
        parse(compose([*TINY, *words]), overrides=words)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("shape", [(8, 3), (8, 2, 2, 3)])
def test_floors_and_capacities_with_their_gradients(shape: tuple[int, ...]) -> None:
    """Against a loop over dimensions, in float64, with the divergences of torch.distributions."""
    size = (shape[0], 2 * shape[1], *shape[2:])
    features = torch.randn(size, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    mean, log_variance = features.chunk(2, dim=1)
    each = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(torch.zeros_like(mean), 1.0)).flatten(1)
    means = [sum(each[row, j] for row in range(shape[0])) / shape[0] for j in range(each.shape[1])]
    floor = sorted(m.item() for m in means)[len(means) // 2]
    kl = sum(means)
    for latent, expected in (
        (Gaussian(1.0, free_bits=floor), sum(m if m.item() > floor else floor for m in means)),
        (Gaussian(1.0, capacity=kl.item() + 2), kl.item() + 2 - kl),
        (Gaussian(1.0, capacity=1.0), kl - 1),
    ):
        _, terms = latent(features, None)
        found = {term.name: term.value for term in terms}
        assert found["kl"].item() == pytest.approx(kl.item(), rel=1e-9)
        assert found["kl_penalty"].item() == pytest.approx(expected.item(), rel=1e-9)
        gradients = [torch.autograd.grad(x, features, retain_graph=True)[0] for x in (found["kl_penalty"], expected)]
        torch.testing.assert_close(*gradients)
        assert not latent.rowwise


def test_a_run_that_is_continued_is_the_run_to_the_last_bit(train: Callable[..., Any], tmp_path: Path) -> None:
    import json

    words = [*TINY, *WARMUP, "tracker=none", "trainer.figures=none", "trainer.threads=1"]
    for folder, epochs in (("whole", 4), ("half", 2)):
        done = train(*words, f"trainer.epochs={epochs}", f"hydra.run.dir={folder}")
        assert done.returncode == 0, done.stderr + done.stdout
    done = train("resume=half", "trainer.epochs=4")
    assert done.returncode == 0, done.stderr + done.stdout
    one, two = (
        [json.loads(x) for x in (tmp_path / f / "metrics.jsonl").read_text().splitlines()] for f in ("whole", "half")
    )
    keys = [key for key in one[0] if key.startswith(("train/", "validation/")) and "second" not in key]
    assert "train/latent.beta" in keys
    assert [[line[key] for key in keys] for line in one] == [[line[key] for key in keys] for line in two]
