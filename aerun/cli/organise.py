"""``aerun-organise RUN FILE``: cluster a collection, with a contact sheet for each cluster."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from aerun.base.arguments import Parser, count, seed
from aerun.cli.command import add_folder_option, add_overwrite_option, add_run_arguments, run_command
from aerun.errors import ConfigError
from aerun.use.outputs import check_output_folder, plural

if TYPE_CHECKING:
    from aerun.use.clusters.clustering import Clusters
    from aerun.use.collection.fingerprints import Fingerprints

EXAMPLES = """\
  %(prog)s outputs/RUN fingerprints.npz -o clusters                       # the number with the best silhouette
  %(prog)s outputs/RUN fingerprints.npz -o clusters --clusters 20 --links
  %(prog)s outputs/RUN fingerprints.npz -o clusters --clusters 8-40
  %(prog)s outputs/RUN fingerprints.npz -o clusters --method hdbscan"""
METHODS = ("kmeans", "hdbscan")
METRICS = ("cosine", "euclidean")
MAX_SILHOUETTES_PRINTED = 5


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
    add("--clusters", type=number_or_range, metavar="N", help="a number, or A-B to choose the best one (2-32)")
    add("--method", choices=METHODS, default="kmeans", help="hdbscan finds the number itself (kmeans)")
    add("--metric", choices=METRICS, default="cosine", help="cosine scales codes to length 1 (cosine)")
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
    if arguments.method == "kmeans" and arguments.smallest is not None:
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
        method=arguments.method,
        metric=arguments.metric,
        smallest=arguments.smallest,
        seed=arguments.seed,
    )
    thumbnails = Thumbnails(run, fingerprints)
    write_clusters(arguments.output, thumbnails, clusters, links=arguments.links, overwrite=arguments.overwrite)
    thumbnails.warn_of_missing()
    print(format_clusters(fingerprints, clusters))
    print(f"{arguments.output}: clusters.csv, overview.png, sheets/{', links/' if arguments.links else ''}")


def format_clusters(fingerprints: Fingerprints, clusters: Clusters) -> str:
    """A few lines: silhouettes, cluster sizes, agreement with labels."""
    from aerun.use.clusters.cluster_files import cluster_name, cluster_numbers
    from aerun.use.clusters.clustering import label_agreement

    lines, silhouettes = list[str](), clusters.silhouettes
    if silhouettes:
        best = sorted(silhouettes, key=lambda number: -silhouettes[number])[:MAX_SILHOUETTES_PRINTED]
        lines.append("mean silhouette: " + ", ".join(f"{silhouettes[number]:.3f} of {number}" for number in best))
        other = clusters.local_maximum
        if other is not None:
            lines.append(f"a local maximum: {other} clusters, {silhouettes[other]:.3f}; --clusters {other}")
    sizes = [
        f"{cluster_name(number, clusters.count)}: {(clusters.assigned == number).sum()}"
        for number in cluster_numbers(clusters)
    ]
    lines.append(f"{plural(len(fingerprints), 'image')} in {plural(clusters.count, 'cluster')} ({', '.join(sizes)})")
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
