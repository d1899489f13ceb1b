"""``aerun-embed``: encode a collection of images into one file."""

from __future__ import annotations

import argparse
from pathlib import Path

from aerun.base.arguments import Parser
from aerun.cli.command import add_overwrite_option, add_run_arguments, run_command
from aerun.errors import ConfigError
from aerun.use.outputs import plural, require_absent

EXAMPLES = """\
  %(prog)s outputs/RUN ~/art -o fingerprints.npz
  %(prog)s outputs/RUN ~/art -o fingerprints.npz --as int8 --compare     # bytes and PSNR, next to JPEG and WebP
  %(prog)s outputs/RUN ~/art -o fingerprints.npz --views 10              # finds cropped images better
  %(prog)s outputs/RUN --split test -o test.npz                          # the run's own test images, with labels
  %(prog)s outputs/RUN -o fingerprints.npz --update                      # what was added, changed, moved or removed
  %(prog)s outputs/RUN ~/art -o fingerprints.parquet"""
FORMS = ("float32", "float16", "int8", "bits")
PARTS = ("train", "validation", "test")
MAX_VIEWS = 10
COMPARED_IMAGES = 1000


def build_parser() -> Parser:
    """All options."""
    parser = Parser(
        "Encode a folder of images (PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF, JPEG 2000; only the first frame or page) "
        "with a trained run, and store their names and codes in one file.",
        EXAMPLES,
    )
    add_run_arguments(parser)
    parser.add_argument("folder", metavar="FOLDER", nargs="?", type=Path, help="images, also in subfolders")
    parser.add_argument("--split", choices=PARTS, help="encode this part of the run's own data instead of a folder")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, required=True, help=".npz or .parquet")
    add_overwrite_option(parser)
    parser.add_argument(
        "--update",
        action="store_true",
        help="bring FILE up to date with its folder, or with FOLDER: only new and changed images are encoded",
    )
    parser.add_argument(
        "--as",
        dest="form",
        choices=(*FORMS, "indices"),
        help="format of the codes (float32; indices for a quantized latent)",
    )
    parser.add_argument(
        "--value-bits", type=int, choices=range(9), default=8, help="with --as bits: bits per nonzero value (8)"
    )
    parser.add_argument(
        "--views",
        type=int,
        choices=range(1, MAX_VIEWS + 1),
        default=1,
        metavar="N",
        help="also encode N - 1 crops of each image (1)",
    )
    parser.add_argument("--compare", action="store_true", help="print bytes and PSNR of all formats, JPEG and WebP")
    return parser


def main() -> int:
    """The console command."""
    return run_command(build_parser, execute)


def _check(arguments: argparse.Namespace, updating: bool) -> None:
    """ConfigError for options that do not fit together."""
    if updating and (arguments.split is not None or arguments.views > 1):
        raise ConfigError("--update: the file says what to encode and in how many views; leave out --split and --views")
    if not updating and (arguments.folder is None) == (arguments.split is None):
        raise ConfigError("name either a FOLDER of images, or --split for a part of the run's own data")


def execute(arguments: argparse.Namespace) -> None:
    """Encode, write, describe the file."""
    updating = arguments.update and (arguments.output.exists() or arguments.folder is None)
    _check(arguments, updating)
    from aerun.use.collection.embedding import embed, embed_split
    from aerun.use.collection.fingerprint_files import check_suffix, load_fingerprints, save_fingerprints
    from aerun.use.collection.updating import update
    from aerun.use.image_files import find_images

    known = load_fingerprints(arguments.output) if updating else None
    form = arguments.form or (known.form if known is not None else None)
    check_suffix(arguments.output, form or "float32")
    require_absent([arguments.output], arguments.overwrite or updating)
    if arguments.folder is not None:
        find_images(arguments.folder, quiet=True)

    from aerun.use.opened_run import open_run

    run = open_run(arguments.run, arguments.device, arguments.trust)
    if known is not None:
        fingerprints, changes = update(run, known, arguments.folder)
        print(", ".join(f"{number:,} {word}" for word, number in changes._asdict().items()))
    elif arguments.split is None:
        fingerprints = embed(run, arguments.folder, views=arguments.views)
    else:
        fingerprints = embed_split(run, arguments.split, views=arguments.views)
    quantized = fingerprints.quantized
    form = form or ("float32" if quantized is None or arguments.output.suffix != ".npz" else "indices")
    value_bits = known.value_bits if known is not None and arguments.form is None else arguments.value_bits
    packed = fingerprints.pack(form, value_bits)
    save_fingerprints(fingerprints, arguments.output, packed, overwrite=arguments.overwrite or updating)
    statistics = fingerprints.statistics()
    zeros, constant = statistics["zeros"], int((statistics["deviation"] == 0).sum())
    views = f", {fingerprints.views} views" if fingerprints.views > 1 else ""
    print(
        f"{plural(len(fingerprints), 'image')}{views}, {plural(len(zeros), 'unit')}: {zeros.mean():.0%} zeros, "
        f"{plural(constant, 'constant unit')}"
    )
    if quantized is not None:
        print(
            f"{quantized.bits_per_image} bits per image: {quantized.indices.shape[1]} indices of "
            f"{quantized.bits} bits, {quantized.codebooks.shape[2]} entries in a codebook"
        )
    print(
        f"{arguments.output}: {arguments.output.stat().st_size:,} bytes; {form}: "
        f"{packed.bytes_per_image * fingerprints.views:,.1f} per image, {packed.shared_bytes:,} shared by all"
    )
    if arguments.compare:
        from aerun.use.collection.compression import compare_compression, format_table
        from aerun.use.collection.thumbnails import sample_inputs

        _, images = sample_inputs(run, fingerprints, COMPARED_IMAGES)
        print()
        print(format_table(compare_compression(run, images, value_bits=value_bits)))
