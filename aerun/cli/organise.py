"""``aerun-organise``: a collection in clusters, with a contact sheet for each."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from aerun.base.arguments import Parser, count, seed
from aerun.cli.command import add_run_arguments, run_command
from aerun.errors import ConfigError
from aerun.use.outputs import add_overwrite_option, check_output_folder
from aerun.use.words import plural

if TYPE_CHECKING:
    from aerun.use.clusters.clustering import Clusters
    from aerun.use.collection.fingerprints import Fingerprints

EXAMPLES = """\
  %(prog)s outputs/RUN fingerprints.npz -o clusters                       # as many as have the best silhouette
  %(prog)s outputs/RUN fingerprints.npz -o clusters --clusters 20 --links
  %(prog)s outputs/RUN fingerprints.npz -o clusters --clusters 8-40
  %(prog)s outputs/RUN fingerprints.npz -o clusters --method hdbscan"""
METHODS = ("kmeans", "hdbscan")
METRICS = ("cosine", "euclidean")


def number_or_range(text: str) -> int | tuple[int, int]:
    """For ``--clusters``: 12, or 5-40."""
    least, dash, most = text.partition("-")
    if not dash:
        return count(text)
    low, high = count(least), count(most)
    if not 2 <= low <= high:
        raise argparse.ArgumentTypeError(f"'{text}': must go from 2 or more to no less")
    return low, high


def parser() -> Parser:
    """Its arguments."""
    result = Parser("Sort a collection into clusters of pictures that are alike. No picture is moved.", EXAMPLES)
    add_run_arguments(result)
    result.add_argument("fingerprints", metavar="FILE", type=Path, help="what aerun-embed made with this run")
    result.add_argument("-o", "--output", metavar="FOLDER", type=Path, required=True, help="a new or empty folder")
    add_overwrite_option(result)
    result.add_argument("--clusters", type=number_or_range, metavar="N", help="so many, or the best of A-B (2-32)")
    result.add_argument("--method", choices=METHODS, default="kmeans", help="hdbscan finds the number itself (kmeans)")
    result.add_argument("--metric", choices=METRICS, default="cosine", help="cosine: codes of length 1 (cosine)")
    result.add_argument("--smallest", type=count, metavar="N", help="of hdbscan: pictures in the smallest cluster")
    result.add_argument("--links", action="store_true", help="a folder for each cluster, with links to its pictures")
    result.add_argument("--seed", type=seed, default=0, help="of the clusters' first centres and of samples (0)")
    return result


def work(asked: argparse.Namespace) -> None:
    """Cluster, write, say what was found."""
    from aerun.use.clusters.cluster_files import CLUSTER_FOLDER, require_files, write_clusters
    from aerun.use.collection.fingerprints import load_fingerprints

    if asked.method == "hdbscan" and asked.clusters is not None:
        raise ConfigError("--clusters: hdbscan finds the number itself; leave it out, or take --method kmeans")
    if asked.method == "kmeans" and asked.smallest is not None:
        raise ConfigError("--smallest: is of --method hdbscan; leave it out, or take that")
    check_output_folder(asked.output, CLUSTER_FOLDER, asked.overwrite)
    fingerprints = load_fingerprints(asked.fingerprints)
    if asked.links:
        require_files(fingerprints)

    from aerun.use.clusters.clustering import organise
    from aerun.use.collection.thumbnails import Thumbnails
    from aerun.use.opened_run import open_run

    run = open_run(asked.run, asked.device, asked.trust)
    fingerprints.require_same_run(run)
    found = organise(
        fingerprints,
        asked.clusters,
        method=asked.method,
        metric=asked.metric,
        smallest=asked.smallest,
        seed=asked.seed,
    )
    thumbnails = Thumbnails(run, fingerprints)
    write_clusters(asked.output, thumbnails, found, links=asked.links, overwrite=asked.overwrite)
    print(text(fingerprints, found))
    print(f"{asked.output}: clusters.csv, overview.png, sheets/{', links/' if asked.links else ''}")


def text(fingerprints: Fingerprints, found: Clusters) -> str:
    """What was found, in a few lines."""
    from aerun.use.clusters.cluster_files import cluster_name, cluster_numbers
    from aerun.use.clusters.clustering import label_agreement

    lines = []
    if found.silhouettes:
        best = sorted(found.silhouettes, key=lambda number: -found.silhouettes[number])[:5]
        lines.append("mean silhouette: " + ", ".join(f"{found.silhouettes[number]:.3f} of {number}" for number in best))
        if found.local_maximum is not None:
            height = found.silhouettes[found.local_maximum]
            lines.append(
                f"a local maximum: {found.local_maximum} clusters, {height:.3f}; --clusters {found.local_maximum}"
            )
    sizes = [
        f"{cluster_name(number, found.count)}: {(found.assigned == number).sum()}" for number in cluster_numbers(found)
    ]
    of = f"{plural(len(fingerprints), 'picture')} in {plural(found.count, 'cluster')}"
    lines.append(f"{of} ({', '.join(sizes)})")
    if found.count == 0:
        lines.append("no region is dense enough to be a cluster: try a smaller --smallest, or --method kmeans")
    if fingerprints.labels is not None:
        agreed = label_agreement(found.assigned, fingerprints.labels)
        count = len(fingerprints.classes) or len(set(fingerprints.labels.tolist()))
        lines.append(
            f"with the {plural(count, 'label')}: adjusted Rand index "
            f"{agreed['ari']:.3f}, normalised mutual information {agreed['nmi']:.3f}"
        )
    return "\n".join(lines)


def main() -> None:
    """The console command."""
    run_command(parser, work)
