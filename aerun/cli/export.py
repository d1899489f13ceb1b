"""``aerun-export RUN OUT``."""

from __future__ import annotations

import argparse
from pathlib import Path

from aerun.base.arguments import Parser
from aerun.cli.command import run_command
from aerun.use.export.export_formats import FORMATS, check_export
from aerun.use.outputs import add_overwrite_option


def parser() -> Parser:
    """The command's arguments."""
    result = Parser(
        "Write a trained run for other programs: ONNX and torch.export of encoder, decoder and both, each checked "
        "to give what PyTorch gives, and the weights with a card. It works on the CPU, wherever the run was trained.",
        "  aerun-export outputs/RUN_FOLDER exported\n"
        "  aerun-export outputs/RUN_FOLDER exported --format onnx        # needs: pip install 'aerun[export]'\n"
        "  aerun-export outputs/RUN_FOLDER published --format safetensors   # to hand on; aerun.load reads it\n"
        "  aerun-export outputs/RUN_FOLDER exported --overwrite          # in place of an older export",
    )
    result.add_argument("run", metavar="RUN", help="folder of a run that has trained")
    result.add_argument("out", metavar="OUT", help="an empty or new folder")
    add_overwrite_option(result)
    result.add_argument(
        "--format",
        nargs="+",
        default=list(FORMATS),
        choices=FORMATS,
        metavar="FORMAT",
        help=f"of {', '.join(FORMATS)} (all)",
    )
    result.add_argument(
        "--trust", action="append", default=[], metavar="PACKAGE", help="whose classes the run may name"
    )
    return result


def work(asked: argparse.Namespace) -> None:
    """Check, export, and say what there is."""
    check_export(Path(asked.run).expanduser(), Path(asked.out).expanduser(), asked.format, asked.overwrite)

    from aerun.use.export.export_run import export

    done = export(asked.run, asked.out, asked.format, asked.trust, asked.overwrite)
    print(f"exported     {done.folder}: {', '.join(sorted(path.name for path in done.folder.iterdir()))}")


def main() -> None:
    """``aerun-export`` and scripts/export.py."""
    run_command(parser, work)
