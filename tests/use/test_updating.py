"""Fingerprints brought up to date equal those made from nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import aerun
from aerun.cli import embed
from aerun.errors import ConfigError, DataError
from aerun.use.collection import updating
from aerun.use.collection.fingerprint_files import load_fingerprints
from aerun.use.denoising.scan_files import read_scan
from aerun.use.opened_run import open_run

Trained = Callable[..., Path]
SMALL = ("model.code_size=8", "trainer.epochs=1", "dataset.train_limit=64", "trainer.figures=none")
QUANTIZED = (*SMALL, "latent=lfq", "latent.dimension=4")


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 24, 3)).astype(np.uint8)).save(path)


def call(*words: object) -> None:
    arguments = embed.build_parser().parse_args([str(word) for word in words])
    embed.execute(arguments)


@pytest.fixture
def art(tmp_path: Path) -> Path:
    for number in range(6):
        draw(tmp_path / "art" / ("even" if number % 2 == 0 else "odd") / f"{number}.png", number)
    return tmp_path / "art"


@pytest.mark.parametrize(
    ("settings", "words"),
    [((), ()), ((), ("--as", "float16")), ((), ("--views", "3")), (QUANTIZED, ()), (QUANTIZED, ("--views", "3"))],
)
def test_an_update_equals_a_new_file(
    trained: Trained,
    art: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    settings: tuple[str, ...],
    words: tuple[str, ...],
) -> None:
    run, file = trained(*settings), tmp_path / "art.npz"
    call(run, art, "-o", file, *words)
    shutil.move(art / "even" / "2.png", art / "odd" / "moved.png")
    (art / "odd" / "1.png").unlink()
    draw(art / "even" / "4.png", 40)  # changed
    os.utime(art / "even" / "4.png", (1, 1))
    draw(art / "new" / "7.png", 7)
    (art / "new" / "broken.png").write_text("no picture")
    draw(tmp_path / "outside.png", 8)
    (art / "new" / "link.png").symlink_to(tmp_path / "outside.png")
    encoded = list[str]()
    real = updating.embed_files

    def spy(run: object, root: Path, images: list[tuple[str, Path]], *others: object) -> object:
        encoded.extend(name for name, _ in images)
        return real(run, root, images, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(updating, "embed_files", spy)
    call(run, "-o", file, "--update")
    assert "3 kept, 1 added, 1 changed, 1 moved, 1 removed" in capsys.readouterr().out
    assert encoded == ["even/4.png", "new/7.png", "new/broken.png", "new/link.png"]
    call(run, art, "-o", tmp_path / "again.npz", *words)
    found, wanted = load_fingerprints(file), load_fingerprints(tmp_path / "again.npz")
    assert found.names == wanted.names and found.form == wanted.form and found.classes == ["even", "new", "odd"]
    np.testing.assert_allclose(found.codes, wanted.codes, atol=1e-5)
    assert found.labels is not None and np.array_equal(found.labels, wanted.labels)
    assert (found.quantized is None) == (wanted.quantized is None)
    if found.quantized is not None and wanted.quantized is not None:
        assert np.array_equal(found.quantized.indices, wanted.quantized.indices)
    assert found.looks is not None and wanted.looks is not None
    for name, values in wanted.looks.arrays().items():
        assert np.array_equal(found.looks.arrays()[name], values), name
    encoded.clear()
    call(run, "-o", file, "--update")
    assert "6 kept, 0 added, 0 changed, 0 moved, 0 removed" in capsys.readouterr().out
    assert encoded == ["new/broken.png", "new/link.png"]


def test_copies_that_cannot_be_told_from_each_other_are_encoded(trained: Trained, art: Path, tmp_path: Path) -> None:
    """Two pictures with the same bytes and times take each other's names."""
    run, file = trained(), tmp_path / "art.npz"
    for number in (0, 2):
        draw(art / "even" / f"{number}.bmp", number)
        os.utime(art / "even" / f"{number}.bmp", (5, 5))
    call(run, art, "-o", file)
    for number in (0, 2):
        (art / "even" / f"{number}.bmp").rename(art / "odd" / f"{2 - number}.bmp")
    made, changes = updating.update(aerun_run(run), load_fingerprints(file))
    assert changes == (6, 2, 0, 0, 2)
    np.testing.assert_allclose(made.codes, aerun.embed(run, art).codes, atol=1e-5)


def aerun_run(folder: Path) -> updating.OpenedRun:  # type: ignore[name-defined]
    from aerun.use.opened_run import open_run

    return open_run(folder)


def test_a_moved_folder_and_an_older_file(trained: Trained, art: Path, tmp_path: Path) -> None:
    import dataclasses

    run = aerun_run(trained())
    made = aerun.embed(run, art)
    shutil.move(art, tmp_path / "elsewhere")
    found, changes = updating.update(run, made, tmp_path / "elsewhere")
    assert changes == (6, 0, 0, 0, 0) and found.root == str((tmp_path / "elsewhere").resolve())
    assert made.looks is not None
    older = dataclasses.replace(found, looks=dataclasses.replace(made.looks, files=None))
    found, changes = updating.update(run, older)
    assert changes == (0, 0, 6, 0, 0) and found.looks is not None and found.looks.files is not None
    assert found.looks.files[0, 2:].tolist() == [24, 20]


def test_what_cannot_be_updated(trained: Trained, art: Path, tmp_path: Path) -> None:
    run = trained()
    with pytest.raises(DataError, match=r"are no files of a folder, so there is nothing to update"):
        updating.update(aerun_run(run), aerun.embed(run, np.zeros((2, *aerun_run(run).shape), np.uint8)))
    file = tmp_path / "art.npz"
    call(run, art, "-o", file, "--update")  # made, as it is not there yet
    for words in (("--views", 2), ("--split", "test")):
        with pytest.raises(ConfigError, match="--update: the file says what to encode"):
            call(run, "-o", file, "--update", *words)
    with pytest.raises(DataError, match="there is no such file"):
        call(run, "-o", tmp_path / "none.npz", "--update")


def test_a_file_that_replaces_one_of_an_archive_is_not_taken_for_it(
    art: Path, trained: Trained, tmp_path: Path
) -> None:
    run, file = trained(), tmp_path / "art.npz"
    for number, path in enumerate(sorted(art.rglob("*.png"))):
        draw(path.with_suffix(".bmp"), number)
        path.unlink()
        os.utime(path.with_suffix(".bmp"), (10**9, 10**9))
    call(run, art, "-o", file)
    old = load_fingerprints(file)
    (art / "odd" / "1.bmp").unlink()
    draw(art / "odd" / "new.bmp", 99)
    os.utime(art / "odd" / "new.bmp", (10**9, 10**9))
    made, changes = updating.update(open_run(run), old)
    assert (changes.added, changes.moved, changes.removed) == (1, 0, 1)
    fresh = aerun.embed(run, art)
    assert made.names == fresh.names
    np.testing.assert_allclose(made.codes, fresh.codes, atol=1e-6)


def test_an_update_needs_the_folder_and_survives_a_link_to_nothing(art: Path, trained: Trained, tmp_path: Path) -> None:
    run, file = trained(), tmp_path / "art.npz"
    call(run, art, "-o", file)
    with pytest.raises(DataError, match="is no folder; --update needs the folder of all pictures"):
        call(run, art / "odd" / "1.png", "-o", file, "--update")
    (art / "odd" / "nothing.png").symlink_to(tmp_path / "gone.png")
    call(run, "-o", file, "--update")
    assert len(load_fingerprints(file)) == 6


def test_the_size_of_a_picture_is_as_it_is_shown(tmp_path: Path) -> None:
    from aerun.use.image_files import describe_file

    for suffix in ("jpg", "png", "tif"):
        exif = Image.Exif()
        exif[0x0112] = 6  # a quarter turn
        path = tmp_path / f"turned.{suffix}"
        Image.new("RGB", (40, 20)).save(path, exif=exif)
        assert describe_file(path)[2:] == read_scan(path).values.shape[:0:-1] == (20, 40)
