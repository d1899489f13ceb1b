"""How readable the code is, in figures.

    python scripts/house.py                      # this checkout
    python scripts/house.py FOLDER               # another one
    python scripts/house.py --before REVISION    # a revision of its repository as well
    python scripts/house.py --static             # without the run that follows a batch for three steps
    python scripts/house.py --json

Names follow the table: the files that a batch passes through, the arrows upwards, the circles.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts import house_counts as counts  # noqa: E402

BATCH = "files on the way of one batch"
SHORT_RUN = ("trainer.epochs=1", "dataset.train_limit=600")
DECLARED = "as ROOMS in tests/test_layers.py"
DERIVED = "in an order with few arrows upwards, since tests/test_layers.py has no ROOMS"
LONG_FUNCTION, LONG_FILE = 60, 250  # lines
# figure -> at most
GOALS = {
    "rooms (aerun/, scripts/, benchmarks/)": 30,
    "arrows between rooms": 160,
    "arrows upwards": 1,
    "names by which ROOMS and the rooms differ": 0,
    "circles of rooms": 0,
    "circles of files": 0,
    BATCH: 8,
    "getattr and hasattr": 40,
    "bytes of README.md": 10_000,
}


@dataclass
class House:
    """What is counted in one checkout: figures, and the names behind some of them."""

    figures: dict[str, int]
    names: dict[str, list[str]]

    def __or__(self, other: House) -> House:
        return House(self.figures | other.figures, self.names | other.names)


def measure(root: Path, batch: bool = True) -> House:
    """All figures of a checkout; with ``batch`` a short run is started, which needs torch.

    Raises RuntimeError where that run does not come to its third step.
    """
    house = count_structure(root) | count_style(root)
    return house | follow_batch(root) if batch else house


def misses(figures: Mapping[str, int]) -> list[str]:
    """One line for each figure that is over its goal."""
    over = {name: most for name, most in GOALS.items() if figures.get(name, 0) > most}
    return [f"{name}: {figures[name]}, at most {most}" for name, most in over.items()]


def count_structure(root: Path) -> House:
    """Rooms, arrows and circles."""
    trees = counts.parse_files(root, "aerun", *counts.OUTSIDE)
    rooms, by_file = {counts.room(file) for file in trees}, counts.file_arrows(trees)
    arrows = counts.room_arrows(by_file)
    declared = counts.declared_floors(root)
    floors = [counts.OUTSIDE, *declared] if declared else counts.derived_floors(arrows, rooms)
    placed = {name for floor in floors for name in floor}
    differing = (placed ^ rooms) - set(counts.OUTSIDE)
    upwards = counts.upward_arrows({arrow for arrow in arrows if placed.issuperset(arrow)}, floors)
    circles = {"circles of rooms": counts.circles(arrows), "circles of files": counts.circles(by_file)}
    figures = {
        "rooms (aerun/, scripts/, benchmarks/)": len(rooms),
        "rooms of aerun/": len(rooms - set(counts.OUTSIDE)),
        "arrows between rooms": len(arrows),
        "arrows between rooms of aerun/": len(counts.within_package(arrows)),
        "arrows between files of different rooms": len(counts.crossing(by_file)),
        "arrows upwards": len(upwards),
        "arrows upwards inside rooms": sum(map(len, counts.upward_inside(by_file))),
        "names by which ROOMS and the rooms differ": len(differing),
        **{name: len(found) for name, found in circles.items()},
        "rooms in circles": sum(map(len, circles["circles of rooms"])),
        "files in circles": sum(map(len, circles["circles of files"])),
    }
    names = {
        "arrows upwards": [
            f"{' -> '.join(arrow)}, in {', '.join(counts.drawn_in(arrow, by_file))}" for arrow in upwards
        ],
        "names by which ROOMS and the rooms differ": sorted(differing),
        **{name: [", ".join(circle) for circle in found] for name, found in circles.items()},
        f"rooms from the top down, {DECLARED if declared else DERIVED}": [" / ".join(map(", ".join, floors))],
    }
    return House(figures, names)


def count_style(root: Path) -> House:
    """Spelling, sizes and words."""
    trees = counts.parse_files(root, "aerun")
    code = [(root / file).read_text("utf-8") for file in trees]
    prose = [path.read_text("utf-8") for path in counts.prose_files(root)]
    lines = {file: len(text.splitlines()) for file, text in zip(trees, code, strict=True)}
    words = {f"'{word}'": counts.count_words(prose, word) for word in counts.OFFENDERS}
    readme = root / "README.md"
    long_functions = counts.long_functions(trees, LONG_FUNCTION)
    long_files = [file for file, count in lines.items() if count > LONG_FILE]
    figures = {
        "getattr and hasattr": sum(counts.count_words(code, name) for name in ("getattr", "hasattr")),
        "getattr and hasattr as calls": counts.count_calls(trees, ("getattr", "hasattr")),
        "imports in functions": counts.local_imports(trees),
        "TYPE_CHECKING blocks": counts.type_checking_blocks(trees),
        "bytes of README.md": readme.stat().st_size if readme.exists() else 0,
        "frequent offenders, in words": sum(words.values()),
        **words,
        "files of aerun/": len(lines),
        "lines of aerun/": sum(lines.values()),
        f"functions over {LONG_FUNCTION} lines": len(long_functions),
        f"files over {LONG_FILE} lines": len(long_files),
    }
    return House(figures, {"long functions": long_functions, "long files": long_files})


def follow_batch(root: Path) -> House:
    """The files on the way of one batch of the default command, on the CPU."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "batch.json"
        script = Path(__file__).with_name("house_batch.py")
        command = [sys.executable, str(script), str(root), str(output), *SHORT_RUN]
        path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        if not output.exists():
            last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
            raise RuntimeError(f"{root}/scripts/train.py {' '.join(SHORT_RUN)}: ended before its third step: {last}")
        found = json.loads(output.read_text("utf-8"))
    stack, called, handed = (set(found[name]) - {"aerun/__init__.py"} for name in ("stack", "called", "handed"))
    names = {
        f"{BATCH}, from the command to the step": stack,
        f"{BATCH}, that are handed it": handed,
        BATCH: stack | handed,
        "files called for anything in one step": stack | called,
    }
    return House({name: len(files) for name, files in names.items()}, {k: sorted(v) for k, v in names.items()})


def unpack(repository: Path, revision: str, folder: Path) -> None:
    """Write the files of a revision into ``folder``."""
    command = ["git", "-C", str(repository), "archive", "--format=tar", revision]
    done = subprocess.run(command, capture_output=True)
    if done.returncode:
        raise RuntimeError(f"--before {revision}: {done.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")


def table(houses: Mapping[str, House]) -> str:
    """A Markdown table, one column for each checkout and one for the goals."""
    figures = dict.fromkeys(name for house in houses.values() for name in house.figures)
    rows = [["", *houses, "at most"]]
    for name in figures:
        values = [f"{house.figures[name]:,}" if name in house.figures else "-" for house in houses.values()]
        rows.append([name, *values, f"{GOALS[name]:,}" if name in GOALS else ""])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [_line(name.ljust(widths[0]), *map(str.rjust, values, widths[1:])) for name, *values in rows]
    rule = _line("-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:]))
    return "\n".join([lines[0], rule, *lines[1:]])


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def listing(column: str, house: House) -> str:
    """The names behind the figures, one a line."""
    blocks = [[f"{name}:", *(f"  {line}" for line in lines)] for name, lines in house.names.items() if lines]
    return "\n".join([f"== {column}", *(line for block in blocks for line in block)])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT, help="a checkout; default: this one")
    parser.add_argument("--before", metavar="REVISION", help="measure this revision of its repository as well")
    parser.add_argument("--static", action="store_true", help="do not train: leave out the files of a batch")
    parser.add_argument("--json", action="store_true", help="print the figures and all names as JSON")
    chosen = parser.parse_args()
    root, houses = chosen.folder.resolve(), {}
    try:
        if not (root / "aerun").is_dir():
            raise RuntimeError(f"{chosen.folder}: has no folder aerun/; name a checkout of it")
        if chosen.before:
            with tempfile.TemporaryDirectory() as folder:
                unpack(root, chosen.before, Path(folder))
                houses["before"] = measure(Path(folder).resolve(), not chosen.static)
        houses["after" if chosen.before else "now"] = measure(root, not chosen.static)
    except RuntimeError as error:
        sys.exit(f"house: {error}")
    if chosen.json:
        print(json.dumps({name: asdict(house) for name, house in houses.items()}, indent=2))
    else:
        print(table(houses), *(listing(name, house) for name, house in houses.items()), sep="\n\n")


if __name__ == "__main__":
    main()
