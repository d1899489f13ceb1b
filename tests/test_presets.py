"""Every recipe of conf/experiment trains and answers, as it stands but for a few hundred images and a few steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from aerun import build
from aerun.checkpoint import Progress
from aerun.conf import conf_dir
from aerun.dataset.base import Arrays
from aerun.dataset.idx import FashionMNISTMini, _Downloaded
from aerun.ranks.silent import Reader, SilentReport, SilentTracker
from aerun.settings import parse
from aerun.signals import StopSignals
from aerun.summary import summarise

Compose = Callable[[Sequence[str]], dict[str, Any]]
FOLDER = Path(conf_dir()) / "experiment"
PRESETS = sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.yaml"))
OPENING = (
    "# @package _global_",
    "# python scripts/train.py ",
    "# paper: ",
    "# protocol: ",
    "# published: ",
    "# ours: ",
    "# time: ",
)
# Whatever is long, made short; where a recipe has the key.
SHORT = {
    "dataset": {"train_limit": 300, "validation": 0},
    "trainer": {"steps": 4, "epochs": 1, "device": "cpu", "threads": 1},
    "scheduler": {"warmup_epochs": 0.0},
}


@pytest.fixture
def small_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Digits and clothes are the embedded clothes, which have their shape; exact baselines have tests of their own."""
    found = FashionMNISTMini(**_plain()).read()
    few = Arrays(found.train[:400], found.test[:100], found.train_labels[:400], found.test_labels[:100], found.classes)
    monkeypatch.setattr(_Downloaded, "read", lambda self: few)
    monkeypatch.setattr(FashionMNISTMini, "read", lambda self: few)
    monkeypatch.setattr("aerun.summary.baselines", lambda *_: {})


def _plain() -> dict[str, Any]:
    from tests.keys import PLAIN

    return PLAIN


@pytest.mark.parametrize("name", PRESETS)
def test_a_recipe_trains(compose: Compose, small_sets: None, tmp_path: Path, name: str) -> None:
    config = compose([f"experiment={name}"])
    for group, values in SHORT.items():
        config[group] |= {key: value for key, value in values.items() if key in config[group]}
    settings = parse(config)
    device = build.prepare(settings)
    parts = build.build_parts(settings, settings.dataset.load(device), device)
    tracker = SilentTracker()
    report = SilentReport(parts.autoencoder, parts.data, parts.noise, tracker)
    before = [parameter.detach().clone() for parameter in parts.autoencoder.parameters()]
    progress = settings.trainer.fit(
        parts, Progress(), tracker, report, Reader(tmp_path, parts.autoencoder, parts.optimizer), StopSignals()
    )
    after = list(parts.autoencoder.parameters())
    assert progress.step >= 1 and not all(map(torch.equal, before, after))
    summary = summarise(settings, parts, progress)
    assert all(math.isfinite(value) for value in summary["test"].values())


@pytest.mark.parametrize("name", [name for name in PRESETS if "/" not in name])
def test_a_recipe_opens_with_what_it_is(name: str) -> None:
    lines = (FOLDER / f"{name}.yaml").read_text().splitlines()
    starts = [next((i for i, line in enumerate(lines) if line.startswith(begin)), -1) for begin in OPENING]
    assert starts == sorted(starts) and starts[0] == 0
    assert f"experiment={name}" in lines[starts[1]]
