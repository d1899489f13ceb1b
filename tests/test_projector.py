"""The projector's files against those of TensorBoard's own writer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from PIL import Image
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig
from torch.utils.tensorboard import SummaryWriter

from aerun.tracker.projector import write_embedding


@pytest.mark.parametrize(("count", "channels"), [(11, 1), (16, 3)])
def test_the_projectors_files_say_what_tensorboards_own_say(tmp_path: Path, count: int, channels: int) -> None:
    draw = torch.Generator().manual_seed(0)
    codes = torch.randn(count, 5, generator=draw)
    images = torch.randint(0, 256, (count, channels, 6, 6), generator=draw).byte()
    labels = [f"class {i}" for i in range(count)]
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    for _ in range(2):  # the second replaces the first
        write_embedding(ours, codes.numpy(), labels, images.numpy())
    with SummaryWriter(str(theirs)) as writer:
        writer.add_embedding(codes, labels, images / 255, global_step=0, tag="code")

    def config(folder: Path) -> ProjectorConfig:
        return text_format.Parse((folder / "projector_config.pbtxt").read_text(), ProjectorConfig())

    (mine,), (reference,) = config(ours).embeddings, config(theirs).embeddings
    assert list(mine.sprite.single_image_dim) == list(reference.sprite.single_image_dim) == [6, 6]
    for folder, about in ((ours, mine), (theirs, reference)):
        assert (folder / about.metadata_path).read_text().splitlines() == labels
        assert np.allclose(np.loadtxt(folder / about.tensor_path), codes, rtol=1e-5)

    sprites = []
    for folder, about in ((ours, mine), (theirs, reference)):
        with Image.open(folder / about.sprite.image_path) as picture:
            sprites.append(np.asarray(picture.convert("RGB")).astype(int))
    assert np.abs(sprites[0] - sprites[1]).max() <= 1  # TensorBoard cuts off what it has after the comma


def test_thumbnails_need_not_be_square(tmp_path: Path) -> None:
    """TensorBoard's own writer fails on those that are higher than wide."""
    images = np.arange(5 * 3 * 2, dtype=np.uint8).reshape(5, 1, 3, 2)
    write_embedding(tmp_path, np.zeros((5, 2)), None, images)
    with Image.open(tmp_path / "00000" / "code" / "sprite.png") as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (9, 6)
    for number, image in enumerate(images):
        row, column = divmod(number, 3)
        assert (pixels[row * 3 : row * 3 + 3, column * 2 : column * 2 + 2] == image[0]).all()
