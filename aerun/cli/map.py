"""aerun-map: maps of a run's codes, the decoded plane, active units, feature dictionaries."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from aerun.base.arguments import Parser, count, seed
from aerun.cli.command import add_run_arguments, run_command
from aerun.errors import ConfigError
from aerun.use.outputs import add_overwrite_option, require_absent

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from aerun.use.inputs import Sample
    from aerun.use.opened_run import OpenedRun

METHODS = ("pca", "tsne", "umap")
EXAMPLES = """\
  %(prog)s RUN -o maps                           PCA of the test images' codes, and all else that the run has
  %(prog)s RUN -o maps --method pca,tsne,umap    umap: pip install 'aerun[maps]'
  %(prog)s RUN drawings/ -o maps --thumbnails    of pictures of your own, shown as they are
  %(prog)s RUN fingerprints.npz -o maps          of the pictures that aerun-embed was given
  %(prog)s RUN -o maps --drawn 0 --overwrite     anew, without decoded random points
"""
ABOUT = """\
Maps of a run's codes, with decoded random points drawn in. Beside them: of codes of two values the map as it is, and
the decoded grid; of a Gaussian latent each unit's KL divergence; of sparse codes the units by use, with the images
that excite each most."""
log = logging.getLogger(__name__)


def parser() -> Parser:
    """All options."""
    result = Parser(ABOUT, EXAMPLES)
    add_run_arguments(result)
    add = result.add_argument
    add(
        "pictures",
        metavar="PICTURES",
        nargs="?",
        type=Path,
        help="a folder, or fingerprints (else the run's test images)",
    )
    add("-o", "--output", type=Path, required=True, metavar="FOLDER", help="where the pictures go")
    add_overwrite_option(result)
    add("--method", default="pca", metavar="NAME,…", help=f"of {', '.join(METHODS)}")
    add("--images", type=count, default=2000, help="so many of them, spread evenly (2000)")
    add("--thumbnails", action="store_true", help="the images in place of dots")
    add("--drawn", type=int, default=24, metavar="N", help="decoded random points, as samples are drawn (24)")
    add("--side", type=count, default=20, help="of the decoded grid, in images (20)")
    add("--dictionary", action="store_true", help="the dictionary of codes that are not sparse, too")
    add("--rows", type=count, default=24, help="units in the dictionary (24)")
    add("--top", type=count, default=8, help="images beside each unit (8)")
    add("--seed", type=seed, default=0, help="of t-SNE, UMAP and the random points (0)")
    return result


def main() -> None:
    """The console command."""
    run_command(parser, work)


def work(asked: argparse.Namespace) -> None:
    """All pictures that fit the run."""
    methods = [name.strip() for name in asked.method.split(",") if name.strip()]
    for name in methods:
        if name not in METHODS:
            raise ConfigError(f"--method {name}: allowed are {', '.join(METHODS)}")
    if "umap" in methods:
        need_umap()
    from aerun.use.inputs import sample_collection, sample_test_images
    from aerun.use.opened_run import open_run

    run = open_run(asked.run, asked.device, asked.trust)
    if run.code_size == 2:
        methods = ["codes", *(name for name in methods if name != "pca")]
    others = _others(run, asked)
    require_absent([_file(asked, name) for name in (*map("map_{}".format, methods), *others)], asked.overwrite)
    of_data = asked.pictures is None
    shown = sample_test_images(run, asked.images) if of_data else sample_collection(run, asked.pictures, asked.images)
    drawn = _drawn(run, asked, shown)
    if len(run.autoencoder.code_shape) > 1:
        print(f"aerun: codes of shape {list(run.autoencoder.code_shape)} are mapped as {run.code_size} values")
    for method in methods:
        _write(asked, f"map_{method}", _map(run, asked, shown, method, drawn))
    for name in others:
        _write(asked, name, _other(run, asked, shown, name))


def need_umap() -> None:
    """ConfigError without the package, before any work; it is not imported, which takes seconds."""
    if importlib.util.find_spec("umap") is None:
        raise ConfigError("--method umap needs a package: pip install 'aerun[maps]'")


def _map(run: OpenedRun, asked: argparse.Namespace, shown: Sample, method: str, drawn: Tensor | None) -> np.ndarray:
    from aerun.use.maps.code_maps import latent_map

    return latent_map(
        run,
        shown.images,
        method,  # type: ignore[arg-type]
        labels=shown.labels,
        classes=shown.classes,
        thumbnails=asked.thumbnails,
        drawn=drawn,
        seed=asked.seed,
    )


def _drawn(run: OpenedRun, asked: argparse.Namespace, shown: Sample) -> Tensor | None:
    from aerun.use.generation.sampling import sample_codes

    if asked.drawn <= 0 or not run.is_image:
        return None
    if len(shown.images) < 2 and not run.is_gaussian:
        raise ConfigError("random points need the codes of two images at least, here is one; use --drawn 0")
    return sample_codes(run, asked.drawn, images=shown.images, seed=asked.seed)


def _others(run: OpenedRun, asked: argparse.Namespace) -> list[str]:
    """What only some runs have."""
    is_sparse = getattr(run.autoencoder.sparsity, "constrains_code", True)
    found = {
        "manifold": run.code_size == 2 and run.is_image,
        "units": run.is_gaussian,
        "dictionary": (is_sparse or asked.dictionary) and run.is_image,
    }
    return [name for name, is_there in found.items() if is_there]


def _other(run: OpenedRun, asked: argparse.Namespace, shown: Sample, name: str) -> np.ndarray:
    from aerun.use.maps.code_maps import active_units, dictionary, manifold

    if name == "manifold":
        return manifold(run, shown.images, asked.side)
    return active_units(run, shown.images) if name == "units" else dictionary(run, shown.images, asked.rows, asked.top)


def _file(asked: argparse.Namespace, name: str) -> Path:
    place: Path = asked.output / f"{name}.png"
    return place


def _write(asked: argparse.Namespace, name: str, pixels: np.ndarray) -> None:
    from aerun.use.image_files import write_png

    path = _file(asked, name)
    write_png(path, pixels if pixels.ndim == 3 else pixels[..., None])
    print(f"aerun: wrote {path}", file=sys.stderr)
