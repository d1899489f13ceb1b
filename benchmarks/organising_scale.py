"""What does it cost to organize many pictures? ``python benchmarks/organising_scale.py FILE [--pictures 100000]``

FILE is one of aerun-embed. Its pictures are repeated, with noise of a tenth of the deviation on codes and the lowest
bits of the rest, up to the number wanted: nothing is decoded or encoded. Each step is a process of its own, whose time
and largest memory are measured: writing the file, reading it, sorting it into clusters, two levels, near-duplicates.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from aerun.base.arguments import Parser, count
from aerun.cli.command import run_command
from benchmarks.machine import circumstances
from benchmarks.page import write_section

PAGE = Path(__file__).resolve().parent.parent / "docs" / "organize.md"
STEPS = {
    "write the file": "written",
    "read it": "load_fingerprints(file)",
    "clusters": "organise(load_fingerprints(file))",
    "clusters, `--levels 2`": "organise(load_fingerprints(file), levels=2)",
    "near-duplicates": "duplicates(load_fingerprints(file), 1e-4)",
}


def enlarge(path: Path, total: int, into: Path) -> None:
    """Write the pictures of a file again and again, with noise."""
    from aerun.use.collection.fingerprint_files import load_fingerprints, save_fingerprints
    from aerun.use.collection.fingerprints import Fingerprints
    from aerun.use.collection.looks import Looks

    known, random = load_fingerprints(path), np.random.default_rng(0)
    assert known.looks is not None
    rows = random.integers(0, len(known), total)
    noise = random.normal(0, 0.1, (total, known.whole_codes.shape[1])).astype(np.float32)
    arrays = {name: values[rows] for name, values in known.looks.arrays().items()}
    for values in arrays.values():
        if values.dtype == np.uint8:
            values ^= random.integers(0, 4, values.shape, np.uint8)
    names = [f"{number:07d}/{known.names[row]}" for number, row in enumerate(rows)]
    codes = known.whole_codes[rows] + noise * known.whole_codes.std(0)
    large = Fingerprints(names, codes, known.weights, known.run, known.root, looks=Looks(**arrays))
    save_fingerprints(large, into, large.pack(), overwrite=True)


def measure(step: str, file: Path, source: Path, total: int) -> tuple[float, float]:
    """CPU seconds, and the largest memory in MB, of a process that imports everything first."""
    work = f"enlarge(Path({str(source)!r}), {total}, file)" if STEPS[step] == "written" else STEPS[step]
    code = f"""
import sys, time, resource, json
from pathlib import Path
sys.path.insert(0, {str(PAGE.parent.parent)!r})
from aerun.use.collection.fingerprint_files import load_fingerprints
from aerun.use.clusters.clustering import organise
from aerun.use.search.duplicates import duplicates
from benchmarks.organising_scale import enlarge
import torch, sklearn.mixture, sklearn.decomposition
file, start = Path({str(file)!r}), time.process_time()
{work}
print(json.dumps([time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, megabytes = json.loads(done.stdout.splitlines()[-1])
    return seconds, megabytes


def parser() -> Parser:
    result = Parser("Measure large collections.", "  python %(prog)s art.npz --pictures 100000 --write")
    result.add_argument("file", metavar="FILE", type=Path, help="of aerun-embed, made from a folder")
    result.add_argument("--pictures", type=count, default=100_000, help="how many (100,000)")
    result.add_argument("--write", action="store_true", help=f"write the section of {PAGE.name}")
    return result


def work(asked) -> int:
    lines = ["| step | CPU seconds | largest memory (MB) |", "|---|---|---|"]
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "large.npz"
        for step in STEPS:
            seconds, megabytes = measure(step, file, asked.file, asked.pictures)
            lines.append(f"| {step} | {seconds:.1f} | {megabytes:,.0f} |")
            print(lines[-1], flush=True)
        each = file.stat().st_size / asked.pictures
    head = (
        f"{asked.pictures:,} pictures: those of a file of aerun-embed, repeated with noise; nothing is decoded or "
        f"encoded. The file takes {each:,.0f} bytes for each. Every step but the first reads the file first."
    )
    where = circumstances("organising_scale.py", "cpu", "one process a step", ("torch", "numpy", "scikit-learn"))
    text = "\n".join([f"## {asked.pictures:,} pictures", "", head, "", *lines, "", where])
    print(text)
    if asked.write:
        write_section(f"scale {asked.pictures}", text, PAGE)
    return 0


def main() -> int:
    return run_command(parser, work)


if __name__ == "__main__":
    sys.exit(main())
