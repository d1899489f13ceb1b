"""Cores, quotas and precisions, compared with simulated systems and float64."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from aerun.base import precision
from aerun.base.device import default_threads, physical_cores, processor_quota
from aerun.config.parse import parse
from aerun.dataset.data import first_batch
from aerun.errors import ConfigError
from aerun.training import build
from aerun.training.precision_error import measure_precision_error

Compose = Callable[..., dict[str, Any]]


def topology(folder: Path, siblings: list[str]) -> Path:
    for number, text in enumerate(siblings):
        place = folder / f"cpu{number}" / "topology"
        place.mkdir(parents=True)
        (place / "thread_siblings_list").write_text(f"{text}\n")
    return folder


@pytest.mark.parametrize(("siblings", "cores"), [(["0,4", "1,5"] * 2, 2), (["0", "1", "2", "3"], 4), (["0-3"] * 4, 1)])
def test_cores_are_counted_not_their_hardware_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, siblings: list[str], cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 3}, raising=False)
    assert physical_cores(topology(tmp_path, siblings)) == cores


def test_only_cores_that_the_process_may_use_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 5}, raising=False)
    assert physical_cores(topology(tmp_path, ["0,4", "1,5", "2,6", "3,7"] * 2)) == 1


def test_a_system_that_does_not_tell_its_cores_is_taken_at_its_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2}, raising=False)
    assert physical_cores(tmp_path) == 3


def group(folder: Path, **limits: str) -> Callable[[], float]:
    for name, text in limits.items():
        place = folder / "groups" / name.replace("_", "/").removeprefix("top")
        place.mkdir(parents=True, exist_ok=True)
        (place / "cpu.max").write_text(text)
    (folder / "membership").write_text("1:cpu:/old\n0::/pod/box\n")
    return lambda: processor_quota(folder / "groups", folder / "membership")


def test_the_tightest_quota_around_the_process_holds(tmp_path: Path) -> None:
    assert group(tmp_path, pod="150000 100000", pod_box="max 100000")() == 1.5


def test_without_a_quota_there_is_no_limit(tmp_path: Path) -> None:
    assert group(tmp_path, pod="max 100000")() == math.inf
    assert processor_quota(tmp_path / "none", tmp_path / "none") == math.inf


def test_threads_are_no_more_than_the_quota_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("aerun.base.device.physical_cores", lambda: 8)
    for quota, threads in ((2.5, 2), (0.5, 1), (math.inf, 8)):
        monkeypatch.setattr("aerun.base.device.processor_quota", lambda quota=quota: quota)
        assert default_threads() == threads
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert default_threads() == 3


def test_tf32_needs_a_gpu_that_has_it() -> None:
    with pytest.raises(ConfigError, match=r"trainer\.precision=tf32: needs a CUDA device of Ampere or later"):
        precision.choose_precision("tf32", torch.device("cpu"))


def test_a_processor_without_bfloat16_is_told_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for has, warnings in ((True, 0), (False, 1)):
        monkeypatch.setattr(precision, "_computes_bfloat16", lambda has=has: has)
        caplog.clear()
        precision.choose_precision("bfloat16", torch.device("cpu"))
        assert len(caplog.records) == warnings


def test_the_reported_difference_is_that_of_the_loss_and_of_the_gradient(compose: Compose) -> None:
    """Against the same network in float64 and with every operand rounded to bfloat16 by hand."""
    words = ["dataset=random", "dataset.images=64", "model=fc", "trainer.device=cpu", "trainer.threads=1"]
    settings = parse(compose(words))
    device = build.prepare(settings)
    parts = build.build_parts(settings, settings.dataset.load(device), device)
    batch = first_batch(parts.data.train, 32)
    found = measure_precision_error(parts, batch, "bfloat16")
    images = (batch.inputs.double() / 255).flatten(1)
    layers = [m for m in parts.autoencoder.modules() if isinstance(m, torch.nn.Linear)]

    def loss_and_gradient(rounded: bool) -> tuple[float, torch.Tensor]:
        def short(tensor: torch.Tensor) -> torch.Tensor:
            return tensor + (tensor.detach().bfloat16().double() - tensor.detach()) if rounded else tensor

        weights = [p.detach().double().requires_grad_() for layer in layers for p in (layer.weight, layer.bias)]
        one, two, three, four = (short(weight) for weight in weights)
        hidden = short(torch.nn.functional.leaky_relu(short(short(images) @ one.T + two)))
        error = (short(hidden @ three.T + four) - images).square().mean()
        gradient = torch.cat([g.flatten() for g in torch.autograd.grad(error, weights)])
        return float(error.detach()), gradient

    (loss, exact), (rounded, changed) = loss_and_gradient(False), loss_and_gradient(True)
    assert found["loss"] == pytest.approx(abs(rounded - loss) / loss, rel=0.5)
    assert 0.5 < found["gradient"] / float((changed - exact).norm() / exact.norm()) < 5
    assert all(parameter.grad is None for parameter in parts.autoencoder.parameters())


def test_nothing_to_compare_with_is_no_division_by_zero(compose: Compose) -> None:
    words = ["dataset=random", "dataset.images=64", "model=fc", "trainer.device=cpu", "trainer.threads=1"]
    settings = parse(compose(words))
    device = build.prepare(settings)
    parts = build.build_parts(settings, settings.dataset.load(device), device)
    with torch.no_grad():
        for parameter in parts.autoencoder.parameters():
            parameter.zero_()
    batch = first_batch(parts.data.train, 8)
    batch.inputs.zero_()
    assert measure_precision_error(parts, batch, "bfloat16") == {"loss": 0.0, "gradient": 0.0}
