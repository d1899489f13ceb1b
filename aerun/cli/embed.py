"""``aerun-embed``: the codes of a collection, in one file."""

from __future__ import annotations

import argparse
from pathlib import Path

from aerun.base.arguments import Parser
from aerun.cli.command import add_run_arguments, run_command
from aerun.errors import ConfigError
from aerun.use.outputs import add_overwrite_option, require_absent
from aerun.use.words import plural

EXAMPLES = """\
  %(prog)s outputs/RUN ~/art -o fingerprints.npz
  %(prog)s outputs/RUN ~/art -o fingerprints.npz --as int8 --compare     # bytes and PSNR, beside JPEG and WebP
  %(prog)s outputs/RUN ~/art -o fingerprints.npz --views 10              # finds cropped pictures better
  %(prog)s outputs/RUN --split test -o test.npz                          # the run's own test images, with labels
  %(prog)s outputs/RUN ~/art -o fingerprints.parquet"""
FORMS = ("float32", "float16", "int8", "bits")
PARTS = ("train", "validation", "test")
MOST_VIEWS = 10


def parser() -> Parser:
    """Its arguments."""
    result = Parser(
        "Encode a folder of pictures (PNG, JPEG, WebP, GIF, BMP, TIFF; the first frame or page) with a trained run, "
        "and keep names and codes in a file.",
        EXAMPLES,
    )
    add_run_arguments(result)
    result.add_argument("folder", metavar="FOLDER", nargs="?", type=Path, help="pictures, in it and below")
    result.add_argument("--split", choices=PARTS, help="in place of a folder: a part of the run's own data")
    result.add_argument("-o", "--output", metavar="FILE", type=Path, required=True, help=".npz or .parquet")
    add_overwrite_option(result)
    result.add_argument(
        "--as", dest="form", choices=FORMS, default="float32", help="what the codes are kept as (default: float32)"
    )
    result.add_argument(
        "--value-bits", type=int, choices=range(9), default=8, help="of bits: for each value that is not zero (8)"
    )
    result.add_argument(
        "--views",
        type=int,
        choices=range(1, MOST_VIEWS + 1),
        default=1,
        metavar="N",
        help="codes for N - 1 crops, too (1)",
    )
    result.add_argument(
        "--compare", action="store_true", help="print bytes and PSNR of all forms, and of JPEG and WebP"
    )
    return result


def work(asked: argparse.Namespace) -> None:
    """Embed, write, say what is in the file."""
    if (asked.folder is None) == (asked.split is None):
        raise ConfigError("name a FOLDER of pictures, or --split for a part of the run's own data")
    from aerun.use.collection.embedding import embed, embed_split
    from aerun.use.collection.fingerprints import check_suffix, save_fingerprints
    from aerun.use.image_files import find_images

    check_suffix(asked.output, asked.form)
    require_absent([asked.output], asked.overwrite)
    if asked.folder is not None:
        find_images(asked.folder)

    from aerun.use.opened_run import open_run

    run = open_run(asked.run, asked.device, asked.trust)
    made = (
        embed(run, asked.folder, views=asked.views)
        if asked.split is None
        else embed_split(run, asked.split, views=asked.views)
    )
    packed = made.packed(asked.form, asked.value_bits)
    save_fingerprints(made, asked.output, packed, overwrite=asked.overwrite)
    zeros, spread = made.statistics()["zeros"], made.statistics()["deviation"]
    views = f", {made.views} views" if made.views > 1 else ""
    print(
        f"{plural(len(made), 'picture')}{views}, {plural(len(zeros), 'unit')}: {zeros.mean():.0%} zeros, "
        f"{plural(int((spread == 0).sum()), 'unit')} the same for all"
    )
    print(
        f"{asked.output}: {asked.output.stat().st_size:,} bytes; {asked.form}: "
        f"{packed.bytes_per_image * made.views:,.1f} "
        f"for the code of a picture, {packed.shared_bytes:,} for all together"
    )
    if asked.compare:
        from aerun.use.collection.compression import compare_compression, format_table
        from aerun.use.collection.thumbnails import sample_inputs

        _, images = sample_inputs(run, made, 1000)
        print()
        print(format_table(compare_compression(run, images, value_bits=asked.value_bits)))


def main() -> None:
    """The console command."""
    run_command(parser, work)
