"""Shared by all console commands: common options, one-line errors, exit codes."""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aerun.base.arguments import Parser
from aerun.base.signals import Stopped
from aerun.errors import visible

FULL_ERROR = "HYDRA_FULL_ERROR"
USER_ERROR = 1  # exit codes
BROKEN_PIPE = 141
WRITTEN = re.compile(r"\n|\t|\x1b\[[0-9;]*m")  # as it is: line breaks, tabs, and the colors of a log


def add_run_arguments(parser: Parser) -> None:
    """``RUN``, ``--device`` and ``--trust``, for a command that opens one run."""
    parser.add_argument("run", metavar="RUN", help="folder of a trained run")
    add_device_options(parser)


def add_device_options(parser: Parser) -> None:
    """``--device`` and ``--trust``."""
    parser.add_argument("--device", default="auto", help="cpu, cuda or mps (default: the fastest available)")
    add_trust_option(parser)


def add_trust_option(parser: Parser) -> None:
    """``--trust``."""
    parser.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="allow the run to use classes of this package; may be repeated",
    )


def add_overwrite_option(parser: Parser) -> None:
    """``--overwrite``, for a command that writes files."""
    parser.add_argument("--overwrite", action="store_true", help="replace existing output files")


def add_folder_option(parser: Parser) -> None:
    """``--folder``, for a command that shows the images behind fingerprints."""
    parser.add_argument("--folder", type=Path, help="where the images of fingerprints are now, if they were moved")


def run_command(build_parser: Callable[[], Parser], execute: Callable[[argparse.Namespace], int | None]) -> int:
    """Parse ``sys.argv``, then execute. Returns the exit code."""

    def run() -> int | None:
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
        return execute(build_parser().parse_args())

    return guard(run)


def guard(command: Callable[[], int | None]) -> int:
    """Call ``command`` and return its exit code, see ``errors_in_a_line``."""
    with errors_in_a_line() as end:
        end.code = command() or 0
    return end.code


@dataclass
class End:
    """How a command ended: its exit code."""

    code: int = 0


class EscapedStream:
    """A text stream on which control characters are written as JSON escapes them, but for line breaks, tabs and colors:
    names of files and values of somebody else's must not command the terminal. All else is the stream's own."""

    def __init__(self, stream: Any) -> None:
        self.unescaped = stream

    def write(self, text: str) -> int:
        """Write the text. Returns its length, as streams do."""
        kept = zip(WRITTEN.split(text), [*WRITTEN.findall(text), ""], strict=True)
        self.unescaped.write("".join(visible(part) + between for part, between in kept))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unescaped, name)


@contextlib.contextmanager
def escaped_output() -> Iterator[None]:
    """A block whose output, and that of the log handlers made in it, commands no terminal."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (EscapedStream(getattr(stream, "unescaped", stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


@contextlib.contextmanager
def errors_in_a_line() -> Iterator[End]:
    """A context for a command: errors that the user can fix are printed as one or two lines, and set the exit code.

    HYDRA_FULL_ERROR=1 shows the traceback of every error. Programming errors always show theirs.
    """
    logging.raiseExceptions = False  # a full disk is reported once, not for every log line
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may have bytes that are not UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    end = End()
    with escaped_output():
        try:
            yield end
        except KeyboardInterrupt as error:
            logging.getLogger().setLevel(logging.WARNING)  # silence libraries that log at exit
            print(f"aerun: stopped by {str(error) or 'SIGINT'}", file=sys.stderr)
            end.code = 128 + (error.number if isinstance(error, Stopped) else 2)
        except BrokenPipeError:
            sys.stderr.close()
            end.code = BROKEN_PIPE
        except Exception as error:
            if os.environ.get(FULL_ERROR) == "1":
                raise
            from aerun.config.explain import explain  # imports Hydra

            text = explain(error)
            if text is None:
                raise
            print(f"aerun: {text}", file=sys.stderr)
            end.code = USER_ERROR
