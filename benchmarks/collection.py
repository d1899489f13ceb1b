"""The gallery's part on collections: ``python benchmarks/collection.py RUN``

What aerun-embed, aerun-search and aerun-organise make of a folder of drawings, with a run that was trained on it.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from aerun.arguments import Parser
from aerun.use.command import run_command, takes_run
from benchmarks.crops import FOLDER
from benchmarks.machine import circumstances
from benchmarks.page import write_section

DOCS = Path(__file__).resolve().parent.parent / "docs"
HEAD = "# Gallery\n\nEvery section is written by the command that it names, never by hand.\n"
QUERIES, NEIGHBOURS, PAIRS, CLUSTERS = 6, 9, 24, 12
SAME = 1e-9


def collection_part(run, folder: Path, pictures: Path) -> str:
    """Markdown, with its pictures written into ``pictures``: compression, search, near-duplicates, clusters."""
    from aerun.use.compression import compression, table
    from aerun.use.embed import embed
    from aerun.use.found import found_sheet, pairs_sheet
    from aerun.use.near import near_threshold
    from aerun.use.pictures import write_picture
    from aerun.use.queries import queries
    from aerun.use.search import duplicates, search
    from aerun.use.thumbnails import Thumbnails, collection_inputs

    made = embed(run, folder)
    thumbnails = Thumbnails(run, made)
    rows = np.random.default_rng(0).choice(len(made), QUERIES, replace=False).tolist()
    wanted = queries(run, made, [made.names[row] for row in rows])
    found = search(made, np.stack([query.code for query in wanted]), NEIGHBOURS, excluded=[[row] for row in rows])
    write_picture(pictures / "found.png", found_sheet(thumbnails, wanted, found))
    near = near_threshold(run, made)
    pairs = duplicates(made, near)
    write_picture(pictures / "duplicates.png", pairs_sheet(thumbnails, _drawn(pairs), PAIRS))
    _, images = collection_inputs(run, made, 1000)
    parts = [
        "## A collection: fingerprints, search, clusters",
        f"{len(made):,} drawings. What a code is worth as compression (`aerun-embed --compare`):",
        f"```text\n{table(compression(run, images))}\n```",
        f"The nearest of {QUERIES} drawings that were drawn by lot (`aerun-search --sheet`):",
        _shown("What is most like six drawings", pictures / "found.png"),
        f"{len(pairs.rows):,} pairs are no farther apart than a drawing from its own JPEG of half the size "
        f"(`--duplicates auto`, {near:.3g}), {int((pairs.distances < SAME).sum()):,} of them with the same code, in "
        f"{len(pairs.groups()):,} groups. Some with different codes, drawn by lot, one of a group:",
        _shown("Near-duplicates, in pairs", pictures / "duplicates.png"),
        *_clusters(made, thumbnails, pictures),
    ]
    return "\n\n".join(parts)


def _drawn(pairs):
    """Pairs of different codes, one of each group, in the order of their distances."""
    group = {row: number for number, rows in enumerate(pairs.groups()) for row in rows}
    seen, kept = set[int](), list[int]()
    for number in np.random.default_rng(0).permutation(np.flatnonzero(pairs.distances > SAME)).tolist():
        if group[pairs.rows[number, 0]] not in seen and len(kept) < PAIRS:
            kept.append(number)
            seen.add(group[pairs.rows[number, 0]])
    kept.sort()
    return type(pairs)(pairs.rows[kept], pairs.distances[kept])


def _clusters(made, thumbnails, pictures: Path) -> list[str]:
    from aerun.use.organise import agreement, organise
    from aerun.use.pictures import write_picture
    from aerun.use.shelves import overview

    best, many = organise(made), organise(made, CLUSTERS)
    write_picture(pictures / "clusters.png", overview(thumbnails, many))
    silhouettes = ", ".join(f"{value:.3f} of {count}" for count, value in list(best.silhouettes.items())[:6])
    text = (
        f"Mean silhouettes of k-means choose {best.count} clusters ({silhouettes} …). With `aerun-organise --clusters "
        f"{CLUSTERS}`, a row each, those nearest to the centre:"
    )
    parts = [text, _shown("Clusters, a row each", pictures / "clusters.png")]
    if made.labels is not None:
        agreed = agreement(many.assigned, made.labels)
        parts.append(
            f"With the {len(made.classes)} folders that the drawings came in: adjusted Rand index {agreed['ari']:.3f}, "
            f"normalised mutual information {agreed['nmi']:.3f}."
        )
    return parts


def _shown(text: str, path: Path) -> str:
    return f"![{text}]({'/'.join(path.parts[-3:])})"  # the page is two folders above


def parser() -> Parser:
    result = Parser("Write the gallery's part on collections.", "  python %(prog)s outputs/RUN")
    takes_run(result)
    result.add_argument("--folder", type=Path, default=FOLDER, help=f"the collection ({FOLDER})")
    result.add_argument("-o", "--output", type=Path, default=DOCS, help="where gallery.md and gallery/ are (docs/)")
    return result


def work(asked) -> None:
    from aerun.use.opened import open_run

    run = open_run(asked.run, asked.device, asked.trust)
    page = asked.output / "gallery.md"
    text = collection_part(run, asked.folder, asked.output / "gallery" / "collection")
    where = circumstances("collection.py", asked.device, "one process", ("torch", "scikit-learn", "pillow"))
    if not page.exists():
        page.write_text(HEAD)
    write_section("collection", f"{text}\n\n{where}", page)
    print(text)


if __name__ == "__main__":
    run_command(parser, work)
