"""What all console commands of this package share: arguments in, a line for an error, an exit code out."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

from aerun.base.arguments import Parser
from aerun.errors import AerunError

FULL_ERROR = "HYDRA_FULL_ERROR"


def add_run_arguments(parser: Parser) -> None:
    """The arguments of a command that opens a run: RUN, ``--device``, ``--trust``."""
    parser.add_argument("run", metavar="RUN", help="folder of a run that has trained")
    add_device_options(parser)


def add_device_options(parser: Parser) -> None:
    """``--device`` and ``--trust``, where runs are named otherwise."""
    parser.add_argument("--device", default="auto", help="cpu, cuda, mps; the fastest there is by default")
    parser.add_argument(
        "--trust", action="append", default=[], metavar="PACKAGE", help="a package whose classes the run may name"
    )


def run_command(parser: Callable[[], Parser], work: Callable[[argparse.Namespace], int | None]) -> None:
    """Parse, then ``work``, whose result is the exit code; an error that the user can mend is one line and code 1.

    HYDRA_FULL_ERROR=1 shows every traceback.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        sys.exit(work(parser().parse_args()) or 0)
    except KeyboardInterrupt:
        logging.getLogger().setLevel(logging.WARNING)  # libraries have something to say when Python ends
        print("aerun: stopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except (AerunError, OSError) as error:
        if os.environ.get(FULL_ERROR) == "1":
            raise
        print(f"aerun: {error}", file=sys.stderr)
        sys.exit(1)


def guarded(function: Callable[[], Any]) -> None:
    """Call ``function``; errors meant for the user become one or two lines and exit code 1.

    HYDRA_FULL_ERROR=1 shows every traceback.
    """
    logging.raiseExceptions = False  # a full disk shows as the run's own error, not as one of each log line
    if os.environ.get(FULL_ERROR) == "1":
        function()
        return
    try:
        function()
    except KeyboardInterrupt as error:
        print(f"aerun: stopped by {str(error) or 'SIGINT'}", file=sys.stderr)
        sys.exit(128 + getattr(error, "number", 2))
    except Exception as error:
        from aerun.config.explain import explain  # Hydra, which other commands do without

        text = explain(error)
        if text is None:
            raise
        print(f"aerun: {text}", file=sys.stderr)
        sys.exit(1)


def raising(function: Callable[[], Any]) -> None:
    """Call Hydra's entry point so that it raises what it would print: it does where it is asked for full errors."""
    before = os.environ.get(FULL_ERROR)
    os.environ[FULL_ERROR] = "1"
    try:
        function()
    finally:
        if before is None:
            del os.environ[FULL_ERROR]
        else:
            os.environ[FULL_ERROR] = before
