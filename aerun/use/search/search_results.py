"""Results of a search: as plain values, as a table, and as contact sheets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aerun.use.collection.thumbnails import placeholder
from aerun.use.contact_sheet import Tile, blank_tile, draw_contact_sheet
from aerun.use.image_files import write_png
from aerun.use.outputs import plural

if TYPE_CHECKING:
    from aerun.use.collection.fingerprints import Fingerprints
    from aerun.use.collection.thumbnails import Thumbnails
    from aerun.use.search.duplicates import Pairs
    from aerun.use.search.queries import Query
    from aerun.use.search.vector_index import Found, Neighbors

MAX_COLUMNS = 13  # of a sheet
MAX_PAIRS_PRINTED = 50
MAX_GROUPS_DRAWN = 40


def neighbors_as_json(
    fingerprints: Fingerprints, queries: list[Query], neighbors: Neighbors | Found
) -> list[dict[str, Any]]:
    """For each query its neighbors: file, distance and, where there are any, label and the measure that found it."""
    result = []
    names = _measures(neighbors)
    for query, rows, distances, by in zip(
        queries, neighbors.rows.tolist(), neighbors.distances.tolist(), names, strict=True
    ):
        near = [
            {"file": fingerprints.names[row], "distance": distance}
            | ({"by": name} if name else {})
            | _label_entry(fingerprints, row)
            for row, distance, name in zip(rows, distances, by, strict=True)
        ]
        result.append({"query": query.name, "in_collection": query.row >= 0, "neighbours": near})
    return result


def _measures(neighbors: Neighbors | Found) -> list[list[str]]:
    """The measure that found each neighbor; empty if all were found by the same."""
    by = neighbors.by if len(neighbors) == 3 else np.full(neighbors.rows.shape, "")
    return [list(map(str, names)) for names in by]


def _label_entry(fingerprints: Fingerprints, row: int) -> dict[str, str]:
    label = fingerprints.label(row)
    return {"label": label} if label else {}


def format_answer(answer: dict[str, Any], k: int) -> str:
    """The answer that ``--json`` prints, as tables."""
    lines = list[str]()
    if "queries" in answer:
        lines += _format_queries(answer, k)
    if "duplicates" in answer:
        lines += _format_duplicates(answer)
    return "\n".join(lines)


def _format_queries(answer: dict[str, Any], k: int) -> list[str]:
    measure, is_fused = answer.get("neighbours_by", answer["metric"]), answer.get("neighbours_by") == "all"
    head = f"{'share of pairs':>18}  {'by':<8}" if is_fused else f"{measure + ' distance':>18}"
    lines = list[str]()
    for query in answer["queries"]:
        lines += [query["query"], f"  {'rank':>4} {head}  file"]
        for rank, near in enumerate(query["neighbours"], 1):
            distance = f"{near['distance']:>18.2g}  {near['by']:<8}" if is_fused else f"{near['distance']:>18.5f}"
            lines.append(f"  {rank:>4} {distance}  {near['file']}  {near.get('label', '')}".rstrip())
    fewest = min(len(query["neighbours"]) for query in answer["queries"])
    if fewest < k:
        lines.append(f"-k {k}: the collection has only {plural(fewest, 'other image')}")
    queries, total = plural(len(answer["queries"]), "image"), plural(answer["collection"], "image")
    return [*lines, f"searched for {queries} among {total} in {answer['seconds'] * 1000:.1f} ms"]


def _format_duplicates(answer: dict[str, Any]) -> list[str]:
    pairs, groups = answer["duplicates"], answer["groups"]
    lines = [
        f"{plural(len(pairs), 'pair')} within {answer['metric']} distance {answer['threshold']:.3g}, "
        f"{plural(sum(map(len, groups)), 'image')} in {plural(len(groups), 'group')}"
    ]
    lines += [f"  {pair['distance']:>10.5f}  {'  '.join(pair['files'])}" for pair in pairs[:MAX_PAIRS_PRINTED]]
    if len(pairs) > MAX_PAIRS_PRINTED:
        lines.append(f"  and {len(pairs) - MAX_PAIRS_PRINTED:,} more; --json lists all pairs and groups")
    return lines


def draw_answer(
    path: Path,
    thumbnails: Thumbnails,
    queries: list[Query],
    neighbors: Neighbors | Found | None,
    pairs: Pairs | None,
) -> None:
    """Write the contact sheet of what was found."""
    sheets = list[np.ndarray]()
    if neighbors is not None:
        sheets.append(draw_neighbors(thumbnails, queries, neighbors))
    if pairs is not None:
        sheets.append(draw_groups(thumbnails, pairs, MAX_GROUPS_DRAWN))
    write_png(path, stack_sheets(sheets))
    thumbnails.warn_of_missing()


def draw_neighbors(thumbnails: Thumbnails, queries: list[Query], neighbors: Neighbors | Found) -> np.ndarray:
    """Pixels [H,W,3]: for each query a row with the query, framed, and its neighbors with their distances, or with the
    measures that found them."""
    columns = min(MAX_COLUMNS, 1 + neighbors.rows.shape[1])
    tiles = list[Tile]()
    names = _measures(neighbors)
    for query, rows, distances, by in zip(queries, neighbors.rows.tolist(), neighbors.distances, names, strict=True):
        pixels = thumbnails(query.row) if query.row >= 0 or query.path is None else thumbnails.of_file(query.path)
        tiles.append(Tile(placeholder() if pixels is None else pixels, f"query\n{Path(query.name).name}", marked=True))
        tiles += [
            thumbnails.tile(row, name or f"{distance:.4f}")
            for row, distance, name in zip(rows, distances, by, strict=True)
        ]
        if query is not queries[-1]:
            tiles += [blank_tile()] * (-len(tiles) % columns)
    return draw_contact_sheet(tiles, columns)


def draw_groups(thumbnails: Thumbnails, pairs: Pairs, most: int) -> np.ndarray:
    """Pixels [H,W,3]: a row for each of the ``most`` largest groups of near-duplicates, cut to the width of the sheet.

    The caption of an image is its distance to the nearest other one.
    """
    groups, nearest = pairs.groups(), dict[int, float]()
    for rows, distance in zip(pairs.rows.tolist(), pairs.distances.tolist(), strict=True):
        for row in rows:
            nearest[row] = min(distance, nearest.get(row, distance))
    columns = min(MAX_COLUMNS, max(map(len, groups), default=1))
    tiles = list[Tile]()
    for group in groups[:most]:
        shown = group if len(group) <= columns else group[: columns - 1]
        tiles += [thumbnails.tile(row, f"{nearest[row]:.4f}") for row in shown]
        if len(shown) < len(group):
            tiles.append(blank_tile(f"and {len(group) - len(shown)} more"))
        if group is not groups[:most][-1]:
            tiles += [blank_tile()] * (-len(tiles) % columns)
    title = f"{plural(sum(map(len, groups)), 'near-duplicate')} in {plural(len(groups), 'group')}"
    title += f", {most} shown" * (len(groups) > most)
    return draw_contact_sheet(tiles or [blank_tile()], columns, title=title)


def stack_sheets(sheets: Sequence[np.ndarray]) -> np.ndarray:
    """Sheets [H,W,3] below each other, filled up with white to the widest."""
    width = max(sheet.shape[1] for sheet in sheets)
    wide = [np.pad(s, ((0, 0), (0, width - s.shape[1]), (0, 0)), constant_values=255) for s in sheets]
    return np.concatenate(wide)
