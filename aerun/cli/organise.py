"""``aerun-organise RUN FILE``: cluster a collection, with a contact sheet for each cluster."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aerun.base.arguments import Parser, count, distance_or_auto, seed
from aerun.cli.command import add_folder_option, add_overwrite_option, add_run_arguments, run_command
from aerun.errors import AerunError, ConfigError
from aerun.use.outputs import check_output_folder, plural

if TYPE_CHECKING:
    from aerun.use.clusters.clustering import Clusters
    from aerun.use.collection.fingerprints import Fingerprints
    from aerun.use.opened_run import OpenedRun

EXAMPLES = """\
  %(prog)s outputs/RUN fingerprints.npz -o clusters                       # the number that the pictures suggest
  %(prog)s outputs/RUN fingerprints.npz -o clusters --clusters 20 --links
  %(prog)s outputs/RUN fingerprints.npz -o clusters --clusters 8-40
  %(prog)s outputs/RUN fingerprints.npz -o clusters --levels 2 --links
  %(prog)s outputs/RUN fingerprints.npz -o clusters --method hdbscan"""
METHODS = ("mixture", "kmeans", "hdbscan")
METRICS = ("cosine", "euclidean")
MAX_NUMBERS_PRINTED = 5
MAX_GROUPED = 200_000  # pictures; the search for near-duplicates compares all pairs
log = logging.getLogger(__name__)


def number_or_range(text: str) -> int | tuple[int, int]:
    """For ``--clusters``: 12, or 5-40."""
    least, dash, most = text.partition("-")
    if not dash:
        return count(text)
    low, high = count(least), count(most)
    if not 2 <= low <= high:
        raise argparse.ArgumentTypeError(f"'{text}': must be A-B with 2 <= A <= B")
    return low, high


def build_parser() -> Parser:
    """All options."""
    parser = Parser("Sort a collection into clusters of similar images. No image file is moved.", EXAMPLES)
    add_run_arguments(parser)
    add = parser.add_argument
    add("fingerprints", metavar="FILE", type=Path, help="a file that aerun-embed made with this run")
    add("-o", "--output", metavar="FOLDER", type=Path, required=True, help="a new or empty folder")
    add_overwrite_option(parser)
    add(
        "--clusters",
        type=number_or_range,
        metavar="N",
        help="a number, or A-B to choose the best one (1-32; kmeans 2-32)",
    )
    add(
        "--by",
        metavar="PARTS",
        help="what is compared: some of code,color,texture,size, with weights, code=4, or all (what FILE holds)",
    )
    add(
        "--method",
        choices=METHODS,
        default="mixture",
        help="mixture of Gaussians, whose number the Bayesian information criterion chooses; kmeans, by the mean "
        "silhouette; hdbscan, which leaves pictures out (mixture)",
    )
    add("--metric", choices=METRICS, default="cosine", help="of codes; cosine scales them to length 1 (cosine)")
    add("--levels", type=int, choices=(1, 2), default=1, help="2: split each cluster again, in folders of its own (1)")
    add(
        "--duplicates",
        metavar="DISTANCE",
        type=distance_or_auto,
        default="auto",
        help="of codes, within which pictures are shown as a group of near-duplicates; auto: that of a picture to a "
        "JPEG of half its size; 0: of equal codes (auto)",
    )
    add("--smallest", type=count, metavar="N", help="with hdbscan: number of images in the smallest cluster")
    add("--links", action="store_true", help="also make a folder of links to the images of each cluster")
    add_folder_option(parser)
    add("--seed", type=seed, default=0, help="seed of the initial centers and of samples (0)")
    return parser


def main() -> int:
    """The console command."""
    return run_command(build_parser, execute)


def execute(arguments: argparse.Namespace) -> None:
    """Cluster, write, print."""
    from aerun.use.clusters.cluster_files import CLUSTER_FOLDER, require_files, write_clusters
    from aerun.use.collection.fingerprint_files import load_fingerprints

    if arguments.method == "hdbscan" and arguments.clusters is not None:
        raise ConfigError("--clusters: hdbscan finds the number itself; drop it, or use --method kmeans")
    if arguments.method != "hdbscan" and arguments.smallest is not None:
        raise ConfigError("--smallest: applies only to --method hdbscan; drop it, or use that method")
    check_output_folder(arguments.output, CLUSTER_FOLDER, arguments.overwrite)
    fingerprints = load_fingerprints(arguments.fingerprints, arguments.folder)
    if arguments.links:
        require_files(fingerprints)

    from aerun.use.clusters.clustering import organise
    from aerun.use.collection.thumbnails import Thumbnails
    from aerun.use.opened_run import open_run

    run = open_run(arguments.run, arguments.device, arguments.trust)
    fingerprints.require_same_run(run)
    clusters = organise(
        fingerprints,
        arguments.clusters,
        by=arguments.by,
        method=arguments.method,
        metric=arguments.metric,
        smallest=arguments.smallest,
        levels=arguments.levels,
        seed=arguments.seed,
    )
    groups = find_groups(run, fingerprints, arguments)
    thumbnails = Thumbnails(run, fingerprints)
    write_clusters(
        arguments.output, thumbnails, clusters, groups=groups, links=arguments.links, overwrite=arguments.overwrite
    )
    thumbnails.warn_of_missing()
    print(format_clusters(fingerprints, clusters, groups))
    print(f"{arguments.output}: clusters.csv, overview.png, sheets/{', links/' if arguments.links else ''}")


def find_groups(run: OpenedRun, fingerprints: Fingerprints, arguments: argparse.Namespace) -> list[list[int]]:
    """Rows of near-duplicates by codes; none, with a line that says why, if they cannot be found."""
    from aerun.use.search.duplicate_threshold import estimate_threshold
    from aerun.use.search.duplicates import duplicates

    if len(fingerprints) > MAX_GROUPED:
        log.warning("near-duplicates are not grouped: more than %s pictures", f"{MAX_GROUPED:,}")
        return []
    within = arguments.duplicates
    try:
        if within == "auto":
            within = estimate_threshold(run, fingerprints, arguments.metric).threshold
        return duplicates(fingerprints, within, metric=arguments.metric).groups()
    except AerunError as error:
        log.warning("near-duplicates are not grouped: %s", error)
        return []


def format_clusters(fingerprints: Fingerprints, clusters: Clusters, groups: Sequence[Sequence[int]] = ()) -> str:
    """A few lines: what was compared, how the number was chosen, the clusters' sizes, agreement with labels."""
    from aerun.use.clusters.cluster_table import all_places, place_of
    from aerun.use.clusters.clustering import label_agreement

    lines = [f"compared by {', '.join(clusters.compared)}", *_format_numbers(clusters)]
    if clusters.count == 1 and clusters.criteria:
        lines.append("one cluster fits best: the pictures form no groups; --clusters N makes N all the same")
    sizes = [
        f"{place_of(clusters, number)}: {(clusters.assigned == number).sum()}"
        for number, part in all_places(clusters)
        if part is None
    ]
    lines.append(f"{plural(len(fingerprints), 'image')} in {plural(clusters.count, 'cluster')} ({', '.join(sizes)})")
    if clusters.parts is not None:
        parts = sum(part is not None for _, part in all_places(clusters))
        lines.append(f"{plural(parts, 'part')} of {plural(len(clusters.part_names), 'cluster')}")
    if groups:
        lines.append(f"{plural(sum(map(len, groups)), 'near-duplicate')} in {plural(len(groups), 'group')}")
    if clusters.count == 0:
        lines.append("no region is dense enough to be a cluster: try a smaller --smallest, or --method kmeans")
    if fingerprints.labels is not None:
        agreement = label_agreement(clusters.assigned, fingerprints.labels)
        number = len(fingerprints.classes) or len(set(fingerprints.labels.tolist()))
        lines.append(
            f"with the {plural(number, 'label')}: adjusted Rand index {agreement['ari']:.3f}, "
            f"normalized mutual information {agreement['nmi']:.3f}"
        )
    return "\n".join(lines)


def _format_numbers(clusters: Clusters) -> list[str]:
    """The best of the numbers of clusters that were tried."""
    lines, silhouettes, criteria = list[str](), clusters.silhouettes, clusters.criteria
    if criteria:
        best = sorted(criteria, key=criteria.__getitem__)[:MAX_NUMBERS_PRINTED]
        lines.append(
            "information criterion per image above the best: "
            + ", ".join(f"{criteria[number] - criteria[best[0]]:.3f} of {number}" for number in best)
        )
    if silhouettes:
        best = sorted(silhouettes, key=lambda number: -silhouettes[number])[:MAX_NUMBERS_PRINTED]
        lines.append("mean silhouette: " + ", ".join(f"{silhouettes[number]:.3f} of {number}" for number in best))
        other = clusters.local_maximum
        if other is not None:
            lines.append(f"a local maximum: {other} clusters, {silhouettes[other]:.3f}; --clusters {other}")
    return lines
