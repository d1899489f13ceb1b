"""``aerun-track RUN_OR_SWEEP...``: send finished or interrupted runs to trackers on a server."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aerun.base.arguments import Parser
from aerun.cli.command import run_command
from aerun.compare.collect import find_places
from aerun.config.explain import compose_explained
from aerun.config.settings import TRACKER
from aerun.errors import AerunError, BusyError, ConfigError
from aerun.runs.folder import read_config
from aerun.runs.send import remote_trackers, send_run

EXAMPLES = """\
  %(prog)s outputs/grid                                              what their own trackers have not got
  %(prog)s outputs/RUN_FOLDER tracker=mlflow tracker.mlflow.uri=URL    another tracker, also for older runs"""


def build_parser() -> Parser:
    """All options."""
    parser = Parser(
        "Send to trackers on a server what they have not got of runs: because the server was down, or because the runs "
        "were made without them. Each number is sent once. Exit code 1 if a run could not be sent.",
        EXAMPLES,
    )
    parser.add_argument(
        "words",
        nargs="+",
        metavar="RUN_OR_SWEEP | tracker=NAME",
        help="folders of runs or sweeps; trackers, their keys",
    )
    return parser


def main() -> int:
    """The console command."""
    return run_command(build_parser, execute)


def execute(arguments: argparse.Namespace) -> int:
    """Send all runs, and print a line for each. 1 if one could not be sent."""
    words = [word for word in arguments.words if "=" in word]
    for word in words:
        if word.partition("=")[0].partition(".")[0] != TRACKER:
            raise ConfigError(f"{word}: only tracker=NAME and its keys are allowed here")
    paths = [word for word in arguments.words if "=" not in word]
    if not paths:
        raise ConfigError("name the folder of a run or of a sweep; see --help")
    nodes = compose_explained(words)[0].get(TRACKER) or {} if words else None
    if nodes is not None and not remote_trackers(nodes):
        raise ConfigError(f"{' '.join(words)}: names no tracker on a server")
    folders = [place.folder for places in find_places(paths) for place in places if place.has_begun]
    return 1 if [folder for folder in folders if not _send(folder, nodes)] else 0


def _send(folder: Path, nodes: Mapping[str, Any] | None) -> bool:
    """Send one run to the trackers of ``nodes``, or to its own, and print what happened; whether it is sent."""
    try:
        trackers = remote_trackers((read_config(folder).get(TRACKER) or {}) if nodes is None else nodes)
        if not trackers:
            print(f"{folder}: has no tracker on a server; name one, tracker=NAME")
            return True
        counts = send_run(folder, trackers)
    except BusyError:
        print(f"{folder}: is running, and sends by itself")
        return True
    except Exception as error:  # whatever a server or its client may raise: the other runs are sent
        kind = "" if isinstance(error, AerunError) else f"{type(error).__name__}: "
        print(f"{folder}: is not sent ({kind}{' '.join(str(error).split())[:300]})", file=sys.stderr)
        return False
    print(f"{folder}: {', '.join(f'{count:,} numbers to {name}' for name, count in counts.items())}", flush=True)
    return True
