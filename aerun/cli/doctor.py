"""``aerun-doctor RUN...``: what is wrong with trained runs, and what to try."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerun.base.archive import is_file
from aerun.base.arguments import Parser
from aerun.base.files import write_json
from aerun.base.progress_bar import progress_bar
from aerun.cli.command import add_device_options, add_overwrite_option, run_command
from aerun.compare.collect import collect
from aerun.doctor.measurements import describe_measurements
from aerun.errors import AerunError, DataError, visible
from aerun.runs.folder import CONFIG, WEIGHTS
from aerun.use.outputs import require_absent

if TYPE_CHECKING:
    from aerun.runs.diagnose import Diagnosis

FILE = "doctor.json"
HEALTHY, NOT_EXAMINED, HAS_VERDICT = 0, 1, 2  # exit codes
EXAMPLES = """\
  %(prog)s outputs/RUN_FOLDER
  %(prog)s outputs/grid                    every run of a sweep, one row each
  %(prog)s outputs/RUN_FOLDER --no-data    from the run's files alone
  %(prog)s outputs/RUN_FOLDER --json       with all evidence
  %(prog)s outputs/RUN_FOLDER --save --overwrite"""


def build_parser() -> Parser:
    """All options."""
    parser = Parser(
        "Say whether runs are healthy, and if not, why, with the evidence and an override to try. "
        "Exit code 0: healthy; 2: there is a verdict; 1: an error.",
        EXAMPLES,
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", help="folders of sweeps or runs, finished or not")
    parser.add_argument("--no-data", action="store_true", help="read only logs and summary; list what is not examined")
    parser.add_argument("--json", action="store_true", help="print verdicts and all evidence as JSON")
    parser.add_argument("--save", action="store_true", help=f"also write {FILE} into each run folder")
    add_overwrite_option(parser)
    add_device_options(parser)
    return parser


def main() -> int:
    """The console command."""
    return run_command(build_parser, execute)


def execute(arguments: argparse.Namespace) -> int:
    """Examine each run and print. 0 if all are healthy, 1 if one could not be examined, otherwise 2."""
    folders = find_runs(arguments.runs)
    if not folders:
        raise DataError(f"{', '.join(arguments.runs)}: contains no run that has started")
    if arguments.save:
        require_absent([folder / FILE for folder in folders], arguments.overwrite)
    rows = []
    with progress_bar("runs", len(folders)) as bar:
        for folder in folders:
            rows.append(examine(folder, arguments, is_single=len(folders) == 1))
            bar.update(1)
    for row in rows if arguments.save else []:
        if row.diagnosis is not None:
            write_json(row.folder / FILE, row.diagnosis.as_json())
    if arguments.json:
        content = [row.as_json() for row in rows]
        print(json.dumps(content[0] if len(content) == 1 else content, indent=2))
    else:
        print(format_run(rows[0]) if len(rows) == 1 else format_table(rows))
    if any(row.diagnosis is None for row in rows):
        return NOT_EXAMINED
    return HEALTHY if all(row.diagnosis is not None and row.diagnosis.healthy for row in rows) else HAS_VERDICT


def find_runs(names: list[str]) -> list[Path]:
    """The runs to examine. Exports of ``aerun-export`` are copies of runs: they count only if named themselves."""
    named = {os.path.realpath(Path(name).expanduser()) for name in names}
    found = [run.folder for run in collect(names) if is_file(run.folder / CONFIG)]
    return [path for path in found if not is_file(path / WEIGHTS) or os.path.realpath(path) in named]


@dataclass(frozen=True)
class Row:
    """A run with its diagnosis, or with the error that prevented one."""

    folder: Path
    diagnosis: Diagnosis | None
    error: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        result = {"error": self.error} if self.diagnosis is None else self.diagnosis.as_json()
        return {"run": str(self.folder), **result}


def examine(folder: Path, arguments: argparse.Namespace, is_single: bool) -> Row:
    """Diagnose one run. Among several runs an error of any kind goes into the run's row; for a single run it is
    raised, with the traceback of an unexpected one."""
    from aerun.runs.diagnose import diagnose

    try:
        diagnosis = diagnose(
            folder, data=not arguments.no_data, trusted_packages=arguments.trust, device=arguments.device
        )
    except Exception as error:
        if is_single:
            raise
        known = isinstance(error, AerunError)
        return Row(folder, None, str(error) if known else f"{type(error).__name__}: {' '.join(str(error).split())}")
    return Row(folder, diagnosis)


def format_run(row: Row) -> str:
    """All about one run: a few lines for each verdict, then what was seen and what was not examined."""
    diagnosis = row.diagnosis
    assert diagnosis is not None
    lines = [f"{visible(str(row.folder))}: {state(diagnosis)}"]
    for verdict in diagnosis.verdicts:
        after = f"; hence {', '.join(verdict.consequences)}" if verdict.consequences else ""
        lines += [f"  {verdict.name}: {verdict.evidence}{after}", f"    try {verdict.advice}"]
    lines += [f"  seen: {text}" for text in describe_measurements(diagnosis.examination)]
    if diagnosis.examination.missing:
        lines.append(f"  not examined: {'; '.join(diagnosis.examination.missing)}")
    return "\n".join(lines)


def state(diagnosis: Diagnosis) -> str:
    """The run's state in a few words. A run that was not examined fully is not called healthy."""
    if not diagnosis.healthy:
        return diagnosis.verdicts[0].severity
    return "no verdict from what could be examined" if diagnosis.examination.missing else "healthy"


def format_table(rows: list[Row]) -> str:
    """One line per run: name, verdicts, and the remedy of the first verdict."""
    cells = [("run", "verdict", "try")]
    for row in rows:
        name = visible(row.folder.name)
        if row.diagnosis is None:
            cells.append((name, f"not examined: {row.error}", ""))
        elif row.diagnosis.healthy:
            cells.append((name, state(row.diagnosis), ""))
        else:
            first, *_ = verdicts = row.diagnosis.verdicts
            cells.append((name, ", ".join(verdict.name for verdict in verdicts), first.remedy))
    widths = [max(len(line[column]) for line in cells) for column in range(3)]
    cells.insert(1, ("-" * widths[0], "-" * widths[1], "-" * widths[2]))
    padded = ("  ".join(f"{text:<{size}}" for text, size in zip(line, widths, strict=True)).rstrip() for line in cells)
    return "\n".join(padded)
