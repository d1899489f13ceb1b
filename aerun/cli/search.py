"""``aerun-search RUN FILE IMAGE...``: similar, cropped and duplicate images in a collection."""

from __future__ import annotations

import argparse
import json
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerun.base.arguments import Parser, count, distance_or_auto, png_file
from aerun.cli.command import add_folder_option, add_overwrite_option, add_run_arguments, run_command
from aerun.errors import ConfigError
from aerun.use.outputs import plural, require_absent

if TYPE_CHECKING:
    from collections.abc import Callable

    from aerun.use.collection.fingerprints import Fingerprints
    from aerun.use.opened_run import OpenedRun
    from aerun.use.search.duplicates import Pairs
    from aerun.use.search.queries import Query
    from aerun.use.search.vector_index import Found, Metric, Neighbors

EXAMPLES = """\
  %(prog)s outputs/RUN fingerprints.npz sketch.png                        # the 12 nearest
  %(prog)s outputs/RUN fingerprints.npz animals/cat.png -k 5 --json       # an image of the collection, by its name
  %(prog)s outputs/RUN fingerprints.npz new/*.jpg --sheet found.png
  %(prog)s outputs/RUN fingerprints.npz photo.jpg --by copy               # what this is a photo, scan or part of
  %(prog)s outputs/RUN fingerprints.npz photo.jpg --by all                # by code, copy and color; says which found it
  %(prog)s outputs/RUN fingerprints.npz part.png --cropped                # the image it was cropped from, by codes
  %(prog)s outputs/RUN fingerprints.npz --duplicates auto                 # near-duplicates in the collection
  %(prog)s outputs/RUN fingerprints.npz --duplicates auto --sheet twice.png --overwrite"""
METRICS = ("cosine", "euclidean", "hamming")
KINDS = ("exact", "hnsw")
BY_CODE = ("code", "likeness")
MAX_VIEWS = 10
log = logging.getLogger(__name__)


def build_parser() -> Parser:
    """All options."""
    parser = Parser("Find images of a collection that are similar to given ones, or to each other.", EXAMPLES)
    add_run_arguments(parser)
    add = parser.add_argument
    add("fingerprints", metavar="FILE", type=Path, help="a file that aerun-embed made with this run")
    add("images", metavar="IMAGE", nargs="*", help="a name in the collection, an image file, or a folder")
    add(
        "--by",
        choices=(*BY_CODE, "copy", "motif", "color", "all"),
        default="code",
        help="what has to be similar: code or likeness, the same (code); copy: the image that each query is a smaller, "
        "cropped, mirrored, recolored, scanned or photographed copy of, by thumbnails; motif: the image that contains "
        "it, also if it is a smaller part; color: colors, without margins; all: code, copy and color, each by how few "
        "pairs of the collection are as near",
    )
    add("-k", type=count, default=12, help="number of neighbors (12)")
    add(
        "--metric",
        choices=METRICS,
        help="distance between codes (cosine; with --cropped euclidean); "
        "hamming: number of values that differ, of a quantized latent",
    )
    add("--index", choices=KINDS, default="exact", help="hnsw: a graph for millions, stored next to FILE (exact)")
    add(
        "--views",
        type=int,
        choices=range(1, MAX_VIEWS + 1),
        metavar="N",
        help=f"encode N versions of each query, all but the first with margins (1; with --cropped {MAX_VIEWS})",
    )
    add(
        "--cropped",
        action="store_true",
        help="find the image that each query was cropped from, by up to a fifth: sort the nearest codes by pixels",
    )
    add(
        "--duplicates",
        metavar="DISTANCE",
        type=distance_or_auto,
        help="list all pairs of the collection within this distance; auto: the distance of an image to a JPEG of "
        "half its size",
    )
    add_folder_option(parser)
    add("--json", action="store_true", help="print JSON instead of a table")
    add("--sheet", metavar="PNG", type=png_file, help="draw the results as a contact sheet")
    add_overwrite_option(parser)
    return parser


def main() -> int:
    """The console command."""
    return run_command(build_parser, execute)


def execute(arguments: argparse.Namespace) -> None:
    """Search, print, draw."""
    if not arguments.images and arguments.duplicates is None:
        raise ConfigError("name an IMAGE, or use --duplicates auto")
    _check_by(arguments)
    if arguments.sheet is not None:
        require_absent([arguments.sheet], arguments.overwrite)
    from aerun.use.collection.fingerprint_files import load_fingerprints

    fingerprints = load_fingerprints(arguments.fingerprints, arguments.folder)
    by_looks = arguments.by not in BY_CODE
    if by_looks:
        fingerprints.require_looks()

    from aerun.use.collection.thumbnails import Thumbnails
    from aerun.use.opened_run import open_run
    from aerun.use.search.queries import find_queries
    from aerun.use.search.search_results import draw_answer, format_answer, neighbors_as_json

    run = open_run(arguments.run, arguments.device, arguments.trust)
    fingerprints.require_same_run(run)
    if arguments.metric == "hamming":
        _check_hamming(arguments, run)
    metric: Metric = arguments.metric or ("euclidean" if arguments.cropped else "cosine")
    views = arguments.views or (MAX_VIEWS if arguments.cropped else 1)
    needed = int(arguments.by == "all") if by_looks else 1 if arguments.cropped else views
    queries = find_queries(run, fingerprints, arguments.images, needed)
    answer: dict[str, Any] = {"collection": len(fingerprints), "metric": metric, "index": arguments.index}
    neighbors, pairs = None, None
    if queries:
        queries, search = _prepare(arguments, run, fingerprints, queries, metric, views)
        start = time.perf_counter()
        neighbors = search()
        answer["seconds"] = time.perf_counter() - start
        if by_looks or arguments.cropped:
            answer["neighbours_by"] = arguments.by if by_looks else "pixels"
        answer["queries"] = neighbors_as_json(fingerprints, queries, neighbors)
    if arguments.duplicates is not None:
        pairs = _find_duplicates(arguments, run, fingerprints, metric, answer)
        answer["duplicates"] = [
            {"files": [fingerprints.names[row] for row in rows], "distance": float(distance)}
            for rows, distance in zip(pairs.rows.tolist(), pairs.distances, strict=True)
        ]
        answer["groups"] = [[fingerprints.names[row] for row in rows] for rows in pairs.groups()]
    print(json.dumps(answer, indent=2, ensure_ascii=False) if arguments.json else format_answer(answer, arguments.k))
    if arguments.sheet is not None:
        draw_answer(arguments.sheet, Thumbnails(run, fingerprints), queries, neighbors, pairs)


def _check_by(arguments: argparse.Namespace) -> None:
    """ConfigError for options that only a search by codes alone has."""
    given = {"--metric": arguments.metric, "--views": arguments.views, "--cropped": arguments.cropped}
    given |= {"--index hnsw": arguments.index != "exact", "--duplicates": arguments.duplicates is not None}
    others = [option for option, value in given.items() if value]
    if arguments.by not in BY_CODE and others:
        why = "codes are compared by cosine" if arguments.by == "all" else "codes are not compared"
        raise ConfigError(f"--by {arguments.by} and {others[0]}: {why}; leave one of the two out")


def _check_hamming(arguments: argparse.Namespace, run: OpenedRun) -> None:
    """ConfigError where the Hamming distance has no meaning, or is not computed."""
    from aerun.use.collection.quantized_codes import is_quantized

    if not is_quantized(run):
        raise ConfigError(f"--metric hamming: the codes of {run.folder} are not quantized; use cosine or euclidean")
    if arguments.duplicates is not None:
        raise ConfigError("--metric hamming and --duplicates: near-duplicates need cosine or euclidean")


def _prepare(
    arguments: argparse.Namespace,
    run: OpenedRun,
    fingerprints: Fingerprints,
    queries: list[Query],
    metric: Metric,
    views: int,
) -> tuple[list[Query], Callable[[], Neighbors | Found]]:
    """The queries whose images can be read, where they are needed, and the search for them."""
    import numpy as np

    from aerun.use.search.code_search import open_index
    from aerun.use.search.copy_search import LOOK_SEARCHES
    from aerun.use.search.crop_search import read_query_images, search_cropped
    from aerun.use.search.fused_search import search_all
    from aerun.use.search.queries import read_pictures

    k = arguments.k
    if arguments.by not in BY_CODE:
        queries, pictures = read_pictures(run, queries)
        if arguments.by == "all":
            return queries, lambda: search_all(fingerprints, queries, pictures, k)
        excluded = [query.excluded for query in queries]
        return queries, lambda: LOOK_SEARCHES[arguments.by](fingerprints, pictures, k, excluded)
    file = arguments.fingerprints
    index = open_index(fingerprints, metric, arguments.index, file.with_name(f"{file.name}.{metric}.hnsw"))
    if arguments.cropped:
        queries, images = read_query_images(run, fingerprints, queries)
        excluded = [query.excluded for query in queries]
        return queries, lambda: search_cropped(
            run, fingerprints, images, k, views=views, index=index, excluded=excluded
        )
    codes = np.stack([query.code for query in queries])
    return queries, lambda: index.query(codes, k, [query.excluded for query in queries])


def _find_duplicates(
    arguments: argparse.Namespace, run: OpenedRun, fingerprints: Fingerprints, metric: Metric, answer: dict[str, Any]
) -> Pairs:
    """The pairs. Notes the threshold in ``answer``, and the share of copies within it where it was estimated."""
    from aerun.use.search.duplicate_threshold import estimate_threshold
    from aerun.use.search.duplicates import duplicates

    answer["threshold"] = arguments.duplicates
    if arguments.duplicates == "auto":
        estimate = estimate_threshold(run, fingerprints, metric)
        answer |= {"threshold": estimate.threshold, "copies_within": estimate.copies}
        if estimate.warning:
            log.warning("%s", estimate.warning)
    if fingerprints.blank:
        log.warning("%s left out of the near-duplicates", plural(len(fingerprints.blank), "blank image"))
    return duplicates(fingerprints, answer["threshold"], metric=metric)
