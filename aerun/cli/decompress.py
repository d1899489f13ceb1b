"""``aerun-decompress RUN IN OUT``: files of ``aerun-compress`` as PNG pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

from aerun.base.arguments import Parser
from aerun.cli.command import add_overwrite_option, add_run_arguments, run_command

EXAMPLES = """\
  %(prog)s outputs/RUN_FOLDER ~/small ~/back
  %(prog)s outputs/RUN_FOLDER drawing.png.aec drawing.png"""


def build_parser() -> Parser:
    """All options."""
    parser = Parser("Write PNG pictures from files of aerun-compress, with the run that wrote them.", EXAMPLES)
    add_run_arguments(parser)
    parser.add_argument("source", metavar="IN", type=Path, help="a file of aerun-compress, or a folder of them")
    parser.add_argument("target", metavar="OUT", type=Path, help="a file that ends in .png, or a folder")
    add_overwrite_option(parser)
    return parser


def main() -> int:
    """The console command."""
    return run_command(build_parser, execute)


def execute(arguments: argparse.Namespace) -> None:
    """Check everything that needs no torch, decompress, print."""
    from aerun.runs.folder import read_config
    from aerun.use.compression.plan import match_compressed

    read_config(Path(arguments.run).expanduser())
    files = match_compressed(arguments.source, arguments.target, arguments.overwrite)

    from aerun.use.compression.compress import PictureCodec
    from aerun.use.compression.many import decompress_files
    from aerun.use.opened_run import open_run

    done = decompress_files(PictureCodec(open_run(arguments.run, arguments.device, arguments.trust)), files)
    print(f"{len(done)} of {len(files)} pictures: {arguments.target}")
