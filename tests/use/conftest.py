"""Runs that have trained for a moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aerun.config.parse import parse
from aerun.runs.run import run

SMALL = ("dataset.train_limit=512", "trainer.epochs=2", "trainer.pictures=1")


@pytest.fixture(scope="session")
def trained(
    compose: Callable[[Sequence[str]], dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Overrides -> the folder of a run on a few images, trained once per process. The default model is fc."""
    folders: dict[tuple[str, ...], Path] = {}

    def folder(*overrides: str) -> Path:
        if overrides not in folders:
            named = any(override.startswith("model=") for override in overrides)
            config = compose([*SMALL, *([] if named else ["model=fc"]), *overrides])
            place = tmp_path_factory.mktemp("trained")
            run(parse(config), config, place, overrides=list(overrides))
            folders[overrides] = place
        return folders[overrides]

    return folder


@pytest.fixture
def drawings(tmp_path: Path) -> Path:
    """A folder of images of several sizes and modes, one in a subfolder, and one that does not decode."""
    random, root = np.random.default_rng(0), tmp_path / "drawings"
    (root / "below").mkdir(parents=True)
    for number, (height, width) in enumerate([(28, 28), (40, 28), (28, 61), (90, 70)]):
        pixels = random.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(root / f"{number}.png")
    Image.fromarray(random.integers(0, 256, (30, 30), np.uint8)).save(root / "below" / "grey.png")
    (root / "broken.png").write_bytes(b"no picture")
    return root
