"""``aerun-search RUN FILE IMAGE...``: similar, cropped and duplicate images in a collection."""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerun.base.arguments import Parser, count
from aerun.cli.command import add_folder_option, add_overwrite_option, add_run_arguments, run_command
from aerun.errors import ConfigError
from aerun.use.outputs import plural, require_absent

if TYPE_CHECKING:
    import numpy as np

    from aerun.use.collection.fingerprints import Fingerprints
    from aerun.use.opened_run import OpenedRun
    from aerun.use.search.duplicates import Pairs
    from aerun.use.search.queries import Query
    from aerun.use.search.vector_index import ExactIndex, Metric, Neighbors

EXAMPLES = """\
  %(prog)s outputs/RUN fingerprints.npz sketch.png                        # the 12 nearest
  %(prog)s outputs/RUN fingerprints.npz animals/cat.png -k 5 --json       # an image of the collection, by its name
  %(prog)s outputs/RUN fingerprints.npz new/*.jpg --sheet found.png
  %(prog)s outputs/RUN fingerprints.npz photo.jpg --by copy               # what this is a photo, scan or part of
  %(prog)s outputs/RUN fingerprints.npz part.png --cropped                # the image it was cropped from, by codes
  %(prog)s outputs/RUN fingerprints.npz --duplicates auto                 # near-duplicates in the collection
  %(prog)s outputs/RUN fingerprints.npz --duplicates auto --sheet twice.png --overwrite"""
METRICS = ("cosine", "euclidean", "hamming")
KINDS = ("exact", "hnsw")
MAX_GROUPS_DRAWN = 40
MAX_VIEWS = 10
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


def png_file(text: str) -> Path:
    """For ``--sheet``."""
    path = Path(text)
    if path.suffix != ".png":
        raise argparse.ArgumentTypeError(f"'{text}': must end in .png")
    return path


def build_parser() -> Parser:
    """All options."""
    parser = Parser("Find images of a collection that are similar to given ones, or to each other.", EXAMPLES)
    add_run_arguments(parser)
    add = parser.add_argument
    add("fingerprints", metavar="FILE", type=Path, help="a file that aerun-embed made with this run")
    add("images", metavar="IMAGE", nargs="*", help="a name in the collection, an image file, or a folder")
    add(
        "--by",
        choices=("code", "copy", "color"),
        default="code",
        help="what has to be similar (code); copy: the image that each query is a smaller, cropped, mirrored, "
        "recolored, scanned or photographed copy of, by thumbnails; color: colors, without margins",
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
        type=threshold,
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

    from aerun.use.opened_run import open_run
    from aerun.use.search.queries import find_queries
    from aerun.use.search.search_results import format_answer, neighbors_as_json

    run = open_run(arguments.run, arguments.device, arguments.trust)
    fingerprints.require_same_run(run)
    if arguments.metric == "hamming":
        _check_hamming(arguments, run)
    metric: Metric = arguments.metric or ("euclidean" if arguments.cropped else "cosine")
    views = arguments.views or (MAX_VIEWS if arguments.cropped else 1)
    queries = find_queries(run, fingerprints, arguments.images, 1 if arguments.cropped else views)
    answer: dict[str, Any] = {"collection": len(fingerprints), "metric": metric, "index": arguments.index}
    neighbors, pairs = None, None
    if queries and arguments.by != "code":
        queries, neighbors, answer["seconds"] = _search_looks(arguments, run, fingerprints, queries)
        answer["neighbours_by"] = arguments.by
    elif queries and arguments.cropped:
        queries, neighbors, answer["seconds"] = _search_cropped(arguments, run, fingerprints, queries, metric, views)
        answer["neighbours_by"] = "pixels"
    elif queries:
        neighbors, answer["seconds"] = _search(arguments, fingerprints, queries, metric)
    if neighbors is not None:
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
        _draw(arguments.sheet, run, fingerprints, queries, neighbors, pairs)


def _check_by(arguments: argparse.Namespace) -> None:
    """ConfigError for options that only a search by codes has."""
    given = {"--metric": arguments.metric, "--views": arguments.views, "--cropped": arguments.cropped}
    given |= {"--index hnsw": arguments.index != "exact", "--duplicates": arguments.duplicates is not None}
    others = [option for option, value in given.items() if value]
    if arguments.by != "code" and others:
        raise ConfigError(f"--by {arguments.by} and {others[0]}: codes are not compared; leave one of the two out")


def _check_hamming(arguments: argparse.Namespace, run: OpenedRun) -> None:
    """ConfigError where the Hamming distance has no meaning, or is not computed."""
    from aerun.use.collection.quantized_codes import is_quantized

    if not is_quantized(run):
        raise ConfigError(f"--metric hamming: the codes of {run.folder} are not quantized; use cosine or euclidean")
    if arguments.duplicates is not None:
        raise ConfigError("--metric hamming and --duplicates: near-duplicates need cosine or euclidean")


def _open_index(arguments: argparse.Namespace, fingerprints: Fingerprints, metric: Metric) -> ExactIndex:
    from aerun.use.search.code_search import open_index

    file = arguments.fingerprints
    return open_index(fingerprints, metric, arguments.index, file.with_name(f"{file.name}.{metric}.hnsw"))


def _search(
    arguments: argparse.Namespace, fingerprints: Fingerprints, queries: list[Query], metric: Metric
) -> tuple[Neighbors, float]:
    """The neighbors, and the seconds of the search alone."""
    import numpy as np

    index = _open_index(arguments, fingerprints, metric)
    start = time.perf_counter()
    codes = np.stack([query.code for query in queries])
    neighbors = index.query(codes, arguments.k, [query.excluded for query in queries])
    return neighbors, time.perf_counter() - start


def _search_cropped(
    arguments: argparse.Namespace,
    run: OpenedRun,
    fingerprints: Fingerprints,
    queries: list[Query],
    metric: Metric,
    views: int,
) -> tuple[list[Query], Neighbors, float]:
    """The queries whose images can be read, the images they were cropped from, and the seconds of the search."""
    from aerun.use.search.crop_search import read_query_images, search_cropped

    index = _open_index(arguments, fingerprints, metric)
    start = time.perf_counter()
    queries, images = read_query_images(run, fingerprints, queries)
    excluded = [query.excluded for query in queries]
    neighbors = search_cropped(run, fingerprints, images, arguments.k, views=views, index=index, excluded=excluded)
    return queries, neighbors, time.perf_counter() - start


def _search_looks(
    arguments: argparse.Namespace, run: OpenedRun, fingerprints: Fingerprints, queries: list[Query]
) -> tuple[list[Query], Neighbors, float]:
    """The queries whose images can be read, their neighbors by thumbnails or colors, and the seconds of the search."""
    from aerun.use.search.copy_search import read_pictures, require_looks, search_colors, search_copies

    require_looks(fingerprints)
    queries, pictures = read_pictures(run, queries)
    search = search_copies if arguments.by == "copy" else search_colors
    start = time.perf_counter()
    neighbors = search(fingerprints, pictures, arguments.k, [query.excluded for query in queries])
    return queries, neighbors, time.perf_counter() - start


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


def _draw(
    path: Path,
    run: OpenedRun,
    fingerprints: Fingerprints,
    queries: list[Query],
    neighbors: Neighbors | None,
    pairs: Pairs | None,
) -> None:
    """The contact sheet of what was found."""
    from aerun.use.collection.thumbnails import Thumbnails
    from aerun.use.image_files import write_png
    from aerun.use.search.search_results import draw_groups, draw_neighbors, stack_sheets

    thumbnails = Thumbnails(run, fingerprints)
    sheets: list[np.ndarray] = []
    if neighbors is not None:
        sheets.append(draw_neighbors(thumbnails, queries, neighbors))
    if pairs is not None:
        sheets.append(draw_groups(thumbnails, pairs, MAX_GROUPS_DRAWN))
    write_png(path, stack_sheets(sheets))
    thumbnails.warn_of_missing()
