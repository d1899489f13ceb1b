"""From 60 runs to a paper: run the blocks of docs/reporting.md in order, and write what they print into the page.

    python benchmarks/reporting.py --outputs FOLDER

A sweep that has finished in the folder is not trained again.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.machine import processor  # noqa: E402
from benchmarks.page import write_section  # noqa: E402

PAGE = ROOT / "docs" / "reporting.md"
FIGURE = ROOT / "docs" / "images" / "reporting.svg"
COMMANDS = "".join(
    f'aerun-{name}() {{ {shlex.quote(sys.executable)} -m aerun {name} "$@"; }}\n' for name in ("train", "compare")
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--outputs", type=Path, required=True, help="folder in which the commands run")
    folder = parser.parse_args().outputs.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    printed = ""
    for language, block, section in re.findall(
        r"```(bash|python)\n(.*?)```|<!-- (\w+) -->", PAGE.read_text(), re.DOTALL
    ):
        if block:
            printed = run(language, block, folder)
        elif section == "made":
            made = f"Made by `python benchmarks/reporting.py` on {date.today()}, {processor()}."
            write_section(section, made, PAGE)
        else:
            write_section(section, f"```text\n{printed.strip()}\n```", PAGE)
    shutil.copyfile(folder / "report" / "learning_curves.svg", FIGURE)


def run(language: str, block: str, folder: Path) -> str:
    """What a block prints, with the programs of this checkout. RuntimeError if it fails."""
    command = (
        ["bash", "-euo", "pipefail", "-c", COMMANDS + block] if language == "bash" else [sys.executable, "-c", block]
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{block}\n{done.stderr.strip()}")
    return done.stdout


if __name__ == "__main__":
    main()
