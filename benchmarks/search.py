"""How long a search takes: ``python benchmarks/search.py``

A query among 100,000 codes must take less than 0.1 s, exactly. The graph (``--graph``, the extra ``search``) is
measured as well: how long it is built, how long a query takes, and how many of the true neighbors it finds. With
``--keep FOLDER`` graphs and the seconds that they took are kept there, so that queries can be timed later, by
themselves, on a quiet machine. The codes are made up: points of a smooth surface of 16 dimensions, with noise, since
those of independent numbers have no neighbors.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from aerun.base.arguments import Parser, count
from aerun.cli.command import run_command
from aerun.use.search.vector_index import Metric
from benchmarks.machine import circumstances
from benchmarks.page import write_section

PAGE = Path(__file__).resolve().parent.parent / "docs" / "search.md"
HEAD = "# Search\n\nEvery section is written by the command that it names, never by hand.\n"
SIZES, NEIGHBORS, ASKED, TARGET = (64, 128, 256), 12, 50, 0.1


def made_up(count: int, size: int) -> np.ndarray:
    random = np.random.default_rng(0)
    inner = random.normal(0, 1, (count, 16)).astype(np.float32)
    weights = random.normal(0, 1, (16, size)).astype(np.float32)
    codes = np.tanh(inner @ weights / 4)
    codes += 0.05 * random.normal(0, 1, codes.shape).astype(np.float32)
    return codes


def opened(codes: np.ndarray, metric: Metric, kind: str, keep: Path | None):
    """An index, and the seconds of this process's CPU time that it took to be made, now or when it was kept."""
    from aerun.use.search.code_search import open_index

    place = None if keep is None or kind == "exact" else keep / f"{len(codes)}x{codes.shape[1]}.{metric}.{kind}"
    noted = None if place is None else place.with_suffix(".json")
    start = time.process_time()
    index = open_index(codes, metric, kind, place)
    seconds = time.process_time() - start
    if noted is not None and noted.exists():
        seconds = json.loads(noted.read_text())
    elif noted is not None:
        noted.write_text(json.dumps(seconds))
    return index, seconds


def timed(index, queries: np.ndarray) -> tuple[np.ndarray, float, float]:
    """The neighbors of each query, searched for one by one; the median and the worst time, in seconds."""
    index.query(queries[:1], NEIGHBORS)
    rows, times = [], []
    for query in queries:
        start = time.perf_counter()
        rows.append(index.query(query[None], NEIGHBORS).rows[0])
        times.append(time.perf_counter() - start)
    return np.stack(rows), float(np.median(times)), max(times)


def parser() -> Parser:
    result = Parser("Measure searches among made-up codes.", "  python %(prog)s --graph")
    result.add_argument("--count", type=count, default=100_000, help="how many codes (100,000)")
    result.add_argument("--sizes", type=count, nargs="+", default=list(SIZES), help="numbers of a code (64 128 256)")
    result.add_argument("--graph", action="store_true", help="measure hnsw, too")
    result.add_argument("--keep", type=Path, metavar="FOLDER", help="for graphs, and the next time")
    result.add_argument("--write", action="store_true", help=f"write the section of {PAGE.name}")
    return result


def work(asked) -> int:
    if asked.keep is not None:
        asked.keep.mkdir(parents=True, exist_ok=True)
    lines = [
        "| index | metric | codes | ready after (CPU s) | query, median (ms) | worst (ms) | true neighbors found |"
    ]
    lines += ["|---|---|---|---|---|---|---|"]
    slowest = 0.0
    for size in asked.sizes:
        codes = made_up(asked.count + ASKED, size)
        codes, queries = codes[ASKED:], codes[:ASKED]
        for metric in ("cosine", "euclidean"):
            true = None
            for kind in ("exact", "hnsw") if asked.graph else ("exact",):
                index, ready = opened(codes, metric, kind, asked.keep)
                rows, median, worst = timed(index, queries)
                true = rows if true is None else true
                found = np.mean([len(set(a) & set(b)) / NEIGHBORS for a, b in zip(rows, true, strict=True)])
                slowest = max(slowest, median) if kind == "exact" else slowest
                lines.append(
                    f"| {kind} | {metric} | {len(codes):,} x {size} | {ready:.2f} | {median * 1000:.1f} | "
                    f"{worst * 1000:.1f} | {found:.1%} |"
                )
                print(lines[-1], flush=True)
    met = slowest < TARGET
    verdict = f"The slowest exact median is {slowest:.4f} s, the target {TARGET} s: {'met' if met else 'NOT met'}."
    where = circumstances("search.py", "cpu", "one process", ("numpy", "faiss-cpu"))
    title = f"## Times among {asked.count:,} codes"
    head = f"{ASKED} queries, one by one, {NEIGHBORS} neighbors each. {verdict}"
    text = "\n".join([title, "", head, "", *lines, "", where])
    print(text)
    if asked.write:
        if not PAGE.exists():
            PAGE.write_text(HEAD)
        write_section(f"times {asked.count}", text, PAGE)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(run_command(parser, work))
