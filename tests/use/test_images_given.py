"""Every function of Python that takes images takes them in every form with one result, or refuses them in a line."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import aerun
from aerun.errors import AerunError, DataError
from aerun.python.data_source import data_source
from aerun.use.collection.embedding import embed_split
from aerun.use.collection.fingerprint_files import save_fingerprints
from aerun.use.inputs import Sample

Trained = Callable[..., Path]
SIZE = 8
# uint8 [N,H,W,C], as cameras and Pillow give them
PIXELS = np.random.default_rng(0).integers(0, 256, (30, SIZE, SIZE, 3), np.uint8)
PIXELS[:, 0, 0] = [0, 255, 255]  # every image has black and white
FLOATS = np.ascontiguousarray(PIXELS.transpose(0, 3, 1, 2)).astype(np.float32) / 255
FLAT = ("model.hidden=[16]", "model.code_size=2")
VAE = ("model=fc_vae", "model.hidden=[16]", "model.code_size=2")


def read_only(array: np.ndarray) -> np.ndarray:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


FORMS: dict[str, Any] = {
    "array": FLOATS,
    "doubles": FLOATS.astype(np.float64),
    "other bytes": FLOATS.astype(">f4"),
    "flipped": FLOATS[:, :, ::-1].copy()[:, :, ::-1],
    "read-only": read_only(FLOATS),
    "Fortran": np.asfortranarray(FLOATS),
    "every second": np.repeat(FLOATS, 2, 0)[::2],
    "uint8": np.ascontiguousarray(PIXELS.transpose(0, 3, 1, 2)),
    "channels last": PIXELS,
    "read-only bytes": read_only(PIXELS),
    "flipped bytes": PIXELS[::-1].copy()[::-1],
    "tensor of bytes": torch.from_numpy(PIXELS).permute(0, 3, 1, 2),
    "with gradient": torch.from_numpy(FLOATS.copy()).requires_grad_(),
    "pictures": [Image.fromarray(pixels) for pixels in PIXELS],
}
REFUSED: dict[str, Any] = {
    "int64": np.ascontiguousarray(PIXELS.transpose(0, 3, 1, 2)).astype(np.int64),
    "uint16": np.ascontiguousarray(PIXELS.transpose(0, 3, 1, 2)).astype(np.uint16) * 257,
    "booleans": FLOATS > 0.5,
    "tensor of int32": torch.from_numpy(FLOATS * 255).int(),
    "text": np.array([["a", "b"]]),
}


def plain(result: Any) -> Any:
    """A result as an array, or as text."""
    return np.asarray(result.detach() if isinstance(result, torch.Tensor) else result)


def handed(images: Any) -> np.ndarray:
    """What ``aerun.train(data=images)`` trains on."""
    source = data_source(images).handed
    assert source is not None
    found = source.arrays["images"]
    return found / np.float32(255) if found.dtype == np.uint8 else found


def of_one(images: Any, row: int) -> Any:
    return images[row : row + 1]


# How each function is called on images with a run; results are arrays or text.
TAKES: dict[str, Callable[[Path, Any], Any]] = {
    "active_units": aerun.active_units,
    "arithmetic": lambda run, x: aerun.arithmetic(run, [(1, of_one(x, 0)), (-1, of_one(x, 1)), (1, of_one(x, 2))]),
    "clean": lambda run, x: channels_first(aerun.clean(run, x, all_changes=True)),
    "denoise": lambda run, x: channels_first(aerun.denoise(run, x)),
    "diagnose_model": lambda run, x: str(aerun.diagnose_model(aerun.load(run), x, x).as_json()),
    "dictionary": lambda run, x: aerun.dictionary(run, x, rows=2, top=2),
    "embed": lambda run, x: aerun.embed(run, x).codes,
    "empty_regions": lambda run, x: aerun.empty_regions([run], [Sample(x, labels=np.arange(30) % 3)])[0],  # type: ignore[arg-type]
    "find_anomalies": lambda run, x: aerun.find_anomalies(run, x, false_alarms=0.2).values,
    "interpolate": lambda run, x: aerun.interpolate(run, x, list(x)[::-1] if isinstance(x, list) else backwards(x)),
    "latent_map": lambda run, x: aerun.latent_map(run, x, labels=np.arange(30) % 3, thumbnails=True),
    "manifold": lambda run, x: aerun.manifold(run, x, 3),
    "samples": lambda run, x: aerun.samples(run, 3, source="mixture", images=x, components=1),
    "search_cropped": lambda run, x: aerun.search_cropped(run, embed_split(aerun_opened(run)), x, 2).distances,
    "traverse": lambda run, x: aerun.traverse(run, x, of_one(x, 1), rows=1, steps=3).images,
    "train": lambda run, x: handed(x),
    "walk_through_neighbors": lambda run, x: (
        aerun.walk_through_neighbors(run, of_one(x, 0), of_one(x, 1), x, steps=4).reconstructions
    ),
}
COLLECTIONS = {"search", "organise", "search_cropped", "search_pictures"}
NEITHER = {"compare_runs", "compress", "decompress", "diagnose", "export", "load", "run_sweep"}


def aerun_opened(run: Path) -> Any:
    from aerun.use.opened_run import open_run

    return open_run(run)


def backwards(images: Any) -> Any:
    return images.flip(0) if isinstance(images, torch.Tensor) else images[::-1]


def channels_first(cleaned: Any) -> Any:
    """[N,C,H,W] of what may have the channels last."""
    return np.moveaxis(cleaned, -1, -3) if isinstance(cleaned, np.ndarray) and cleaned.shape[-1] == 3 else cleaned


@pytest.fixture(scope="module")
def runs(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run for each function, on color images of 8 x 8 pixels."""
    file = tmp_path_factory.mktemp("given") / "images.npy"
    np.save(file, np.ascontiguousarray(np.tile(PIXELS, (4, 1, 1, 1)).transpose(0, 3, 1, 2)))
    words = ("dataset=array", f"dataset.root={file}", "dataset.validation=10", "dataset.train_limit=null")
    flat, vae = trained(*words, *FLAT), trained(*words, *VAE)
    return {name: vae if name == "active_units" else flat for name in TAKES}


def test_each_function_is_here() -> None:
    """A new function of ``aerun.__all__`` is one of the lists; what takes images is known by its annotations."""
    functions = {name: inspect.signature(getattr(aerun, name)) for name in aerun.FUNCTIONS}
    assert set(functions) == set(TAKES) | COLLECTIONS | NEITHER

    def named(word: str) -> set[str]:
        return {
            name
            for name, signature in functions.items()
            if any(word in str(parameter.annotation) for parameter in signature.parameters.values())
        }

    # Sequence[Sample] and Given are images, too; a sweep takes its data as train does.
    assert named("Images") | named("Sample]") | named("Given") == set(TAKES) | {"run_sweep"}
    assert named("Collection") == COLLECTIONS
    assert not [name for name in functions if "images: Tensor" in str(functions[name])]


@pytest.mark.parametrize("name", sorted(TAKES))
@pytest.mark.filterwarnings("error")
def test_images_in_every_form_give_one_result(name: str, runs: dict[str, Path]) -> None:
    wanted = plain(TAKES[name](runs[name], torch.from_numpy(FLOATS)))
    for form, images in FORMS.items():
        given = images.copy() if isinstance(images, np.ndarray) else None
        assert np.array_equal(plain(TAKES[name](runs[name], images)), wanted), form
        assert given is None or np.array_equal(images, given), f"{form} was written to"


@pytest.mark.parametrize("name", sorted(TAKES))
def test_numbers_of_unknown_units_are_refused_in_a_line(name: str, runs: dict[str, Path]) -> None:
    for form, images in REFUSED.items():
        with pytest.raises((AerunError, ValueError), match=r"uint8|\[0,1\]|numbers|shape") as raised:
            TAKES[name](runs[name], images)
        assert "\n" not in str(raised.value), form


@pytest.mark.parametrize("name", sorted(set(TAKES) - {"train"}))
def test_floats_beyond_the_unit_range_are_named(
    name: str, runs: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """The results are those of the numbers as given: they may be noisy. ``aerun.train`` refuses them."""
    TAKES[name](runs[name], FLOATS)
    assert "in [0,1]" not in caplog.text
    TAKES[name](runs[name], FLOATS * 255)
    said = [record for record in caplog.records if "to 255, but floating-point images are in [0,1]" in record.message]
    assert said and said[0].levelno == logging.WARNING


@pytest.mark.parametrize("name", sorted(set(TAKES) - {"train", "denoise"}))
def test_images_of_another_layout_are_refused_with_a_remedy(name: str, runs: dict[str, Path]) -> None:
    last = FLOATS.transpose(0, 2, 3, 1)
    for images in (last, torch.from_numpy(last)):
        with pytest.raises((AerunError, ValueError), match="put the channels first"):
            TAKES[name](runs[name], images)


@pytest.mark.parametrize("channels", [1, 3])
def test_layouts_for_denoising(channels: int, trained: Trained, runs: dict[str, Path]) -> None:
    run = runs["denoise"] if channels == 3 else trained()
    large = np.random.default_rng(1).integers(0, 256, (40, 36, 3), np.uint8)
    first = np.ascontiguousarray(large.transpose(2, 0, 1))
    wanted = aerun.denoise(run, first)
    for last in (large, Image.fromarray(large)):
        assert np.array_equal(aerun.denoise(run, last), wanted.transpose(1, 2, 0))
    for several in (np.stack([large] * 2), [Image.fromarray(large)] * 2):
        assert np.array_equal(aerun.denoise(run, several), np.stack([wanted.transpose(1, 2, 0)] * 2))
    assert np.array_equal(aerun.denoise(run, first.astype(np.float32) / 255), wanted)
    gray = aerun.denoise(run, first[0])
    assert gray.shape == (40, 36) and np.array_equal(aerun.denoise(run, Image.fromarray(first[0])), gray)
    for unclear in (large.astype(np.float32) / 255, torch.from_numpy(large)):
        with pytest.raises(
            DataError, match=r"look like \[H,W,C\]; put the channels first, images\.transpose\(2, 0, 1\)"
        ):
            aerun.denoise(run, unclear)
    with pytest.raises(DataError, match=r"may be \[C,H,W\] or \[H,W,C\]; pass a tensor"):
        aerun.denoise(run, large[:3])
    with pytest.raises(DataError, match="different sizes, 20 x 8 and 36 x 40 pixels"):
        aerun.denoise(run, [Image.fromarray(large), Image.new("L", (20, 8))])


def test_a_run_in_other_units_takes_them(trained: Trained, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Images of floats that the run was trained on are not named again by what uses the run."""
    np.save(tmp_path / "images.npy", np.tile(FLOATS, (4, 1, 1, 1)) * 7 - 3)
    run = trained(
        "dataset=array",
        f"dataset.root={tmp_path / 'images.npy'}",
        "dataset.validation=10",
        "dataset.train_limit=null",
        *FLAT,
    )
    assert "images from -3 to 4, not in [0,1]" in caplog.text
    caplog.clear()
    aerun.load(run).encode(FLOATS * 7 - 3)
    assert not caplog.text


def test_images_are_counted(runs: dict[str, Path]) -> None:
    run = runs["embed"]
    with pytest.raises(DataError, match="first and last: 2 and 3 images"):
        aerun.interpolate(run, FLOATS[:2], FLOATS[:3])
    with pytest.raises(DataError, match="start: 2 images where one is expected"):
        aerun.traverse(run, FLOATS, FLOATS[:2])
    with pytest.raises(DataError, match="terms: 3 images where one is expected"):
        aerun.arithmetic(run, [(1, FLOATS[:3])])
    with pytest.raises(DataError, match=r"labels of shape \[4\]: must be \[30\]"):
        aerun.latent_map(run, FLOATS, labels=np.arange(4))


def test_collections_are_fingerprints_their_file_or_codes(runs: dict[str, Path], tmp_path: Path) -> None:
    run, file = runs["embed"], tmp_path / "codes.npz"
    found = aerun.embed(run, FLOATS)
    save_fingerprints(found, file, found.pack())
    codes = torch.from_numpy(found.codes)
    wanted = aerun.search(found, found.codes[:2], 3), aerun.organise(found, 2)
    for collection in (str(file), file, found.codes, read_only(found.codes), codes, found.codes[::-1].copy()[::-1]):
        assert np.array_equal(aerun.search(collection, codes[:2], 3).rows, wanted[0].rows)
        assert np.array_equal(aerun.organise(collection, 2).assigned, wanted[1].assigned)
    split = embed_split(aerun_opened(run))
    save_fingerprints(split, tmp_path / "split.npz", split.pack())
    ranked = [aerun.search_cropped(run, given, FLOATS[:2], 3) for given in (split, tmp_path / "split.npz")]
    assert np.array_equal(ranked[0].rows, ranked[1].rows)
    for call in (lambda given: aerun.search(given, given, 1), lambda given: aerun.organise(given, 2)):
        with pytest.raises(DataError, match=r"must be codes \[N,D\], .*; flatten each of them"):
            call(np.zeros((4, 2, 3, 3)))
        with pytest.raises(DataError, match="not finite; the first is 3"):
            call(np.where(np.arange(5)[:, None] == 3, np.nan, np.zeros((5, 2))))
