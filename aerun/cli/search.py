"""``aerun-search``: the pictures of a collection that are most like given ones, and those that are nearly the same."""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerun.base.arguments import Parser, count
from aerun.cli.command import add_run_arguments, run_command
from aerun.errors import ConfigError
from aerun.use.outputs import add_overwrite_option, require_absent

if TYPE_CHECKING:
    import numpy as np

    from aerun.use.collection.fingerprints import Fingerprints
    from aerun.use.opened_run import OpenedRun
    from aerun.use.search.queries import Query
    from aerun.use.search.vector_index import ExactIndex, Metric, Neighbors, Pairs

EXAMPLES = """\
  %(prog)s outputs/RUN fingerprints.npz sketch.png                        # the 12 nearest
  %(prog)s outputs/RUN fingerprints.npz animals/cat.png -k 5 --json       # one of the collection, by its name
  %(prog)s outputs/RUN fingerprints.npz new/*.jpg --sheet found.png
  %(prog)s outputs/RUN fingerprints.npz part.png --cropped                # what it was cropped from
  %(prog)s outputs/RUN fingerprints.npz --duplicates auto                 # what is there twice
  %(prog)s outputs/RUN fingerprints.npz --duplicates auto --sheet twice.png --overwrite"""
METRICS = ("cosine", "euclidean")
KINDS = ("exact", "hnsw")
SHEET_GROUPS = 40
MOST_VIEWS = 10
log = logging.getLogger(__name__)


def threshold(text: str) -> float | str:
    """For ``--duplicates``: a distance, or ``auto``."""
    if text == "auto":
        return text
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}': must be a distance, 0 or more, or auto")
    return value


def picture_file(text: str) -> Path:
    """For ``--sheet``."""
    path = Path(text)
    if path.suffix != ".png":
        raise argparse.ArgumentTypeError(f"'{text}': must end in .png")
    return path


def parser() -> Parser:
    """Its arguments."""
    result = Parser("Find the pictures of a collection that are most like given ones.", EXAMPLES)
    add_run_arguments(result)
    result.add_argument("fingerprints", metavar="FILE", type=Path, help="what aerun-embed made with this run")
    result.add_argument("images", metavar="IMAGE", nargs="*", help="a name in the collection, a picture, or a folder")
    result.add_argument("-k", type=count, default=12, help="how many neighbours (12)")
    result.add_argument("--metric", choices=METRICS, help="distance of codes (cosine; for --cropped euclidean)")
    result.add_argument(
        "--index", choices=KINDS, default="exact", help="hnsw: a graph for millions, kept beside FILE (exact)"
    )
    result.add_argument(
        "--views",
        type=int,
        choices=range(1, MOST_VIEWS + 1),
        metavar="N",
        help=f"show each picture also with a margin, N in all (1; for --cropped {MOST_VIEWS})",
    )
    result.add_argument(
        "--cropped",
        action="store_true",
        help="find what each picture was cropped from, by up to a fifth: of the nearest codes those whose pixels are",
    )
    result.add_argument(
        "--duplicates",
        metavar="DISTANCE",
        type=threshold,
        help="all pairs of the collection that near; auto: as near as a picture is to its own JPEG of half the size",
    )
    result.add_argument("--json", action="store_true", help="print JSON in place of a table")
    result.add_argument("--sheet", metavar="PNG", type=picture_file, help="draw what was found")
    add_overwrite_option(result)
    return result


def work(asked: argparse.Namespace) -> None:
    """Search, print, draw."""
    if not asked.images and asked.duplicates is None:
        raise ConfigError("name an IMAGE, or --duplicates auto")
    if asked.sheet is not None:
        require_absent([asked.sheet], asked.overwrite)
    from aerun.use.collection.fingerprints import load_fingerprints

    fingerprints = load_fingerprints(asked.fingerprints)

    from aerun.use.opened_run import open_run
    from aerun.use.search.queries import find_queries
    from aerun.use.search.told import format_answer, neighbors_as_json

    run = open_run(asked.run, asked.device, asked.trust)
    fingerprints.require_same_run(run)
    metric: Metric = asked.metric or ("euclidean" if asked.cropped else "cosine")
    views = asked.views or (MOST_VIEWS if asked.cropped else 1)
    wanted = find_queries(run, fingerprints, asked.images, 1 if asked.cropped else views)
    answer: dict[str, Any] = {"collection": len(fingerprints), "metric": metric, "index": asked.index}
    found, pairs = None, None
    if wanted and asked.cropped:
        wanted, found, answer["seconds"] = _cropped(asked, run, fingerprints, wanted, metric, views)
        answer["neighbours_by"] = "pixels"
    elif wanted:
        found, answer["seconds"] = _searched(asked, fingerprints, wanted, metric)
    if found is not None:
        answer["queries"] = neighbors_as_json(fingerprints, wanted, found)
    if asked.duplicates is not None:
        pairs = _doubled(asked, run, fingerprints, metric, answer)
        answer["duplicates"] = [
            {"files": [fingerprints.names[row] for row in rows], "distance": float(distance)}
            for rows, distance in zip(pairs.rows.tolist(), pairs.distances, strict=True)
        ]
        answer["groups"] = [[fingerprints.names[row] for row in rows] for rows in pairs.groups()]
    print(json.dumps(answer, indent=2, ensure_ascii=False) if asked.json else format_answer(answer, asked.k))
    if asked.sheet is not None:
        _drawn(asked, run, fingerprints, wanted, found, pairs)


def _index(asked: argparse.Namespace, fingerprints: Fingerprints, metric: Metric) -> ExactIndex:
    from aerun.use.search.vector_index import open_index

    keep = asked.fingerprints.with_name(f"{asked.fingerprints.name}.{metric}.hnsw")
    return open_index(fingerprints, metric, asked.index, keep)


def _searched(
    asked: argparse.Namespace, fingerprints: Fingerprints, wanted: list[Query], metric: Metric
) -> tuple[Neighbors, float]:
    """The neighbours, and how long the search itself took."""
    import numpy as np

    index = _index(asked, fingerprints, metric)
    start = time.perf_counter()
    found = index.query(np.stack([query.code for query in wanted]), asked.k, [query.excluded for query in wanted])
    return found, time.perf_counter() - start


def _cropped(
    asked: argparse.Namespace,
    run: OpenedRun,
    fingerprints: Fingerprints,
    wanted: list[Query],
    metric: Metric,
    views: int,
) -> tuple[list[Query], Neighbors, float]:
    """The queries whose pictures can be read, what they were cropped from, and how long that took."""
    from aerun.use.search.crop_search import read_query_images, search_cropped

    index = _index(asked, fingerprints, metric)
    start = time.perf_counter()
    wanted, images = read_query_images(run, fingerprints, wanted)
    leave = [query.excluded for query in wanted]
    found = search_cropped(run, fingerprints, images, asked.k, views=views, index=index, excluded=leave)
    return wanted, found, time.perf_counter() - start


def _doubled(
    asked: argparse.Namespace, run: OpenedRun, fingerprints: Fingerprints, metric: Metric, answer: dict[str, Any]
) -> Pairs:
    """The pairs; how near they are goes into ``answer``, and how well that tells copies, if it was measured."""
    from aerun.use.search.duplicate_threshold import estimate_threshold
    from aerun.use.search.vector_index import duplicates

    answer["threshold"] = asked.duplicates
    if asked.duplicates == "auto":
        measured = estimate_threshold(run, fingerprints, metric)
        answer |= {"threshold": measured.threshold, "copies_within": measured.copies}
        if measured.warning:
            log.warning("%s", measured.warning)
    return duplicates(fingerprints, answer["threshold"], metric=metric)


def _drawn(
    asked: argparse.Namespace,
    run: OpenedRun,
    fingerprints: Fingerprints,
    wanted: list[Query],
    found: Neighbors | None,
    pairs: Pairs | None,
) -> None:
    from aerun.use.collection.thumbnails import Thumbnails
    from aerun.use.image_files import write_png
    from aerun.use.search.search_results import draw_groups, draw_neighbors, stack_sheets

    thumbnails = Thumbnails(run, fingerprints)
    sheets: list[np.ndarray] = []
    if found is not None:
        sheets.append(draw_neighbors(thumbnails, wanted, found))
    if pairs is not None:
        sheets.append(draw_groups(thumbnails, pairs, SHEET_GROUPS))
    write_png(asked.sheet, stack_sheets(sheets))


def main() -> None:
    """The console command."""
    run_command(parser, work)
