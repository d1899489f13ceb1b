"""``aerun-generate WHAT RUN``: samples, interpolations, traversals, sums of codes, and decoded empty regions."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from aerun.base.arguments import Parser, count, label, positive, seed
from aerun.cli.command import add_device_options, add_overwrite_option, run_command
from aerun.errors import ConfigError
from aerun.use.outputs import and_more, require_absent

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from aerun.use.opened_run import OpenedRun

EXAMPLES = """\
  %(prog)s samples RUN -o made                      64 new images: made/samples.png
  %(prog)s samples RUN -o made --from mixture       a VAE sampled by the mixture, to compare it with an autoencoder
  %(prog)s samples RUN -o made --label 7            a conditional model: class 7; without it one row per class
  %(prog)s interpolate RUN cat.png dog.png -o made --gif
  %(prog)s interpolate RUN 0 1 -o made --neighbors  between test images 0 and 1, with real ones near the line
  %(prog)s traverse RUN -o made                     one code value at a time, the most used ones
  %(prog)s arithmetic RUN 7 - 3 + 12 -o made        the codes of test images 7 - 3 + 12, decoded
  %(prog)s compare AE_RUN VAE_RUN -o made           points far from all codes, decoded by both runs
  %(prog)s samples RUN -n 9 -o made --overwrite     replace existing files
  %(prog)s samples --help                           options of one of them
"""
SAMPLES, SAMPLES_OF_CLASS = 64, 10
LABEL_HELP = "class of a conditional model's images, a number from 0 (default: one row per class)"
FILE_NAMES = {"samples": "samples", "interpolate": "interpolation", "traverse": "traversal"}
log = logging.getLogger(__name__)


def build_parser() -> Parser:
    """All kinds of images and their options."""
    parser = Parser("New images from a trained run. Images are named by file, or by test image number.", EXAMPLES)
    kinds = parser.add_subparsers(dest="kind", metavar="WHAT", required=True, parser_class=Parser)

    def add_kind(name: str, about: str, examples: str) -> Parser:
        kind: Parser = kinds.add_parser(name, help=about, description=about, examples=examples)
        if name != "compare":
            kind.add_argument("run", metavar="RUN", help="folder of a trained run")
        return kind

    samples = add_kind("samples", "decode random codes", "  %(prog)s RUN -n 100 -o made --frames")
    samples.add_argument("-n", "--count", type=count, help="number of images (64), or of a row per class (10)")
    samples.add_argument(
        "--from",
        dest="source",
        choices=("prior", "mixture", "frequencies"),
        help="the prior of a latent (the default; for a quantized one it is fitted to the indices of training images, "
        "once), the frequencies of these indices, or a Gaussian mixture of training codes (the default of any other)",
    )
    samples.add_argument("--label", type=label, metavar="K", help=LABEL_HELP)
    samples.add_argument("--components", type=count, help="number of Gaussians in the mixture (default: by BIC)")
    between = add_kind("interpolate", "walk from one image to another", "  %(prog)s RUN 0 1 -o made --gif")
    between.add_argument("first", metavar="A", help="an image file, or the number of a test image")
    between.add_argument("last", metavar="B", help="an image file, or the number of a test image")
    between.add_argument("--path", choices=("linear", "spherical", "both"), default="both", help="line or arc (both)")
    between.add_argument("--neighbors", action="store_true", help="also the real images whose codes are near the line")
    traverse = add_kind("traverse", "change one code value at a time", "  %(prog)s RUN 3 -o made --rows 5 --gif")
    traverse.add_argument("image", metavar="IMAGE", nargs="?", help="image whose code is changed (default: mean code)")
    traverse.add_argument("--rows", type=count, default=10, help="number of code values, most used first (10)")
    traverse.add_argument("--deviations", type=positive, default=3.0, help="range on each side of the mean (3)")
    arithmetic = add_kind("arithmetic", "decode sums of codes", "  %(prog)s RUN a.png - b.png + c.png -o made")
    arithmetic.add_argument("terms", metavar="TERM", nargs="+", help="images with + or - between them")
    compare = add_kind("compare", "decode points far from all codes", "  %(prog)s AE_RUN VAE_RUN -o made")
    compare.add_argument("runs", metavar="RUN", nargs="+", help="folders of runs, such as an autoencoder and a VAE")
    for kind in (samples, between, traverse, arithmetic, compare):
        kind.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="folder for the images")
        add_overwrite_option(kind)
        kind.add_argument("--seed", type=seed, default=0, help="seed of everything random (0)")
        add_device_options(kind)
        kind.set_defaults(frames=False, gif=False, steps=None)
        if kind is not compare:
            kind.add_argument("--frames", action="store_true", help="also write each step as a PNG file")
            kind.add_argument("--gif", action="store_true", help="also write the steps as an animated GIF")
        if kind not in (samples, compare):
            kind.add_argument("--steps", type=count, default=11, help="number of steps, both ends included (11)")
    return parser


def main() -> int:
    """The console command."""
    return run_command(build_parser, execute)


def execute(arguments: argparse.Namespace) -> None:
    """Check, generate, write."""
    least = 3 if arguments.kind == "interpolate" and arguments.neighbors else 2
    if arguments.steps is not None and arguments.steps < least:
        raise ConfigError(f"--steps {arguments.steps}: must be at least {least}")
    terms = parse_terms(arguments.terms) if arguments.kind == "arithmetic" else []
    require_absent(list(output_files(arguments)), arguments.overwrite)

    from aerun.use.opened_run import open_run

    if arguments.kind == "compare":
        _compare(arguments)
        return
    run = open_run(arguments.run, arguments.device, arguments.trust, conditional=arguments.kind == "samples")
    run.require_images()
    if arguments.kind == "arithmetic":
        _arithmetic(run, arguments, terms)
    else:
        {"samples": _samples, "interpolate": _interpolate, "traverse": _traverse}[arguments.kind](run, arguments)


def output_files(arguments: argparse.Namespace) -> Iterator[Path]:
    """All files that the command writes."""
    from aerun.use.generation.frames import frame_name

    name = FILE_NAMES.get(arguments.kind, arguments.kind)
    yield arguments.output / f"{name}.png"
    if arguments.gif:
        yield arguments.output / f"{name}.gif"
    if arguments.frames:
        total = arguments.count or SAMPLES if arguments.kind == "samples" else arguments.steps
        yield from (arguments.output / name / frame_name(number, total) for number in range(total))


def parse_terms(words: list[str]) -> list[tuple[int, str]]:
    """``A - B + C`` -> (1, A), (-1, B), (1, C). ConfigError for anything else."""
    signs = {"+": 1, "-": -1}
    words = words if words[0] in signs else ["+", *words]
    terms = [(signs.get(sign), name) for sign, name in zip(words[::2], words[1::2], strict=False)]
    found = [(sign, name) for sign, name in terms if sign is not None and name not in signs]
    if len(words) % 2 or len(found) < len(terms):
        raise ConfigError(f"{' '.join(words)}: is not a sum; write images with + or - between them: A - B + C")
    return found


def _samples(run: OpenedRun, arguments: argparse.Namespace) -> None:
    from aerun.core.mixture import COMPONENT_COUNTS
    from aerun.use.generation.drawings import draw_each, draw_grid, draw_rows
    from aerun.use.generation.new_images import samples
    from aerun.use.generation.sampling import default_source
    from aerun.use.inputs import class_names

    source = arguments.source or default_source(run)
    if arguments.components is not None and source != "mixture":
        raise ConfigError("--components: applies only to the mixture; add --from mixture")
    components = arguments.components or COMPONENT_COUNTS

    def generate(number: int, label: int | None) -> Tensor:
        return samples(run, number, source=arguments.source, components=components, seed=arguments.seed, label=label)

    if run.classes is None or arguments.label is not None:
        images = generate(arguments.count or SAMPLES, arguments.label)
        _write(arguments, draw_grid(images), draw_each(images), is_loop=False)
        return
    if arguments.frames or arguments.gif:
        raise ConfigError("--frames, --gif: need one class of a conditional model; add --label K")
    count = arguments.count or SAMPLES_OF_CLASS
    rows = [(name, generate(count, number)) for number, name in enumerate(class_names(run))]
    _write(arguments, draw_rows(rows), [])


def _interpolate(run: OpenedRun, arguments: argparse.Namespace) -> None:
    import torch

    from aerun.use.generation.drawings import draw_rows, draw_steps
    from aerun.use.generation.neighbor_walk import walk_through_neighbors
    from aerun.use.generation.new_images import DEFAULT_TRAINING_IMAGES, interpolate
    from aerun.use.inputs import read_image, sample_training_images

    ends = read_image(run, arguments.first), read_image(run, arguments.last)
    steps = arguments.steps
    paths = ["linear", "spherical"] if arguments.path == "both" else [arguments.path]
    found = [interpolate(run, *ends, steps, is_spherical=path == "spherical")[:, 0] for path in paths]
    is_comparable = run.shape == run.autoencoder.output_shape  # otherwise given and decoded images share no row
    sides = ends if is_comparable else ()
    rows = [(path, torch.cat([*sides[:1], images, *sides[1:]])) for path, images in zip(paths, found, strict=True)]
    heads = [f"{number / (steps - 1):.2g}" for number in range(steps)]
    if is_comparable:
        heads = ["given", *heads, "given"]
        errors = [float((end - image).square().mean()) for end, image in zip(ends, found[0][[0, -1]], strict=True)]
        print(f"decoded ends: MSE {errors[0]:.4f} and {errors[1]:.4f} from the given images")
    if arguments.neighbors:
        walk = walk_through_neighbors(run, *ends, sample_training_images(run, DEFAULT_TRAINING_IMAGES).images, steps)
        away = float(walk.distances.mean()) / max(walk.usual, 1e-30)
        print(f"real images near the line: {away:.1f} times as far from it as images are from their nearest neighbors")
        white = walk.reconstructions.new_ones(1, *walk.reconstructions.shape[1:])
        blank = [white] if is_comparable else []
        if is_comparable:
            real = torch.cat([ends[0], white, walk.images[1:-1], white, ends[1]])
            rows.append(("real images\nnear the line", real))
            found.append(walk.images)
        rows.append(("reconstructed", torch.cat([*blank, walk.reconstructions, *blank])))
        found.append(walk.reconstructions)
    _write(arguments, draw_rows(rows, heads), draw_steps(torch.stack(found)))


def _traverse(run: OpenedRun, arguments: argparse.Namespace) -> None:
    from aerun.use.generation.drawings import draw_rows, draw_steps
    from aerun.use.generation.new_images import DEFAULT_TRAINING_IMAGES, traverse
    from aerun.use.inputs import read_image, sample_test_images

    start = None if arguments.image is None else read_image(run, arguments.image)
    images = sample_test_images(run, DEFAULT_TRAINING_IMAGES).images
    rows, steps, deviations = arguments.rows, arguments.steps, arguments.deviations
    found = traverse(run, images, start, rows=rows, steps=steps, deviations=deviations)
    measure = found.units.deviation if found.units.kl is None else found.units.kl
    template = "deviation {:.3g}" if found.units.kl is None else "KL {:.2f} nats"
    labels = [f"unit {number}\n" + template.format(float(measure[number])) for number in found.numbers]
    offsets = [deviations * (2 * number / (steps - 1) - 1) for number in range(steps)]
    heads = [f"{value:+.2g}" if abs(value) > 1e-9 else "mean" for value in offsets]
    _write(arguments, draw_rows(list(zip(labels, found.images, strict=True)), heads), draw_steps(found.images))


def _arithmetic(run: OpenedRun, arguments: argparse.Namespace, terms: list[tuple[int, str]]) -> None:
    import torch

    from aerun.use.generation.drawings import draw_rows, draw_steps
    from aerun.use.generation.new_images import arithmetic
    from aerun.use.inputs import read_image

    images = [(sign, read_image(run, name)) for sign, name in terms]
    steps = arithmetic(run, images, arguments.steps)
    text = " ".join(("+ " if sign > 0 else "- ") + Path(name).name for sign, name in terms).removeprefix("+ ")
    reconstructions = run.reconstruct(torch.cat([image for _, image in images]))
    rows = [(f"{text}\nreconstructed", reconstructions), ("from the first to the sum", steps)]
    _write(arguments, draw_rows(rows), draw_steps(steps[None]))


def _compare(arguments: argparse.Namespace) -> None:
    from aerun.use.image_files import write_png
    from aerun.use.inputs import DEFAULT_IMAGES, sample_test_images
    from aerun.use.maps.code_maps import empty_regions
    from aerun.use.opened_run import open_run

    runs = [open_run(folder, arguments.device, arguments.trust) for folder in arguments.runs]
    for run in runs:
        run.require_images()
    others = [run.folder for run in runs if run.data.checksum != runs[0].data.checksum]
    if others:
        log.warning("%s: was trained on other data than %s%s", others[0], runs[0].folder, and_more(others))
    samples = [sample_test_images(run, DEFAULT_IMAGES) for run in runs]
    pixels, found = empty_regions(runs, samples, arguments.seed)
    for run, empty in zip(runs, found, strict=True):
        place = ", ".join(f"{value:.3g}" for value in empty.empty[0])
        ratio = empty.distances[0] / empty.usual
        print(f"{run.folder}: emptiest point ({place}), {ratio:.0f} times as far from all codes as codes usually are")
    path = arguments.output / "compare.png"
    write_png(path, pixels)
    print(f"aerun: wrote {path}", file=sys.stderr)


def _write(arguments: argparse.Namespace, grid: np.ndarray, frames: list[np.ndarray], is_loop: bool = True) -> None:
    """The grid, and the frames if wanted; the GIF runs back to its start if ``is_loop``."""
    from aerun.use.generation.frames import frame_name, there_and_back, write_frames, write_gif
    from aerun.use.image_files import write_png

    name = FILE_NAMES.get(arguments.kind, arguments.kind)
    written = [arguments.output / f"{name}.png"]
    write_png(written[0], grid if grid.ndim == 3 else grid[..., None])
    if arguments.frames:
        folder = arguments.output / name
        written.append(folder)
        write_frames(folder, frames)
        current = {frame_name(number, len(frames)) for number in range(len(frames))}
        older = sorted({path.name for path in folder.iterdir()} - current)
        if older:
            log.warning("%s%s: not one of these frames; existed before", folder / older[0], and_more(older))
    if arguments.gif:
        written.append(arguments.output / f"{name}.gif")
        write_gif(written[-1], there_and_back(frames) if is_loop else frames)
    for path in written:
        print(f"aerun: wrote {path}", file=sys.stderr)
