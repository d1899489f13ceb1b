"""What benchmarks/samples.py draws: sheets of samples next to real images that no model was trained on."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

import aerun
from aerun.cli.generate import build_parser, execute
from aerun.metrics.component_samples import component_samples
from aerun.use.generation.drawings import draw_grid, draw_rows
from aerun.use.image_files import write_png
from aerun.use.inputs import sample_evenly, sample_training_images
from aerun.use.opened_run import open_run

COUNT, COLUMNS = 64, 16
COLORS = 96  # of a picture of the page, which is to be small
TRAINING_IMAGES = 5000  # that the Gaussian is fitted to
ENDS = "0", "3"  # test images
VQ_ROW = "VQ, prior over its indices"
Runs = dict[str, tuple[Path, str]]  # row -> the run, and the source of its codes
OVERVIEW = (
    *("real images, held out", "Gaussian on components", "VAE, prior", "VAE, mixture", "RAE-L2, mixture"),
    *("VQ, independent indices", VQ_ROW),
)


def samples_of(runs: Runs, code_size: int) -> dict[str, Tensor]:
    """64 images [N,C,H,W] of each row, of held-out images, and of the Gaussian on principal components."""
    run = open_run(next(iter(runs.values()))[0])
    assert run.data.validation is not None
    known = sample_training_images(run, TRAINING_IMAGES).images
    found = {
        "real images, held out": sample_evenly(run, run.data.validation, COUNT).images,
        "Gaussian on components": component_samples(known, COUNT, code_size, 0),
    }
    for row, (folder, source) in runs.items():
        found[row] = aerun.samples(folder, COUNT, source=source)  # type: ignore[arg-type]
    return found


def write_sheets(folder: Path, name: str, found: dict[str, Tensor]) -> None:
    """NAME_ROW.png of each row, 64 samples each."""
    for row, images in found.items():
        ending = row.replace(",", "").replace(" ", "_")
        write_png(folder / f"{name}_{ending}.png", _with_channels(draw_grid(images)))


def write_pictures(folder: Path, name: str, runs: Runs, found: dict[str, Tensor]) -> None:
    """samples_NAME.png, 16 samples of the rows that the page speaks of, samples_NAME_vq.png, 64 of the VQ, and
    interpolation_NAME.png, a walk of the VQ between two test images."""
    overview = draw_rows([(row, found[row][:COLUMNS]) for row in OVERVIEW])
    for ending, pixels in (("", overview), ("_vq", draw_grid(found[VQ_ROW]))):
        Image.fromarray(pixels).quantize(COLORS).save(folder / f"samples_{name}{ending}.png", optimize=True)
    with tempfile.TemporaryDirectory() as made:
        words = ["interpolate", str(runs[VQ_ROW][0]), *ENDS, "--neighbors", "-o", made]
        execute(build_parser().parse_args(words))
        shutil.copyfile(Path(made) / "interpolation.png", folder / f"interpolation_{name}.png")


def _with_channels(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.ndim == 3 else pixels[..., None]
