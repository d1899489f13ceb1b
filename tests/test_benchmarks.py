"""The benchmarks' own arithmetic, and that what they compare is the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aerun.config.parse import parse
from aerun.core.autoencoder import objective
from aerun.dataset.data import Data, Split
from aerun.training.build import build_parts
from benchmarks.contestants.bound import step_flops
from benchmarks.contestants.nets import MODELS, build
from benchmarks.contestants.task import read_images
from benchmarks.images import EMBEDDED
from benchmarks.page import write_section
from benchmarks.powerlaw import fit
from benchmarks.rounds import interleave, paired, spread, table, verdict
from benchmarks.throughput_report import report
from benchmarks.workers import Worker

ROOT = Path(__file__).resolve().parent.parent
Compose = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("model", MODELS)
def test_the_bare_networks_are_those_of_aerun(compose: Compose, model: str) -> None:
    images = read_images(EMBEDDED)[1][:40]
    part = Split(images, images, None)
    parts = build_parts(parse(compose(MODELS[model])), Data(part, part, part, None, ""), torch.device("cpu"))
    bare = build(model)
    ours, theirs = list(parts.autoencoder.parameters()), list(bare.parameters())
    assert [p.shape for p in ours] == [p.shape for p in theirs]
    with torch.no_grad():
        for p, q in zip(ours, theirs, strict=True):
            q.copy_(p)
    x = images.float() / 255
    noise = torch.randn(len(x), *parts.autoencoder.code_shape) if bare.gaussian else None
    loss = objective(parts.autoencoder(x, noise), x, parts.autoencoder, parts.loss)["loss"]
    loss.backward()
    other = bare.loss(x, noise)
    other.backward()
    torch.testing.assert_close(other, loss)
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(q.grad, p.grad)


def test_both_see_the_same_number_of_images(compose: Compose) -> None:
    data = parse(compose([])).dataset.load(torch.device("cpu"))
    training, held_out = read_images(EMBEDDED)
    assert data.validation is not None
    assert (len(data.train), len(data.validation)) == (len(training), len(held_out))


def test_flops_of_a_step_by_hand() -> None:
    # Two products forward; backward two for the weights, one for the code; none for the image.
    assert step_flops("fc", 16) == 5 * 2 * 784 * 64


def test_contestants_are_asked_in_turn() -> None:
    order: list[str] = []

    def ask(name: str) -> Callable[[], int]:
        def answer() -> int:
            order.append(name)
            return len(order)

        return answer

    answers = interleave({name: ask(name) for name in "abc"}, 2)
    assert order == list("abcabc")
    assert answers == {"a": [1, 4], "b": [2, 5], "c": [3, 6]}


def test_ratios_are_of_the_same_round() -> None:
    # The machine is twice as slow in the second round. The ratio of the medians would be 2.4.
    assert paired([30, 15, 24], [10, 5, 12]) == (3, 2, 3)
    assert spread([4, 1, 3, 2]) == (2.5, 1, 4)
    assert f"{spread([1000, 2000, 4000]):,.0f}" == "2,000 (1,000-4,000)"


def test_targets_are_met_or_not() -> None:
    assert verdict(0.97, 0.97) == "met (>= 0.97)"
    assert verdict(0.9699, 0.97) == "NOT met (>= 0.97)"
    assert verdict(1.3, 1.25, at_most=True) == "NOT met (<= 1.25)"


def test_the_report_compares_round_by_round() -> None:
    def rounds(*seconds: float) -> list[dict[str, float]]:
        return [
            {"images": 12_000, "seconds": s, "evaluated": 100, "evaluation_seconds": 0.1, "rest_seconds": 2.0}
            for s in seconds
        ]

    text = report({"fc 512": {"bare": rounds(1, 2, 1), "aerun": rounds(1, 2, 2), "pythae": rounds(1.5, 3, 1.5)}})
    assert "Targets: 1 of 2 met." in text
    assert "fc 512: aerun / pythae 1.500 (0.750-1.500), NOT met (>= 1.6)" in text
    # On a GPU the targets are others, and an epoch of 60,000 images has one of its own.
    text = report(
        {"fc 512": {"bare": rounds(1), "aerun": rounds(0.003)}, "conv 64": {"bare": rounds(2), "aerun": rounds(1)}},
        "cuda",
    )
    assert "fc 512, an epoch of 60,000 images, s: 0.0150 (0.0150-0.0150), met (<= 0.015)" in text
    assert "conv 64: aerun / bare loop 2.000 (2.000-2.000), NOT met (>= 3)" in text


def test_a_table_is_markdown() -> None:
    assert table(["a", "b"], [["one", "2"]]) == "| a   | b |\n|-----|--:|\n| one | 2 |"


def test_a_section_is_replaced_and_others_are_left(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    write_section("one", "first\n", page)
    write_section("two", r"a \1 backslash", page)
    before = page.read_text()
    write_section("one", "first", page)
    write_section("two", r"a \1 backslash", page)
    assert page.read_text() == before
    write_section("one", "second", page)
    assert page.read_text() == before.replace("first", "second")


ANSWERING = """
import sys
from benchmarks.workers import serve
def answer(request):
    print("chatter of a library")
    return {"double": 2 * request["number"]} if request["number"] else __import__("no_such_module")
serve(answer)
"""


def test_a_worker_answers_whatever_it_prints() -> None:
    from benchmarks.workers import Absent

    with Worker([sys.executable, "-c", ANSWERING], {"PYTHONPATH": str(ROOT)}) as worker:
        assert worker.ask(number=21) == {"double": 42}
        with pytest.raises(Absent, match="no_such_module"):
            worker.ask(number=0)
        with pytest.raises(RuntimeError, match="KeyError: 'number'"):
            worker.ask(other=1)
        assert worker.ask(number=1) == {"double": 2}


def test_throughput_from_end_to_end(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "throughput.py"), "--models", "fc", "--batches", "512"]
    command += ["--only", "bare,aerun", "--rounds", "1", "--seconds", "0.05", "--json", str(tmp_path / "all.json")]
    command += ["--core", str(min(os.sched_getaffinity(0)))]
    environment = {"AERUN_FASHION_MNIST": str(EMBEDDED), "PATH": "", "HOME": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "| fc 512 " in done.stdout
    [bare], [ours] = json.loads((tmp_path / "all.json").read_text())["rounds"]["fc 512"].values()
    assert bare["images"] == ours["images"] > 0
    assert np.isfinite([*bare.values(), *ours.values()]).all()


def test_the_first_step_is_timed_from_end_to_end(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "first_step.py"), "dataset.train_limit=600"]
    command += ["trainer.device=cpu", f"hydra.run.dir={tmp_path / 'run'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert 0 < float(done.stdout.split()[-1]) < time.clock_gettime(time.CLOCK_MONOTONIC)


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.05, 2.0])
@pytest.mark.parametrize("fixed", [0.0, 3.0])
def test_the_exponent_of_an_exact_law_is_found(exponent: float, fixed: float) -> None:
    counts = [10_000, 30_000, 100_000, 300_000, 1_000_000]
    factor = 20 / 1_000_000**exponent
    law = fit(counts, [fixed + factor * n**exponent for n in counts])
    assert law.exponent == pytest.approx(exponent, abs=0.002)
    assert law.fixed == pytest.approx(fixed, abs=0.02)
    assert law.misfit < 0.01


def test_what_does_not_grow_is_flat() -> None:
    assert str(fit([1, 10, 100], [2.0, 2.1, 2.05])) == "flat"
    assert str(fit([1, 10, 100], [4.0, 3.0, 2.0])) == "flat"
    assert str(fit([1, 10, 100], [1.0, 10.0, 100.0])) == "1.00 (0 %)"
