"""``aerun-compress RUN IN OUT``: pictures as small files, by a run trained as a codec."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

from aerun.base.arguments import Parser, count
from aerun.base.files import format_size
from aerun.cli.command import add_overwrite_option, add_run_arguments, run_command
from aerun.errors import ConfigError

log = logging.getLogger(__name__)
EXAMPLES = """\
  %(prog)s outputs/RUN_FOLDER ~/art ~/small --quality 4
  %(prog)s outputs/RUN_FOLDER ~/art --compare                   # what it would save, and what lossless formats would
  aerun-decompress outputs/RUN_FOLDER ~/small ~/back"""


def build_parser() -> Parser:
    """All options."""
    parser = Parser(
        "Compress pictures at their own size, with a run of experiment=codec. Some detail is lost. The files can be "
        "read with the same run only: keep it. Colors become 8 bits; transparency is kept exactly; color "
        "profile, EXIF and further frames are not. Originals are never replaced.",
        EXAMPLES,
    )
    add_run_arguments(parser)
    parser.add_argument("source", metavar="IN", type=Path, help="a picture, or a folder of pictures")
    parser.add_argument("target", metavar="OUT", type=Path, nargs="?", help="a file that ends in .aec, or a folder")
    parser.add_argument("--quality", type=count, help="from 1, the smallest files (default: latent.quality of the run)")
    parser.add_argument(
        "--compare",
        action="store_true",
        help="also read each picture again, and print its PSNR and what lossless WebP and, with the package "
        "pillow-jxl-plugin, JPEG XL make of it",
    )
    add_overwrite_option(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def main() -> int:
    """The console command."""
    return run_command(build_parser, execute)


def execute(arguments: argparse.Namespace) -> None:
    """Check everything that needs no torch, compress, print."""
    from aerun.runs.folder import read_config
    from aerun.use.compression.plan import match_pictures

    if arguments.target is None and not arguments.compare:
        raise ConfigError("OUT: is missing; name a file or a folder, or pass --compare to write nothing")
    read_config(Path(arguments.run).expanduser())
    files = match_pictures(arguments.source, arguments.target, arguments.overwrite)

    from aerun.use.compression.compress import PictureCodec
    from aerun.use.compression.many import compress_files
    from aerun.use.opened_run import open_run

    codec = PictureCodec(open_run(arguments.run, arguments.device, arguments.trust))
    codec.check_quality(arguments.quality)
    sizes = compress_files(codec, files, arguments.quality, arguments.target is not None, arguments.compare)
    if arguments.json:
        print(json.dumps(sizes.as_json(), indent=2, ensure_ascii=False))
        return
    where = "" if arguments.target is None else f": {arguments.target}"
    print(f"{len(sizes.before)} of {len(files)} pictures, {sizes.line()}{where}")
    if arguments.compare:
        print(f"\n{sizes.table()}\n")
    print(f"to read them the run is needed: {format_size(codec.weight_bytes)} of weights")
