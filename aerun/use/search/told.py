"""What a search found, as plain values and as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aerun.use.words import plural

if TYPE_CHECKING:
    from aerun.use.collection.fingerprints import Fingerprints
    from aerun.use.search.queries import Query
    from aerun.use.search.vector_index import Neighbors

MAX_PAIRS_LISTED = 50  # pairs in the table


def neighbors_as_json(fingerprints: Fingerprints, wanted: list[Query], found: Neighbors) -> list[dict[str, Any]]:
    """For each query its neighbours: files, distances and, where there are any, labels."""
    result = []
    for query, rows, distances in zip(wanted, found.rows.tolist(), found.distances.tolist(), strict=True):
        neighbours = [
            {"file": fingerprints.names[row], "distance": distance} | _label_entry(fingerprints, row)
            for row, distance in zip(rows, distances, strict=True)
        ]
        result.append({"query": query.name, "in_collection": query.row >= 0, "neighbours": neighbours})
    return result


def _label_entry(fingerprints: Fingerprints, row: int) -> dict[str, str]:
    label = fingerprints.label(row)
    return {"label": label} if label else {}


def format_answer(answer: dict[str, Any], k: int) -> str:
    """What was found, as a table."""
    lines = list[str]()
    measure = answer.get("neighbours_by", answer["metric"])
    for query in answer.get("queries", []):
        lines += [query["query"], f"  {'rank':>4} {measure + ' distance':>18}  file"]
        for rank, near in enumerate(query["neighbours"], 1):
            lines.append(f"  {rank:>4} {near['distance']:>18.5f}  {near['file']}  {near.get('label', '')}".rstrip())
    if "queries" in answer:
        fewest = min(len(query["neighbours"]) for query in answer["queries"])
        if fewest < k:
            lines.append(f"-k {k}: the collection has no more than {fewest} others")
        lines.append(
            f"{len(answer['queries'])} searched among {answer['collection']:,} in {answer['seconds'] * 1000:.1f} ms"
        )
    if "duplicates" in answer:
        pairs = answer["duplicates"]
        lines.append(
            f"{plural(len(pairs), 'pair')} within {answer['metric']} distance {answer['threshold']:.3g}, "
            f"{plural(sum(map(len, answer['groups'])), 'picture')} in {plural(len(answer['groups']), 'group')}"
        )
        lines += [f"  {pair['distance']:>10.5f}  {'  '.join(pair['files'])}" for pair in pairs[:MAX_PAIRS_LISTED]]
        if len(pairs) > MAX_PAIRS_LISTED:
            lines.append(f"  and {len(pairs) - MAX_PAIRS_LISTED:,} more: --json lists all, and the groups")
    return "\n".join(lines)
