"""Training images mirrored and cropped in every minibatch, compared with NumPy, and in a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from aerun.base.images import crop_and_zoom
from aerun.config.parse import parse
from aerun.dataset.augment import Augment
from aerun.errors import ConfigError
from aerun.runs.run import run

Compose = Callable[[Sequence[str]], dict[str, Any]]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_about_half_are_mirrored_and_targets_with_them() -> None:
    images = torch.randint(0, 256, (400, 3, 5, 6), dtype=torch.uint8, generator=generator())
    targets = images[:, :1].contiguous()
    inputs, wanted = Augment(flip=True)(images, targets, generator(1))
    plain, mirrored = images.float() / 255, torch.from_numpy(images.numpy()[..., ::-1].copy()).float() / 255
    turned = (inputs == mirrored).flatten(1).all(1)
    assert torch.equal(turned, ~(inputs == plain).flatten(1).all(1))
    assert abs(int(turned.sum()) - 200) < 40  # four deviations
    assert torch.equal(wanted, inputs[:, :1])
    same = Augment(flip=True)(images, images, generator(1))
    assert same[0] is same[1] and torch.equal(same[0], inputs)


def test_a_part_is_read_where_the_draws_say() -> None:
    """On a ramp, which bilinear interpolation reproduces exactly away from the edge."""
    rows, columns = np.meshgrid(np.arange(8.0), np.arange(10.0), indexing="ij")
    ramp = torch.from_numpy(np.stack([rows, columns])[None]).float()
    draws = torch.tensor([[1.0, 0.25, 1.0]])
    found = crop_and_zoom(ramp, 0.5, draws)[0]
    # Sides of one half, at a quarter of the remaining width from the left, and at the bottom.
    across = 0.25 * 5 + (np.arange(10) + 0.5) / 2 - 0.5
    down = 4 + (np.arange(8) + 0.5) / 2 - 0.5
    np.testing.assert_allclose(found[1, 3].numpy(), across.clip(0, 9), atol=1e-5)
    np.testing.assert_allclose(found[0, :, 3].numpy(), down.clip(0, 7), atol=1e-5)
    assert torch.allclose(crop_and_zoom(ramp, 0.5, torch.zeros(1, 3)), ramp, atol=1e-5)


def test_what_cannot_be_changed_so(compose: Compose) -> None:
    with pytest.raises(ConfigError, match=r"dataset\.flip=true: needs images, .* shapes 6 and 6"):
        Augment(flip=True).check((6,), (6,))
    with pytest.raises(ConfigError, match=r"dataset\.zoom=0\.1: needs images, .* 3x8x8 and 3x4x4"):
        Augment(zoom=0.1).check((3, 8, 8), (3, 4, 4))
    with pytest.raises(ConfigError, match=r"binarise=dynamic: cannot be combined"):
        parse(compose(["dataset.binarise=dynamic", "loss=bce", "dataset.flip=true"]))
    with pytest.raises(ConfigError, match=r"dataset\.zoom=1"):
        parse(compose(["dataset.zoom=1.0"]))


def test_a_run_sees_other_images_in_every_epoch_and_is_evaluated_on_the_same(compose: Compose, tmp_path: Path) -> None:
    small = ["dataset.train_limit=64", "trainer.epochs=2", "trainer.pictures=1", "optimizer.lr=1e-12"]

    def lines(folder: str, *more: str) -> list[dict[str, float]]:
        import json

        config = compose([*small, *more])
        run(parse(config), config, tmp_path / folder)
        return [json.loads(line) for line in (tmp_path / folder / "metrics.jsonl").read_text().splitlines()]

    plain, changed = lines("plain"), lines("changed", "dataset.flip=true", "dataset.zoom=0.3")
    # Weights stand still, so losses tell what images were seen.
    assert plain[0]["train/loss"] == pytest.approx(plain[1]["train/loss"], rel=1e-6)
    assert abs(changed[0]["train/loss"] / changed[1]["train/loss"] - 1) > 1e-4
    assert plain[1]["validation/loss"] == pytest.approx(changed[1]["validation/loss"], rel=1e-6)
    again = lines("again", "dataset.flip=true", "dataset.zoom=0.3")
    assert [line["train/loss"] for line in again] == [line["train/loss"] for line in changed]


def test_a_run_that_began_before_there_were_these_keys_is_the_same(compose: Compose, tmp_path: Path) -> None:
    from aerun.runs.run import check_folder_is_ours

    config = compose(["dataset=random"])
    (tmp_path / "config.yaml").write_text(
        yaml.safe_dump({**config, "dataset": {k: v for k, v in config["dataset"].items() if k not in ("flip", "zoom")}})
    )
    assert check_folder_is_ours(tmp_path, parse(config), config) is None
    other = compose(["dataset=random", "dataset.flip=true"])
    with pytest.raises(ConfigError, match="contains a run with another configuration"):
        check_folder_is_ours(tmp_path, parse(other), other)
