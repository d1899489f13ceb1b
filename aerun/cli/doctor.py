"""``aerun-doctor RUN...``: what is wrong with trained runs, and what to try."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerun.base.arguments import Parser
from aerun.base.files import write_text
from aerun.base.progress_bar import progress_bar
from aerun.cli.command import add_device_options, run_command
from aerun.compare.collect import collect
from aerun.doctor.measurements import describe_measurements
from aerun.errors import AerunError, DataError
from aerun.runs.folder import CONFIG, WEIGHTS
from aerun.use.outputs import add_overwrite_option, require_absent

if TYPE_CHECKING:
    from aerun.runs.diagnose import Diagnosis

FILE = "doctor.json"
FOUND = 2  # exit code where there is a verdict; errors are 1
EXAMPLES = """  aerun-doctor outputs/RUN_FOLDER
  aerun-doctor outputs/grid                    every run of a sweep, a row each
  aerun-doctor outputs/RUN_FOLDER --no-data    from its files alone
  aerun-doctor outputs/RUN_FOLDER --json       with all evidence
  aerun-doctor outputs/RUN_FOLDER --save --overwrite"""


def parser() -> Parser:
    """The command's arguments."""
    words = Parser(
        "Say whether runs are healthy, and if not, why, with the evidence and an override to try. "
        "Exit code 0: healthy; 2: there is a verdict; 1: an error.",
        EXAMPLES,
    )
    words.add_argument("runs", metavar="RUN", nargs="+", help="folders of runs, finished or not, or of sweeps")
    words.add_argument("--no-data", action="store_true", help="from logs and summary alone; says what is left out")
    words.add_argument("--json", action="store_true", help="verdicts and all evidence, for other programs")
    words.add_argument("--save", action="store_true", help=f"also write {FILE} into each run folder")
    add_overwrite_option(words)
    add_device_options(words)
    return words


def main() -> None:
    """The console command."""
    run_command(parser, work)


def work(asked: argparse.Namespace) -> int:
    """Examine each run; 0 if all are healthy, 1 if one could not be examined, else 2."""
    folders = begun(asked.runs)
    if not folders:
        raise DataError(f"{', '.join(asked.runs)}: no run there has begun")
    if asked.save:
        require_absent([folder / FILE for folder in folders], asked.overwrite)
    rows = []
    with progress_bar("runs", len(folders)) as bar:
        for folder in folders:
            rows.append(examined(folder, not asked.no_data, asked.trust, asked.device, alone=len(folders) == 1))
            bar.update(1)
    for row in rows if asked.save else []:
        if row.diagnosis is not None:
            write_text(row.folder / FILE, json.dumps(row.diagnosis.as_json(), indent=2) + "\n")
    if asked.json:
        content = [row.as_json() for row in rows]
        print(json.dumps(content[0] if len(content) == 1 else content, indent=2))
    else:
        print(told(rows[0]) if len(rows) == 1 else table(rows))
    if any(row.diagnosis is None for row in rows):
        return 1
    return 0 if all(row.diagnosis is not None and row.diagnosis.healthy for row in rows) else FOUND


def begun(named: list[str]) -> list[Path]:
    """The runs to examine. What ``aerun-export`` wrote is a copy of one, and counts only where it is named itself."""
    given = {os.path.realpath(Path(name).expanduser()) for name in named}
    found = [run.folder for run in collect(named) if (run.folder / CONFIG).is_file()]
    return [path for path in found if not (path / WEIGHTS).is_file() or os.path.realpath(path) in given]


@dataclass(frozen=True)
class Row:
    """A run, and what was found, or why nothing was."""

    folder: Path
    diagnosis: Diagnosis | None
    error: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        found = {"error": self.error} if self.diagnosis is None else self.diagnosis.as_json()
        return {"run": str(self.folder), **found}


def examined(folder: Path, data: bool, trusted: list[str], device: str, alone: bool) -> Row:
    """One run. The error of one among many stands in its row."""
    from aerun.runs.diagnose import diagnose

    try:
        return Row(folder, diagnose(folder, data=data, trusted_packages=trusted, device=device))
    except AerunError as error:
        if alone:
            raise
        return Row(folder, None, str(error))


def told(row: Row) -> str:
    """All about one run, some lines a verdict."""
    diagnosis = row.diagnosis
    assert diagnosis is not None
    lines = [f"{row.folder}: {state(diagnosis)}"]
    for verdict in diagnosis.verdicts:
        after = f"; hence {', '.join(verdict.consequences)}" if verdict.consequences else ""
        lines += [f"  {verdict.name}: {verdict.evidence}{after}", f"    try {verdict.remedy}"]
    lines += [f"  seen: {text}" for text in describe_measurements(diagnosis.examination)]
    if diagnosis.examination.missing:
        lines.append(f"  not examined: {'; '.join(diagnosis.examination.missing)}")
    return "\n".join(lines)


def state(diagnosis: Diagnosis) -> str:
    """In a word. Who was not examined is not called healthy."""
    if not diagnosis.healthy:
        return diagnosis.verdicts[0].severity
    return "no verdict from what could be examined" if diagnosis.examination.missing else "healthy"


def table(rows: list[Row]) -> str:
    """A line a run: name, verdicts, what to try about the first."""
    cells = [("run", "verdict", "try")]
    for row in rows:
        if row.diagnosis is None:
            cells.append((row.folder.name, f"not examined: {row.error}", ""))
        elif row.diagnosis.healthy:
            cells.append((row.folder.name, state(row.diagnosis), ""))
        else:
            first, *_ = verdicts = row.diagnosis.verdicts
            cells.append((row.folder.name, ", ".join(verdict.name for verdict in verdicts), first.remedy))
    widths = [max(len(line[column]) for line in cells) for column in range(3)]
    cells.insert(1, ("-" * widths[0], "-" * widths[1], "-" * widths[2]))
    padded = ("  ".join(f"{text:<{size}}" for text, size in zip(line, widths, strict=True)).rstrip() for line in cells)
    return "\n".join(padded)
