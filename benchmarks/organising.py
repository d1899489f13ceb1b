"""Do clusters find the styles of a collection? ``python benchmarks/organising.py RUN FOLDER [--write NAME]``

The subfolders of FOLDER are its styles. aerun-organise, by what it compares, and rivals of a few lines each sort the
pictures into as many clusters as there are styles, and into a number of their own choice. The rivals are k-means of
codes, of color histograms, and of both, whose number has the best mean silhouette. Settings of aerun-organise were
chosen on the collections ``openclipart`` and ``sprites`` of benchmarks/collection.py, not on ``styles``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from aerun.base.arguments import Parser, count
from aerun.cli.command import add_run_arguments, run_command
from benchmarks.machine import circumstances
from benchmarks.page import write_section

PAGE = Path(__file__).resolve().parent.parent / "docs" / "organize.md"
MOST = 32  # clusters that a rival tries
Array = np.ndarray
Sorter = Callable[[int | None, int], Array]  # of the number of clusters, or None, and a seed: each picture's cluster


class Agreement(NamedTuple):
    """Of clusters with styles; ``number``: how many clusters there are."""

    nmi: float
    ari: float
    number: int


def rival(points: Array) -> Sorter:
    """K-means of points[N,D]; the number with the best mean silhouette, of 2 to 32."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    def sort(number: int | None, seed: int) -> Array:
        def fit(clusters: int) -> Array:
            found: Array = KMeans(clusters, n_init=4, random_state=seed).fit_predict(points)
            return found

        def height(clusters: int) -> float:
            return float(silhouette_score(points, fit(clusters), sample_size=2000, random_state=seed))

        return fit(number if number is not None else max(range(2, MOST + 1), key=height))

    return sort


def histograms(folder: Path, names: list[str]) -> Array:
    """Square roots of the shares of 4 x 4 x 4 colors, of pictures at their own size, as in finding.py."""
    from benchmarks.finding import histogram, opened

    return np.stack([histogram(opened(folder / name)) for name in names])


def agreement(sort: Sorter, number: int | None, styles: Array, seeds: int) -> Agreement:
    """Mean NMI and ARI over seeds, and the median number of clusters."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    found = [sort(number, seed) for seed in range(seeds)]
    return Agreement(
        float(np.mean([normalized_mutual_info_score(styles, each) for each in found])),
        float(np.mean([adjusted_rand_score(styles, each) for each in found])),
        int(np.median([len(np.unique(each)) for each in found])),
    )


def parser() -> Parser:
    result = Parser("Compare clusters with styles.", "  python %(prog)s outputs/RUN outputs/styles --write styles")
    add_run_arguments(result)
    result.add_argument("folder", type=Path, help="of pictures, whose subfolders are styles")
    result.add_argument("--seeds", type=count, default=3, help="of each way to sort (3)")
    result.add_argument("--only", nargs="+", metavar="PARTS", help="nothing but aerun-organise, by these: code=4,color")
    result.add_argument("--write", metavar="NAME", help=f"write the section styles NAME of {PAGE.name}")
    return result


def work(asked) -> int:
    import aerun
    from aerun.use.opened_run import open_run

    run = open_run(asked.run, asked.device, asked.trust)
    prints = aerun.embed(run, asked.folder)
    assert prints.labels is not None and run.summary is not None, "the pictures have to be in subfolders"
    unit = prints.codes / np.linalg.norm(prints.codes, axis=1, keepdims=True).clip(1e-12)

    def ours(by: Any, method: Any = "mixture") -> Sorter:
        return lambda number, seed: aerun.organise(prints, number, by=by, method=method, seed=seed).assigned

    colors = np.zeros((0, 0)) if asked.only else histograms(asked.folder, prints.names)
    ways: dict[str, Sorter] = {f"`--by {by}`": ours(by) for by in asked.only or ()} or {
        "k-means of codes": rival(unit),
        "k-means of color histograms": rival(colors),
        "k-means of codes + histograms": rival(np.concatenate([unit, colors], 1) if len(colors) else unit),
        **{f"`--by {by}`": ours(by) for by in ("code", "color", "texture", "size", "code,color,texture")},
        "`--method kmeans`": ours("all", "kmeans"),
        "`aerun-organise`": ours("all"),
    }
    styles = len(prints.classes)
    lines = [f"| sorted by | NMI, {styles} clusters | ARI | number chosen | NMI | ARI |", "|---|---|---|---|---|---|"]
    for name, sort in ways.items():
        known, own = (agreement(sort, number, prints.labels, asked.seeds) for number in (styles, None))
        values = f"{known.nmi:.2f} | {known.ari:.2f} | {own.number} | {own.nmi:.2f} | {own.ari:.2f}"
        lines.append(f"| {name} | {values} |")
        print(lines[-1], flush=True)
    where = circumstances("organising.py", asked.device, "one process", ("torch", "numpy", "scikit-learn"))
    head = (
        f"{len(prints):,} pictures in {styles} folders, each a style. NMI (normalized mutual information) and ARI "
        f"(adjusted Rand index) with the folders are means over {asked.seeds} seeds, for as many clusters as folders "
        "and for the number that each way chooses, of which the median is given. Codes are those of a run of "
        f"{'x'.join(map(str, run.shape))} ({run.summary['epochs']} epochs, test MSE {run.summary['test']['mse']:.4f})."
    )
    text = "\n".join([f"## Styles of {asked.write or asked.folder.name}", "", head, "", *lines, "", where])
    print(text)
    if asked.write:
        write_section(f"styles {asked.write}", text, PAGE)
    return 0


def main() -> int:
    return run_command(parser, work)


if __name__ == "__main__":
    sys.exit(main())
