"""``aerun-map RUN``: maps of a run's codes, decoded grids, active units, feature dictionaries."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from aerun.base.arguments import Parser, count, pixels, seed
from aerun.base.files import write_bytes
from aerun.cli.command import add_folder_option, add_overwrite_option, add_run_arguments, run_command
from aerun.errors import ConfigError
from aerun.use.outputs import require_absent

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from aerun.use.generation.sampling import Source
    from aerun.use.inputs import Sample
    from aerun.use.opened_run import OpenedRun

METHODS = ("pca", "tsne", "umap")
EXAMPLES = """\
  %(prog)s RUN -o maps                           PCA of the test images' codes, and every other figure that applies
  %(prog)s RUN -o maps --method pca,tsne,umap    umap needs: pip install 'aerun[maps]'
  %(prog)s RUN drawings/ -o maps --thumbnails    your own images, drawn at their codes
  %(prog)s RUN drawings/ -o maps --size 4000x3000 --zoom
  %(prog)s RUN fingerprints.npz -o maps          the images of a file of aerun-embed
  %(prog)s RUN -o maps --drawn 0 --overwrite     replace existing files, without decoded random points
"""
ABOUT = """\
Maps of a run's codes, with decoded random points. If codes have two values: also the codes themselves and a grid of
decoded codes. If the latent is Gaussian: also the KL divergence of each unit. If codes are sparse: also the units by
use, with the images that excite each most."""


def build_parser() -> Parser:
    """All options."""
    parser = Parser(ABOUT, EXAMPLES)
    add_run_arguments(parser)
    add = parser.add_argument
    add("source", metavar="IMAGES", nargs="?", type=Path, help="a folder, or fingerprints (default: test images)")
    add("-o", "--output", type=Path, required=True, metavar="FOLDER", help="folder for the figures")
    add_overwrite_option(parser)
    add_folder_option(parser)
    add("--method", default="pca", metavar="NAME,…", help=f"one or more of {', '.join(METHODS)} (pca)")
    add("--images", type=count, metavar="N", help="number of images, evenly spaced (2000; with --size as many as fit)")
    add("--thumbnails", action="store_true", help="draw images instead of dots")
    add("--size", type=pixels, metavar="WxH", help="pixels of the map, or N for NxN; as many thumbnails as fit")
    add("--zoom", action="store_true", help="also a page that moves and zooms, with a thumbnail of each of the images")
    add("--drawn", type=int, default=24, metavar="N", help="number of decoded random points (24)")
    add("--side", type=count, default=20, help="rows and columns of the decoded grid (20)")
    add("--dictionary", action="store_true", help="draw the dictionary even if codes are not sparse")
    add("--rows", type=count, default=24, help="number of units in the dictionary (24)")
    add("--top", type=count, default=8, help="number of images for each unit (8)")
    add("--seed", type=seed, default=0, help="seed of t-SNE, UMAP and the random points (0)")
    return parser


def main() -> int:
    """The console command."""
    return run_command(build_parser, execute)


def execute(arguments: argparse.Namespace) -> None:
    """Draw every figure that applies to the run."""
    methods = [name.strip() for name in arguments.method.split(",") if name.strip()]
    for name in methods:
        if name not in METHODS:
            raise ConfigError(f"--method {name}: must be one or more of {', '.join(METHODS)}")
    if "umap" in methods:
        require_umap()
    from aerun.use.inputs import sample_collection, sample_test_images
    from aerun.use.maps.zoom_page import MAX_PICTURES
    from aerun.use.opened_run import open_run

    run = open_run(arguments.run, arguments.device, arguments.trust)
    if run.code_size == 2:
        methods = ["codes", *(name for name in methods if name != "pca")]
    if arguments.zoom and _count(arguments) > MAX_PICTURES:
        raise ConfigError(f"--images {arguments.images} --zoom: at most {MAX_PICTURES:,} images fit on a page")
    others = _other_figures(run, arguments)
    files = [_file(arguments, name) for name in (*map("map_{}".format, methods), *others)]
    pages = [_file(arguments, f"map_{method}", "html") for method in methods if arguments.zoom]
    require_absent([*files, *pages], arguments.overwrite)
    if arguments.size or arguments.zoom:
        run.require_images()
    if arguments.source is None:
        sample = sample_test_images(run, _count(arguments))
    else:
        sample = sample_collection(run, arguments.source, _count(arguments), arguments.folder)
    random_codes = _random_codes(run, arguments, sample)
    if len(run.autoencoder.code_shape) > 1:
        print(f"aerun: codes of shape {list(run.autoencoder.code_shape)} are mapped as {run.code_size} values")
    for method in methods:
        _draw_map(run, arguments, sample, method, random_codes)
    for name in others:
        _write(arguments, name, _draw_other(run, arguments, sample, name))


def require_umap() -> None:
    """ConfigError if umap-learn is not installed. It is not imported here, which would take seconds."""
    if importlib.util.find_spec("umap") is None:
        raise ConfigError("--method umap: needs umap-learn: pip install 'aerun[maps]'")


def _draw_map(
    run: OpenedRun, arguments: argparse.Namespace, sample: Sample, method: str, random_codes: Tensor | None
) -> None:
    from aerun.use.maps.code_maps import draw_map, place_images, zoom_page

    placed = place_images(run, sample.images, method, random_codes, arguments.seed)  # type: ignore[arg-type]
    thumbnails = arguments.thumbnails or arguments.size is not None
    pixels = draw_map(run, placed, sample.labels, sample.classes, thumbnails=thumbnails, size=arguments.size)
    _write(arguments, f"map_{method}", pixels)
    if arguments.zoom:
        path = _file(arguments, f"map_{method}", "html")
        write_bytes(path, zoom_page(placed, sample.labels, sample.classes).encode())
        print(f"aerun: wrote {path}", file=sys.stderr)


def _count(arguments: argparse.Namespace) -> int:
    """How many images are mapped: for a picture of a given size, at least as many as have room on it."""
    from aerun.use.inputs import DEFAULT_IMAGES
    from aerun.use.maps.code_maps import most_thumbnails
    from aerun.use.maps.zoom_page import MAX_PICTURES

    if arguments.images is not None:
        return int(arguments.images)
    count = max(DEFAULT_IMAGES, most_thumbnails(arguments.size) if arguments.size else 0)
    return min(count, MAX_PICTURES) if arguments.zoom else count


def _random_codes(run: OpenedRun, arguments: argparse.Namespace, sample: Sample) -> Tensor | None:
    from aerun.use.collection.quantized_codes import is_quantized
    from aerun.use.generation.sampling import sample_codes

    if arguments.drawn <= 0 or not run.is_image:
        return None
    if len(sample.images) < 2 and not run.is_gaussian:
        raise ConfigError(f"--drawn {arguments.drawn}: needs the codes of at least two images; use --drawn 0")
    source: Source | None = "frequencies" if is_quantized(run) else None  # a prior would take minutes to fit
    return sample_codes(run, arguments.drawn, source=source, images=sample.images, seed=arguments.seed)


def _other_figures(run: OpenedRun, arguments: argparse.Namespace) -> list[str]:
    """Names of the figures that only some runs have."""
    applies = {
        "manifold": run.code_size == 2 and run.is_image,
        "units": run.is_gaussian,
        "dictionary": (run.autoencoder.sparsity.constrains_code or arguments.dictionary) and run.is_image,
    }
    return [name for name, does_apply in applies.items() if does_apply]


def _draw_other(run: OpenedRun, arguments: argparse.Namespace, sample: Sample, name: str) -> np.ndarray:
    from aerun.use.maps.code_maps import active_units, dictionary, manifold

    if name == "manifold":
        return manifold(run, sample.images, arguments.side)
    if name == "units":
        return active_units(run, sample.images)
    return dictionary(run, sample.images, arguments.rows, arguments.top)


def _file(arguments: argparse.Namespace, name: str, ending: str = "png") -> Path:
    path: Path = arguments.output / f"{name}.{ending}"
    return path


def _write(arguments: argparse.Namespace, name: str, pixels: np.ndarray) -> None:
    from aerun.use.image_files import write_png

    path = _file(arguments, name)
    write_png(path, pixels if pixels.ndim == 3 else pixels[..., None])
    print(f"aerun: wrote {path}", file=sys.stderr)
