"""Pages whose numbers their own commands print: run the blocks of a page in order, and write what they print into it.

    python benchmarks/printed.py PAGE --outputs FOLDER        # PAGE: cures, reporting, which

A sweep that has finished in the folder is not trained again. ``<!-- NAME -->`` to ``<!-- /NAME -->`` gets what the
block before it printed, ``made`` the machine and the date; the image after ``<!-- figure: FILE -->`` is that file of
the folder.
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

DOCS = ROOT / "docs"
PAGES = ("cures", "reporting", "which")
PROGRAM = f"{shlex.quote(sys.executable)} -m aerun"
COMMANDS = f"""
aerun-compare() {{ {PROGRAM} compare "$@"; }}
aerun-doctor() {{ {PROGRAM} doctor "$@" || (( $? <= 2 )); }}  # the exit code is the verdict
aerun-train() {{ {PROGRAM} train "$@"; }}
"""
BLOCK = r"```(bash|python)\n(.*?)```|<!-- (\w+) -->"
PICTURE = r"<!-- figure: (\S+) -->\s*!\[[^\]]*\]\((\S+)\)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", choices=PAGES)
    parser.add_argument("--outputs", type=Path, required=True, help="folder in which the commands run")
    arguments = parser.parse_args()
    page, folder = DOCS / f"{arguments.page}.md", arguments.outputs.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    text, printed = page.read_text(), ""
    for language, block, section in re.findall(BLOCK, text, re.DOTALL):
        if block:
            printed = run(language, block, folder)
        elif section == "made":
            made = f"Made by `python benchmarks/printed.py {arguments.page}` on {date.today()}, {processor()}."
            write_section(section, made, page)
        else:
            write_section(section, f"```text\n{printed.strip()}\n```", page)
    for made_there, shown in re.findall(PICTURE, text):
        shutil.copyfile(folder / made_there, DOCS / shown)


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
