"""Optimizations of start-up and steps do not change results."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from aerun.base.speed import eager_step, spare_compiler
from tests.test_optimizer import model, optimizers, settings, torch_class

HEAVY = ("torch._dynamo", "torch._inductor", "torchvision", "matplotlib", "sklearn", "scipy", "sympy")


def python(code: str, *arguments: str) -> str:
    """The output of a new interpreter."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@optimizers
def test_an_eager_step_is_torchs_own(name: str) -> None:
    one = model()
    other = copy.deepcopy(one)
    values = settings(name) | {"lr": 1e-2, "capturable": False}
    if "capturable" not in settings(name):
        del values["capturable"]
    theirs, ours = (torch_class(name)(each.parameters(), **values) for each in (one, other))
    step = eager_step(ours)
    for each, update in ((one, theirs.step), (other, step)):
        generator = torch.Generator().manual_seed(1)
        for _ in range(5):
            batch = torch.randn(8, 5, generator=generator)
            each.zero_grad()
            (each(batch) - batch).square().mean().backward()
            update()
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))
    assert all(not p.grad.requires_grad for p in other.parameters() if p.grad is not None)


def test_an_optimizer_of_somebody_elses_keeps_its_own_step() -> None:
    class Counting(torch.optim.SGD):
        steps = 0

        def step(self, closure: object = None) -> None:  # type: ignore[override]
            type(self).steps += 1

    eager_step(Counting(nn.Linear(2, 2).parameters(), lr=1.0))()
    assert Counting.steps == 1


def test_the_compilers_mark_can_be_taken_off_again() -> None:
    function = torch.optim.Optimizer.zero_grad.__wrapped__  # type: ignore[attr-defined]
    before = getattr(function, "__dynamo_disable", None)
    if before is not None and before is not function:
        pytest.skip("torch has made the note itself in this process")
    spare_compiler()
    assert getattr(function, "__dynamo_disable") is function
    spare_compiler(False)
    assert not hasattr(function, "__dynamo_disable")


def test_the_first_step_needs_neither_the_compiler_nor_torchvision_nor_matplotlib(tmp_path: Path) -> None:
    code = f"""
import os, sys
import aerun.training.step
made = aerun.training.step.make_step
def make_step(*arguments, **keywords):
    step = made(*arguments, **keywords)
    def first(batch, number):
        step(batch, number)
        print([name for name in {HEAVY!r} if name in sys.modules], flush=True)
        os._exit(0)
    return first
aerun.training.step.make_step = make_step
from aerun.cli.train import main
main()
"""
    output = python(code, f"hydra.run.dir={tmp_path}/run", "trainer.device=cpu", "trainer.threads=1")
    assert output.splitlines()[-1] == "[]"


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_memory_that_a_step_frees_is_there_for_the_next() -> None:
    code = """
import resource, sys, torch
from aerun.base.speed import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step():
    return torch.zeros(400_000) + 1, torch.zeros(400_000) + 2
for _ in range(5):
    step()
before = pages()
for _ in range(100):
    step()
print(pages() - before)
"""
    kept, given_back = (int(python(code, word)) for word in ("keep", "leave"))
    assert kept < 1_000 < given_back
