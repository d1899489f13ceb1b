"""aerun-generate: samples, interpolations, traversals, sums, and what lies where there are no codes."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aerun.base.arguments import Parser, count, positive, seed
from aerun.cli.command import add_device_options, run_command
from aerun.errors import ConfigError
from aerun.use.outputs import add_overwrite_option, and_more, require_absent

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from aerun.use.opened_run import OpenedRun

EXAMPLES = """\
  %(prog)s samples RUN -o made                      64 new images: made/samples.png
  %(prog)s samples RUN -o made --from mixture       of a VAE by the mixture, to compare it with an autoencoder
  %(prog)s interpolate RUN cat.png dog.png -o made --gif
  %(prog)s interpolate RUN 0 1 -o made              between test images number 0 and 1
  %(prog)s traverse RUN -o made                     one code value at a time, the most used ones
  %(prog)s arithmetic RUN 7 - 3 + 12 -o made        test image 7 minus 3 plus 12, in codes
  %(prog)s compare AE_RUN VAE_RUN -o made           points where no codes are, decoded by both
  %(prog)s samples RUN -n 9 -o made --overwrite     in place of those that are there
  %(prog)s samples --help                           the options of one of them
"""
NAMES = {"samples": "samples", "interpolate": "interpolation", "traverse": "traversal"}  # of the pictures
log = logging.getLogger(__name__)


def parser() -> Parser:
    """All commands and options."""
    result = Parser("New images from a trained run. Images are picture files, or numbers of test images.", EXAMPLES)
    kinds = result.add_subparsers(dest="kind", metavar="WHAT", required=True, parser_class=Parser)

    def kind(name: str, about: str, examples: str) -> Parser:
        part: Parser = kinds.add_parser(name, help=about, description=about, examples=examples)
        if name != "compare":
            part.add_argument("run", metavar="RUN", help="folder of a run that has trained")
        return part

    samples = kind("samples", "images of random codes", "  %(prog)s RUN -n 100 -o made --frames")
    samples.add_argument("-n", "--count", type=count, default=64, help="how many (64)")
    samples.add_argument(
        "--from",
        dest="source",
        choices=("prior", "mixture"),
        help="the prior of a Gaussian latent, where there is one, or Gaussians fitted to training codes",
    )
    samples.add_argument("--components", type=count, help="of the mixture; chosen among a few by BIC unless given")
    between = kind("interpolate", "the way from one image to another", "  %(prog)s RUN 0 1 -o made --gif")
    between.add_argument("first", metavar="A", help="a picture file, or the number of a test image")
    between.add_argument("last", metavar="B")
    between.add_argument("--path", choices=("linear", "spherical", "both"), default="both")
    traverse = kind("traverse", "one code value at a time", "  %(prog)s RUN 3 -o made --rows 5 --gif")
    traverse.add_argument("image", metavar="IMAGE", nargs="?", help="whose other code values stay (else their means)")
    traverse.add_argument("--rows", type=count, default=10, help="how many code values, the most used first (10)")
    traverse.add_argument("--deviations", type=positive, default=3.0, help="how far, on either side of the mean (3)")
    arithmetic = kind("arithmetic", "sums of codes, decoded", "  %(prog)s RUN a.png - b.png + c.png -o made")
    arithmetic.add_argument("terms", metavar="TERM", nargs="+", help="images, with + or - between them")
    compare = kind("compare", "points where no codes are, decoded by each run", "  %(prog)s AE_RUN VAE_RUN -o made")
    compare.add_argument("runs", metavar="RUN", nargs="+", help="folders of runs, an autoencoder and a VAE, say")
    for part in (samples, between, traverse, arithmetic, compare):
        part.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="where the pictures go")
        add_overwrite_option(part)
        part.add_argument("--seed", type=seed, default=0, help="of all that is drawn (0)")
        add_device_options(part)
        if part is not compare:
            part.add_argument("--frames", action="store_true", help="each step as a PNG of its own, too")
            part.add_argument("--gif", action="store_true", help="the steps as an animated GIF, too")
        if part not in (samples, compare):
            part.add_argument("--steps", type=count, default=11, help="images on the way, ends included (11)")
    return result


def main() -> None:
    """The console command."""
    run_command(parser, work)


def work(asked: argparse.Namespace) -> None:
    """What is asked, done and written."""
    if getattr(asked, "steps", 2) < 2:
        raise ConfigError(f"--steps {asked.steps}: must be 2 at least")
    terms = signed(asked.terms) if asked.kind == "arithmetic" else []
    require_absent(list(outputs(asked)), asked.overwrite)

    from aerun.use.opened_run import open_run

    if asked.kind == "compare":
        _compare(asked)
        return
    from aerun.use.generation.new_images import require_images

    run = open_run(asked.run, asked.device, asked.trust)
    require_images(run)
    if asked.kind == "arithmetic":
        _arithmetic(run, asked, terms)
    else:
        {"samples": _samples, "interpolate": _interpolate, "traverse": _traverse}[asked.kind](run, asked)


def outputs(asked: argparse.Namespace) -> Iterator[Path]:
    """All files that will be written."""
    from aerun.use.generation.frames import frame_name

    name = NAMES.get(asked.kind, asked.kind)
    yield asked.output / f"{name}.png"
    if getattr(asked, "gif", False):
        yield asked.output / f"{name}.gif"
    if getattr(asked, "frames", False):
        frames = asked.count if asked.kind == "samples" else asked.steps
        yield from (asked.output / name / frame_name(number, frames) for number in range(frames))


def signed(words: list[str]) -> list[tuple[int, str]]:
    """``A - B + C`` -> (1, A), (-1, B), (1, C). ConfigError for what is no sum."""
    signs = {"+": 1, "-": -1}
    words = words if words[0] in signs else ["+", *words]
    terms = [(signs.get(sign), name) for sign, name in zip(words[::2], words[1::2], strict=False)]
    found = [(sign, name) for sign, name in terms if sign is not None and name not in signs]
    if len(words) % 2 or len(found) < len(terms):
        raise ConfigError(f"{' '.join(words)}: is no sum; write images with + or - between them: A - B + C")
    return found


def _samples(run: OpenedRun, asked: argparse.Namespace) -> None:
    from aerun import figures
    from aerun.use.generation.new_images import samples
    from aerun.use.generation.sampling import COMPONENT_COUNTS

    if asked.components is not None and (asked.source or ("prior" if run.is_gaussian else "mixture")) == "prior":
        raise ConfigError("--components: is of the mixture; use --from mixture")
    images = samples(
        run, asked.count, source=asked.source, components=asked.components or COMPONENT_COUNTS, seed=asked.seed
    )
    grid = figures.image_rows(figures.wrap(images, min(16, max(1, round((2 * len(images)) ** 0.5)))))
    _write(asked, grid, [figures.image_rows([image[None]]) for image in images], returns=False)


def _interpolate(run: OpenedRun, asked: argparse.Namespace) -> None:
    import torch

    from aerun.use.generation.new_images import interpolate
    from aerun.use.inputs import read_image

    ends = read_image(run, asked.first), read_image(run, asked.last)
    kinds = ["linear", "spherical"] if asked.path == "both" else [asked.path]
    ways = torch.stack([interpolate(run, *ends, asked.steps, is_spherical=kind == "spherical")[:, 0] for kind in kinds])
    rows = [(kind, way) for kind, way in zip(kinds, ways, strict=True)]
    shares = [f"{number / (asked.steps - 1):.2g}" for number in range(asked.steps)]
    if run.shape == run.autoencoder.output_shape:  # each above what it became: what is between stays white
        rows.insert(0, ("given", torch.cat([ends[0], ends[0].new_ones(asked.steps - 2, *run.shape), ends[1]])))
    _write(asked, _montage(rows, shares), _steps(ways))


def _traverse(run: OpenedRun, asked: argparse.Namespace) -> None:
    from aerun.use.generation.new_images import DEFAULT_TRAINING_IMAGES, traverse
    from aerun.use.inputs import read_image, sample_test_images

    start = None if asked.image is None else read_image(run, asked.image)
    images = sample_test_images(run, DEFAULT_TRAINING_IMAGES).images
    found = traverse(run, images, start, rows=asked.rows, steps=asked.steps, deviations=asked.deviations)
    by = found.units.deviation if found.units.kl is None else found.units.kl
    what = "deviation {:.3g}" if found.units.kl is None else "KL {:.2f} nats"
    labels = [f"unit {number}\n" + what.format(float(by[number])) for number in found.numbers]
    far = [asked.deviations * (2 * number / (asked.steps - 1) - 1) for number in range(asked.steps)]
    heads = [f"{value:+.2g}" if abs(value) > 1e-9 else "mean" for value in far]
    _write(asked, _montage(list(zip(labels, found.images, strict=True)), heads), _steps(found.images))


def _arithmetic(run: OpenedRun, asked: argparse.Namespace, terms: list[tuple[int, str]]) -> None:
    import torch

    from aerun.use.generation.new_images import arithmetic
    from aerun.use.inputs import read_image

    images = [(sign, read_image(run, name)) for sign, name in terms]
    way = arithmetic(run, images, asked.steps)
    text = " ".join(("+ " if sign > 0 else "- ") + Path(name).name for sign, name in terms).removeprefix("+ ")
    codes = run.reconstruct(torch.cat([image for _, image in images]))
    rows = [(f"{text}\nas the run sees them", codes), ("from the first to the sum", way)]
    _write(asked, _montage(rows), _steps(way[None]))


def _compare(asked: argparse.Namespace) -> None:
    from aerun.use.generation.new_images import require_images
    from aerun.use.image_files import write_png
    from aerun.use.inputs import sample_test_images
    from aerun.use.maps.code_maps import empty_regions
    from aerun.use.opened_run import open_run

    runs = [open_run(folder, asked.device, asked.trust) for folder in asked.runs]
    for run in runs:
        require_images(run)
    others = [run.folder for run in runs if run.data.checksum != runs[0].data.checksum]
    if others:
        log.warning("%s: was trained on other data than %s%s", others[0], runs[0].folder, and_more(others))
    pixels, found = empty_regions(runs, [sample_test_images(run, 2000) for run in runs], asked.seed)
    for run, empty in zip(runs, found, strict=True):
        where = ", ".join(f"{value:.3g}" for value in empty.empty[0])
        times = empty.distances[0] / empty.usual
        print(
            f"{run.folder}: emptiest at ({where}), {times:.0f} times as far from the nearest code as codes usually are"
        )
    write_png(asked.output / "compare.png", pixels)
    print(f"aerun: wrote {asked.output / 'compare.png'}", file=sys.stderr)


def _montage(rows: list[tuple[str, Tensor]], heads: Sequence[str] = ()) -> np.ndarray:
    from aerun.figures import as_bytes
    from aerun.figures.montage import montage

    return montage([(label, as_bytes(images).numpy()) for label, images in rows], largest=256, heads=heads)


def _steps(ways: Tensor) -> list[np.ndarray]:
    """ways[R,S,C,H,W] -> a frame for each step: the images of all rows at that step, in a near square."""
    from aerun import figures

    columns = max(1, round(len(ways) ** 0.5 + 0.49))
    return [figures.image_rows(figures.wrap(ways[:, step], columns)) for step in range(ways.shape[1])]


def _write(asked: argparse.Namespace, grid: np.ndarray, frames: list[np.ndarray], returns: bool = True) -> None:
    from aerun.use.generation.frames import frame_name, there_and_back, write_frames, write_gif
    from aerun.use.image_files import write_png

    name = NAMES.get(asked.kind, asked.kind)
    made = [asked.output / f"{name}.png"]
    write_png(made[0], grid if grid.ndim == 3 else grid[..., None])
    if asked.frames:
        made.append(asked.output / name)
        write_frames(made[-1], frames)
        ours = {frame_name(number, len(frames)) for number in range(len(frames))}
        others = sorted({path.name for path in made[-1].iterdir()} - ours)
        if others:
            log.warning("%s: was there before, and is not of these frames%s", made[-1] / others[0], and_more(others))
    if asked.gif:
        made.append(asked.output / f"{name}.gif")
        write_gif(made[-1], there_and_back(frames) if returns else frames)
    for path in made:
        print(f"aerun: wrote {path}", file=sys.stderr)
