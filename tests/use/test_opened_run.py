"""Opening a run, and images of any number and size as its inputs."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import aerun
from aerun.base.arguments import Parser
from aerun.cli.command import add_run_arguments, run_command
from aerun.errors import ConfigError, DataError
from aerun.use.contact_sheet import Tile, draw_contact_sheet
from aerun.use.image_files import find_images, read_inputs, to_uint8, write_png
from aerun.use.opened_run import ROWS_PER_BLOCK, OpenedRun, open_run

Trained = Callable[..., Path]


@pytest.mark.parametrize("options", [("sparsity=topk", "sparsity.k=8"), ("model=conv",)])
def test_an_images_result_does_not_depend_on_the_others(trained: Trained, options: tuple[str, ...]) -> None:
    run = open_run(trained(*options))
    images = torch.rand(2 * ROWS_PER_BLOCK + 7, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    codes, outputs = run.encode(images), run.reconstruct(images)
    for count in (1, 2, ROWS_PER_BLOCK - 1, ROWS_PER_BLOCK, ROWS_PER_BLOCK + 1):
        assert torch.equal(run.encode(images[:count]), codes[:count])
        assert torch.equal(run.reconstruct(images[:count]), outputs[:count])
        assert torch.equal(run.decode(codes[:count]), outputs[:count])
    torch.testing.assert_close(run.autoencoder.encode(images), codes)
    assert run.encode(images[:0]).shape == (0, *codes.shape[1:])
    bytes_ = (images * 255).round().byte()
    assert torch.equal(run.encode(bytes_), run.encode(bytes_.float() / 255))


def test_properties_of_an_opened_run(trained: Trained) -> None:
    run = open_run(trained())
    assert (run.shape, run.code_size, run.is_image, run.is_gaussian, run.fit) == ((1, 28, 28), 64, True, False, "crop")
    assert run.summary is not None and run.summary["epochs"] == 2
    assert open_run(trained("model=fc_vae")).is_gaussian
    assert re.fullmatch("[0-9a-f]{16}", run.fingerprint)
    assert run.fingerprint == open_run(trained()).fingerprint != open_run(trained("seed=1")).fingerprint


def test_a_model_gives_the_same_results_as_its_run(trained: Trained) -> None:
    run, model = open_run(trained()), aerun.load(trained())
    images = torch.rand(9, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    assert np.array_equal(aerun.embed(model, images).codes, aerun.embed(run, images).codes)
    assert aerun.embed(model, images).weights == run.fingerprint
    assert torch.equal(aerun.denoise(model, images), aerun.denoise(run, images))
    assert torch.equal(aerun.samples(model, 3, images=images), aerun.samples(run, 3, images=images))
    assert torch.equal(
        aerun.interpolate(model, images[:1], images[1:2]), aerun.interpolate(run, images[:1], images[1:2])
    )
    with pytest.raises(DataError, match="the model: has no run folder"):
        aerun.samples(model, 3)


def test_folders_without_a_trained_run_are_rejected(tmp_path: Path, trained: Trained) -> None:
    with pytest.raises(DataError, match="is not a run folder"):
        open_run(tmp_path)
    (tmp_path / "config.yaml").write_text((trained() / "config.yaml").read_text())
    for way in (open_run, aerun.load):
        with pytest.raises(DataError, match=r"has no trained weights yet \(checkpoints"):
            way(tmp_path)


def test_image_files_become_inputs(trained: Trained, drawings: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = open_run(trained())
    chunks = list(read_inputs(run, find_images(drawings)))
    names = [name for part, _ in chunks for name in part]
    assert names == ["0.png", "1.png", "2.png", "3.png", "below/grey.png"]
    images = torch.cat([part for _, part in chunks])
    assert images.shape == (5, 1, 28, 28) and images.dtype == torch.uint8
    gray = Image.open(drawings / "0.png").convert("L")
    assert np.array_equal(images[0, 0].numpy(), np.asarray(gray))
    middle = Image.open(drawings / "1.png").convert("L").crop((0, 6, 28, 34))  # the middle 28 of 40 rows
    assert np.array_equal(images[1, 0].numpy(), np.asarray(middle))
    assert "broken.png: cannot be decoded" in caplog.text
    (only,) = read_inputs(run, find_images(drawings / "0.png"))
    assert only[0] == ["0.png"] and torch.equal(only[1][0], images[0])


def test_paths_without_images_are_rejected(tmp_path: Path, trained: Trained) -> None:
    with pytest.raises(DataError, match=r"nowhere: there is no such file or folder"):
        find_images(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"contains no image file \(.*\.bmp, "):
        find_images(tmp_path)
    (tmp_path / "notes.txt").write_text("text")
    with pytest.raises(DataError, match=r"notes\.txt: is not an image file"):
        find_images(tmp_path / "notes.txt")
    (tmp_path / "bad.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"bad\.png: cannot be decoded"):
        list(read_inputs(open_run(trained()), find_images(tmp_path)))
    vectors = ("dataset=random", "dataset.shape=[6]", "model.code_size=3")
    with pytest.raises(DataError, match="its inputs \\(6\\) and outputs \\(6\\) must be gray or color images"):
        open_run(trained(*vectors)).decoder()


def test_written_images_are_read_back(tmp_path: Path) -> None:
    images = torch.tensor([[-0.2, 0.0, 0.5], [0.25, 1.0, 1.7]]).expand(3, 2, 3)
    write_png(tmp_path / "new" / "a.png", to_uint8(images).transpose(1, 2, 0))
    back = np.asarray(Image.open(tmp_path / "new" / "a.png"))
    assert back.shape == (2, 3, 3) and back[..., 0].tolist() == [[0, 0, 128], [64, 255, 255]]


def test_a_contact_sheet_has_every_tile_in_its_place() -> None:
    colors = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    tiles = [Tile(np.broadcast_to(np.array(c, np.uint8)[:, None, None], (3, 8, 8)), "a caption\nmore") for c in colors]
    sheet = draw_contact_sheet(tiles, columns=2, side=32, title="three")
    assert sheet.shape[2] == 3
    centers = [sheet[21 + 8 + 16 + (i // 2) * (32 + 26 + 8), 8 + 16 + (i % 2) * 40] for i in range(3)]
    assert [tuple(map(int, pixel)) for pixel in centers] == colors


def run_words(
    words: list[str], monkeypatch: pytest.MonkeyPatch, work: Callable[[OpenedRun], int | None] = lambda _: None
) -> int:
    def parser() -> Parser:
        result = Parser("Does nothing.", "  %(prog)s RUN")
        add_run_arguments(result)
        return result

    monkeypatch.setattr(sys, "argv", ["aerun-nothing", *words])
    return run_command(parser, lambda asked: work(open_run(asked.run, asked.device, asked.trust)))


def test_errors_are_one_line_and_exit_codes_are_returned(
    tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_words([str(tmp_path)], monkeypatch) == 1
    assert capsys.readouterr().err == f"aerun: {tmp_path}: is not a run folder (it does not contain config.yaml)\n"
    assert run_words(["--strange"], monkeypatch) == 1
    assert "see --help" in capsys.readouterr().err
    assert run_words([str(trained())], monkeypatch, lambda _: 3) == 3
    with pytest.raises(ConfigError):
        Parser("", "").parse_args(["more"])
