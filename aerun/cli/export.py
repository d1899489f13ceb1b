"""``aerun-export RUN OUT``: write a trained run for other programs."""

from __future__ import annotations

import argparse
from pathlib import Path

from aerun.base.arguments import Parser
from aerun.cli.command import add_overwrite_option, add_trust_option, run_command
from aerun.use.export.export_formats import FORMATS, check_export

EXAMPLES = """\
  %(prog)s outputs/RUN_FOLDER exported
  %(prog)s outputs/RUN_FOLDER exported --format onnx           # needs: pip install 'aerun[export]'
  %(prog)s outputs/RUN_FOLDER published --format safetensors   # weights to share; aerun.load reads the folder
  %(prog)s outputs/RUN_FOLDER exported --overwrite             # replace an earlier export"""


def build_parser() -> Parser:
    """All options."""
    parser = Parser(
        "Write a trained run for other programs: encoder, decoder and both as ONNX and torch.export, each checked "
        "against PyTorch's outputs, and the weights with a model card. Exports are computed on the CPU.",
        EXAMPLES,
    )
    parser.add_argument("run", metavar="RUN", help="folder of a trained run")
    parser.add_argument("out", metavar="OUT", help="an empty or new folder")
    add_overwrite_option(parser)
    parser.add_argument(
        "--format",
        nargs="+",
        default=list(FORMATS),
        choices=FORMATS,
        metavar="FORMAT",
        help=f"one or more of {', '.join(FORMATS)} (all)",
    )
    add_trust_option(parser)
    return parser


def main() -> int:
    """The console command."""
    return run_command(build_parser, execute)


def execute(arguments: argparse.Namespace) -> None:
    """Check, export, list the files."""
    run, out = Path(arguments.run).expanduser(), Path(arguments.out).expanduser()
    check_export(run, out, arguments.format, arguments.overwrite)

    from aerun.use.export.export_run import export

    done = export(arguments.run, arguments.out, arguments.format, arguments.trust, arguments.overwrite)
    print(f"exported     {done.folder}: {', '.join(sorted(path.name for path in done.folder.iterdir()))}")
