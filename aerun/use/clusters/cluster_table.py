"""The table of clusters, and the names of their sheets and folders, which follow from it."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from aerun.base.files import format_csv, make_folder, write_text
from aerun.use.clusters.clustering import Clusters
from aerun.use.collection.fingerprints import Fingerprints

HEADER = ["file", "cluster", "distance"]
Groups = Sequence[Sequence[int]]  # rows of near-duplicates


def read_places(table: Path) -> set[str]:
    """Places of the clusters in a table, with their parts; empty if it is missing, or not one of ours."""
    try:
        with table.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if (reader.fieldnames or [])[: len(HEADER)] != HEADER:
                return set()
            rows = [
                (int(row["cluster"]), row.get("name") or "", row.get("part") or "", row.get("part_name") or "")
                for row in reader
            ]
        count = max((number for number, *_ in rows), default=0) + 1
        found = {cluster_name(number, count, name) for number, name, *_ in rows}
        counts = Counter[int]()
        for number, _, part, _ in rows:
            counts[number] = max(counts[number], int(part or -1) + 1)
        return found | {
            f"{cluster_name(number, count, name)}/{cluster_name(int(part), counts[number], part_name)}"
            for number, name, part, part_name in rows
            if part
        }
    except (OSError, ValueError, TypeError, csv.Error):
        return set()


def write_table(path: Path, fingerprints: Fingerprints, clusters: Clusters, groups: Groups = ()) -> None:
    """A CSV file: file, cluster, distance, label if there are labels, and what else ``cluster_rows`` has."""
    rows = cluster_rows(fingerprints, clusters, groups)
    make_folder(path.parent)
    write_text(path, format_csv([list(rows[0]), *(row.values() for row in rows)]))


def cluster_rows(fingerprints: Fingerprints, clusters: Clusters, groups: Groups = ()) -> list[dict[str, Any]]:
    """For each image: ``file``, ``cluster``, ``distance`` (None in no cluster), ``label`` if there are labels, the
    ``name`` of the cluster if it has one, with two levels ``part`` and ``part_name`` (None where the cluster is not
    split), and ``group``, the number of its group of near-duplicates if there are any (None for most)."""
    group_of = {row: number for number, group in enumerate(groups) for row in group}
    result = list[dict[str, Any]]()
    for row, file in enumerate(fingerprints.names):
        number = int(clusters.assigned[row])
        entry: dict[str, Any] = {"file": file, "cluster": number, "distance": clusters.distance(row)}
        if fingerprints.labels is not None:
            entry["label"] = fingerprints.label(row)
        if clusters.names:
            entry["name"] = clusters.names[number] if number >= 0 else None
        if clusters.parts is not None:
            part = int(clusters.parts[row])
            names = clusters.part_names.get(number)
            entry |= {"part": part if part >= 0 else None, "part_name": names[part] if names and part >= 0 else None}
        if groups:
            entry["group"] = group_of.get(row)
        result.append(entry)
    return result


def cluster_name(number: int, count: int, words: str = "") -> str:
    """The name of a cluster's sheet and of its folder of links: its number with leading zeros and its words, or
    ``none``."""
    return "none" if number < 0 else f"{number:0{len(str(max(count - 1, 0)))}d}" + (f"-{words}" if words else "")


def place_of(clusters: Clusters, number: int, part: int | None = None) -> str:
    """``NUMBER-WORDS`` of a cluster, or ``NUMBER-WORDS/NUMBER-WORDS`` of its part."""
    place = cluster_name(number, clusters.count, clusters.names[number] if clusters.names and number >= 0 else "")
    if part is None or clusters.parts is None:
        return place
    names = clusters.part_names.get(number, ())
    count = int(clusters.parts[clusters.assigned == number].max()) + 1
    return f"{place}/{cluster_name(part, count, names[part] if names else '')}"


def cluster_numbers(clusters: Clusters) -> list[int]:
    """All clusters, then -1 if some images are in none."""
    return [*range(clusters.count), *([-1] if (clusters.assigned < 0).any() else [])]


def all_places(clusters: Clusters) -> Iterator[tuple[int, int | None]]:
    """All clusters, each followed by its parts."""
    for number in cluster_numbers(clusters):
        yield number, None
        if clusters.parts is not None and number >= 0:
            yield from ((number, part) for part in range(int(clusters.parts[clusters.assigned == number].max()) + 1))
