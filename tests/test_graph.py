"""A recorded step is the step: on the host with a recorder that runs the function again, on a GPU with the real one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from aerun.config.parse import parse
from aerun.errors import ConfigError
from aerun.training import build
from aerun.training.batches import Resident
from aerun.training.cuda_graph import WARMUP_CALLS, Recorded, record_on_cuda, resolve_recording
from aerun.training.parts import Parts, Update
from aerun.training.step import LearningRates, make_step

Compose = Callable[..., dict[str, Any]]
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
TOPK = ["model=fc", "sparsity=topk", "sparsity.k=2", "schedule=steps"]
CASES = [
    ["model=fc"],
    ["model=fc", "noise=gaussian", "scheduler=multistep", "scheduler.milestones=[1]", "scheduler.gamma=0.5"],
    ["model=fc", "sparsity=topk", "optimizer=sgd", "trainer.clip_norm=0.1"],
    ["model=fc", "dataset.target_transform=[{Resize: {size: 8}}]", "model.tied=false"],
    ["model=fc_vae", "loss=bce"],
    ["model=fc", "loss=bce_then_mse"],
    ["model=fc_vae", "loss=bce", "latent=importance_weighted", "latent.samples=3", "dataset.binarise=dynamic"],
    ["model=conv"],
    ["model=fc_vae", "schedule=linear", "schedule.linear.key=latent.beta", "schedule.linear.epochs=2"],
    [*TOPK, "schedule.steps.key=sparsity.k", "schedule.steps.values=[9]", "schedule.steps.until=[1]"],
    ["model=fc_vae", "latent.free_bits=0.05"],
    ["model=fc_vae", "latent=tc"],
    ["model=fc_vae", "latent=info_mmd"],
    ["model=fc", "latent=wae_mmd"],
    ["model=fc_vae", "latent=vamp", "latent.components=5"],
    ["model=fc", "noise=gaussian", "regularizer=[contractive,decorrelation]"],
    ["model=fc_vae", "regularizer=rae_gp"],
    ["model=fc", "latent=vq", "latent.entries=16", "latent.decay=0.5", "latent.restart=0.5", "latent.restart_every=2"],
    ["model=fc", "latent=residual_vq", "latent.entries=16", "latent.update=gradient"],
]
# Of these the arithmetic on the host differs, or is not there: they are for a GPU alone.
MORE = [
    ["optimizer=adamw", "trainer.clip_norm=0.1"],
    ["optimizer=nadam"],
    ["optimizer=rmsprop"],
    ["optimizer=adam", "optimizer.fused=null"],
    ["model=conv", "trainer.channels_last=true"],
    ["model=unet", "noise=several"],
    ["model=conv", "regularizer=[rae_l2,spectral]"],
]


def make_parts(compose: Compose, words: list[str], device: str) -> tuple[Any, Parts]:
    # A power of two: the recorded rate is a float32 tensor, the other a Python number.
    common = [
        "optimizer.lr=0.0009765625",
        "dataset=random",
        "dataset.images=200",
        "dataset.shape=[1,12,12]",
        "trainer.batch_size=32",
    ]
    settings = parse(compose([*common, f"trainer.device={device}", "trainer.threads=1", *words]))
    where = build.prepare(settings)
    return settings, build.build_parts(settings, settings.dataset.load(where), where)


def train(settings: Any, parts: Parts, epochs: int = 3, **keywords: Any) -> tuple[list[dict[str, float]], int]:
    """Terms of every step, and how many batches had a size of their own."""
    step = make_step(
        parts,
        learning_rate=lambda number: settings.scheduler.multiplier(number, total_steps=21, steps_per_epoch=7),
        total_steps=21,
        steps_per_epoch=7,
        clip_norm=settings.trainer.clip_norm,
        **keywords,
    )
    parts.autoencoder.train()
    told, number, odd = [], 0, 0
    for epoch in range(epochs):
        for batch in Resident(parts.data.train, 32, 0).epoch(epoch):
            if epoch == epochs - 1 and len(batch) != 32:
                break  # end with a batch that is replayed
            told.append(step(batch, number))
            number += 1
            odd += len(batch) != 32
    return [{name: float(value) for name, value in update.terms.items()} for update in told], odd


def run_again(function: Callable[[], Update]) -> tuple[Update, Callable[[], Any]]:
    """As a CUDA graph does: nothing happens at the recording, a replay writes into the memory of its results."""
    parameters = run_again.parameters  # type: ignore[attr-defined]
    tensors = [*parameters, *run_again.buffers]  # type: ignore[attr-defined]
    before = [tensor.detach().clone() for tensor in tensors]
    optimizer = run_again.optimizer  # type: ignore[attr-defined]
    state = copy.deepcopy(optimizer.state_dict()["state"])
    result = function()
    gradients = [parameter.grad for parameter in parameters]
    with torch.no_grad():
        for tensor, old in zip(tensors, before, strict=True):
            tensor.copy_(old)
        now = optimizer.state_dict()["state"]
        for index, values in state.items():
            for name, value in values.items():
                if isinstance(value, torch.Tensor):
                    now[index][name].copy_(value)

    def replay() -> None:
        held = [parameter.grad for parameter in parameters]
        again = function()
        found = [parameter.grad for parameter in parameters]
        for parameter, gradient in zip(parameters, held, strict=True):
            parameter.grad = gradient  # a replay moves no Python object
        with torch.no_grad():
            for name, term in again.terms.items():
                result.terms[name].copy_(term)
            result.code.copy_(again.code)
            for place, gradient in zip(gradients, found, strict=True):
                if place is not None and gradient is not None:
                    place.copy_(gradient)

    return result, replay


@pytest.mark.parametrize("words", CASES, ids=" ".join)
def test_copies_into_and_out_of_recorded_memory_change_nothing(
    compose: Compose, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, eager = make_parts(compose, words, "cpu")
    expected, odd = train(settings, eager)
    assert odd == 2  # the last batch of an epoch runs as it stands, between replays
    settings, recorded = make_parts(compose, words, "cpu")
    run_again.parameters = list(recorded.autoencoder.parameters())  # type: ignore[attr-defined]
    run_again.buffers = list(recorded.autoencoder.buffers())  # type: ignore[attr-defined]
    run_again.optimizer = recorded.optimizer  # type: ignore[attr-defined]
    monkeypatch.setattr("aerun.training.step.record_on_cuda", run_again)
    told, _ = train(settings, recorded, graph="auto")
    assert told == expected
    if "optimizer=sgd" not in words:  # whose update is not recorded
        [group] = recorded.optimizer.param_groups
        assert group["capturable"] is True and isinstance(group["lr"], torch.Tensor)
    for one, other in zip(eager.autoencoder.parameters(), recorded.autoencoder.parameters(), strict=True):
        assert torch.equal(one, other) and torch.equal(one.grad, other.grad)  # type: ignore[arg-type]


def update_of(value: torch.Tensor) -> Update:
    return Update({"loss": value.sum()}, value, None)


def test_the_first_calls_run_as_they_are_then_the_recording_takes_over() -> None:
    calls, replays = [], []

    def compute(inputs: torch.Tensor, targets: torch.Tensor, extras: Any) -> Update:
        calls.append(inputs.clone())
        return update_of(inputs * 2)

    def record(function: Callable[[], Update]) -> tuple[Update, Callable[[], Any]]:
        return function(), lambda: replays.append(calls[-1])

    step = Recorded(compute, record, [], required=False)
    for value in range(10):
        images = torch.full((2, 3), float(value))
        step(images, images, {})
    assert len(calls) == WARMUP_CALLS + 1 and len(replays) == 10 - WARMUP_CALLS


@pytest.mark.parametrize("required", [False, True])
def test_a_step_that_cannot_be_recorded_runs_as_it_is_or_is_refused(
    required: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def record(function: Callable[[], Update]) -> tuple[Update, Callable[[], Any]]:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    step = Recorded(lambda inputs, targets, extras: update_of(inputs), record, [], required=required)
    images = torch.ones(2, 3)
    caplog.set_level("INFO")
    for _ in range(WARMUP_CALLS):
        step(images, images, {})
    if required:
        with pytest.raises(ConfigError, match=r"trainer\.graph=true: the step cannot be recorded \(operation"):
            step(images, images, {})
        return
    for _ in range(3):
        assert float(step(images, images, {}).terms["loss"]) == 6.0
    assert caplog.text.count("cannot be recorded") == 1


def test_a_run_that_goes_on_with_a_smaller_batch_still_records_the_full_ones() -> None:
    replays = []

    def record(function: Callable[[], Update]) -> tuple[Update, Callable[[], Any]]:
        return function(), lambda: replays.append(1)

    step = Recorded(lambda inputs, targets, extras: update_of(inputs), record, [], required=False)
    for size in (7, *[32, 32, 32, 7] * 4):
        images = torch.zeros(size, 3)
        step(images, images, {})
    assert len(replays) == 12 - WARMUP_CALLS


def test_rates_that_were_made_for_a_recording_become_numbers_again() -> None:
    optimizer = torch.optim.Adam(torch.nn.Linear(2, 2).parameters(), lr=0.5)
    for group in optimizer.param_groups:
        group["initial_lr"] = 0.5
    rates = LearningRates(optimizer, recorded=True)
    rates.set(0.25)
    rates.release()
    [group] = optimizer.param_groups
    assert group["lr"] == 0.125 and not isinstance(group["lr"], torch.Tensor) and group["capturable"] is False
    rates.set(1.0)
    assert group["lr"] == 0.5


def test_recording_is_for_cuda() -> None:
    assert resolve_recording("auto", torch.device("cpu")) is False
    assert resolve_recording("auto", torch.device("cuda", 0)) == "auto"
    assert resolve_recording(False, torch.device("cuda", 0)) is False
    with pytest.raises(ConfigError, match=r"trainer\.graph=true: needs a CUDA device"):
        resolve_recording(True, torch.device("cpu"))


def test_several_processes_are_not_recorded() -> None:
    assert resolve_recording("auto", torch.device("cuda", 0), processes=2) is False
    with pytest.raises(ConfigError, match=r"trainer\.graph=true: not with 2 processes"):
        resolve_recording(True, torch.device("cuda", 0), processes=2)


@needs_cuda
@pytest.mark.parametrize("words", CASES + MORE, ids=" ".join)
def test_recorded_and_eager_training_agree_on_a_gpu(compose: Compose, words: list[str]) -> None:
    settings, eager = make_parts(compose, words, "cuda")
    expected, _ = train(settings, eager)
    settings, recorded = make_parts(compose, words, "cuda")
    told, _ = train(settings, recorded, graph=True)
    for one, other in zip(expected, told, strict=True):
        assert other == pytest.approx(one, rel=1e-4)
    for one, other in zip(eager.autoencoder.parameters(), recorded.autoencoder.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@needs_cuda
def test_a_recording_replays_on_a_gpu() -> None:
    weight = torch.nn.Parameter(torch.ones(3, device="cuda"))
    place = torch.zeros(3, device="cuda")

    def function() -> Update:
        return update_of((place * weight).detach())

    result, replay = record_on_cuda(function)
    place.fill_(2.0)
    replay()
    assert float(result.terms["loss"]) == 6.0


@needs_cuda
def test_a_model_that_waits_for_the_device_runs_as_it_is(compose: Compose, caplog: pytest.LogCaptureFixture) -> None:
    settings, eager = make_parts(compose, ["model=fc"], "cuda")
    expected, _ = train(settings, eager)
    settings, parts = make_parts(compose, ["model=fc"], "cuda")
    parts.autoencoder.register_forward_hook(lambda module, inputs, result: float(result.code.sum()) and None)
    caplog.set_level("INFO")
    told, _ = train(settings, parts, graph="auto")
    assert caplog.text.count("cannot be recorded") == 1
    for one, other in zip(expected, told, strict=True):
        assert other == pytest.approx(one, rel=1e-4)
    again, _ = train(*make_parts(compose, ["model=fc"], "cuda"), graph=True)
    for one, other in zip(expected, again, strict=True):
        assert other == pytest.approx(one, rel=1e-4)
