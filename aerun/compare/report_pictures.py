"""The pictures of a comparison: choose them and collect their numbers; ``aerun.figures`` draws them."""

from __future__ import annotations

import io
import logging
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from aerun.compare.comparison import Comparison
from aerun.compare.curve_pictures import MAX_LABEL_LENGTH, draw_curves, draw_expected_best, short_labels
from aerun.compare.groups import Group
from aerun.compare.records import Value
from aerun.compare.seed_statistics import Statistic
from aerun.compare.setting_text import format_setting
from aerun.compare.table_output import shorten
from aerun.figures.canvas import COLUMN_WIDTHS, SCREEN, Draw, Pixels, Sheet, encode, render
from aerun.figures.front_chart import Point, front_chart
from aerun.figures.montage import montage
from aerun.figures.parallel_chart import Scale, parallel_coordinates
from aerun.figures.run_charts import (
    ErrorBySize,
    error_by_code_size,
    heat_map,
)

log = logging.getLogger(__name__)
MAX_MONTAGE_ROWS = 12
OUTLIER_FACTOR = 100  # times the median, beyond which a number is left out of a chart


@dataclass(frozen=True)
class Picture:
    """A PNG file: its name without the extension, title, caption and bytes. ``draw``: draws it for a page as well."""

    name: str
    title: str
    caption: str
    png: bytes
    draw: Draw | None = None

    def as_file(self, form: str, columns: int = 1) -> bytes | None:
        """The picture as a PNG file, or as a PDF or SVG file for that many columns of a page; None if it consists of
        pixels, which only a PNG file holds."""
        if form == "png":
            return self.png
        return self.draw and encode(self.draw, Sheet(COLUMN_WIDTHS[columns]), form)


def draw_pictures(comparison: Comparison, clock: str = "epoch") -> list[Picture]:
    """All pictures for which the runs have the numbers. ``clock``: the x of learning curves, of ``CLOCKS``."""
    functions: list[tuple[str, str, Callable[[Comparison], tuple[Draw | Pixels, str] | None]]] = [
        ("learning_curves", "Learning curves", partial(draw_curves, clock=clock)),
        ("heat_map", "Heat map", _draw_heat_map),
        ("parallel_coordinates", "Parallel coordinates", _draw_parallel),
        ("code_size", "Error by code size", _draw_code_sizes),
        ("expected_best", "Expected best of several runs", draw_expected_best),
        ("pareto_front", "Pareto front", _draw_front),
        ("montage", "Reconstructions", _draw_montage),
    ]
    drawn = [(name, title, draw(comparison)) for name, title, draw in functions]
    return [_picture(name, title, *found) for name, title, found in drawn if found is not None]


def _picture(name: str, title: str, drawing: Draw | Pixels, caption: str) -> Picture:
    if isinstance(drawing, np.ndarray):
        return Picture(name, title, caption, _encode_png(drawing))
    return Picture(name, title, caption, _encode_png(render(drawing(SCREEN))), drawing)


def _encode_png(pixels: Pixels) -> bytes:
    from PIL import Image

    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG", optimize=True)
    return encoded.getvalue()


def _without_outliers(comparison: Comparison) -> tuple[list[tuple[Group, float]], str]:
    """The groups with a finite first metric, and that metric; then a sentence on groups that are left out because they
    would leave one color for all others."""
    pairs = [(group, group.statistic(comparison.metric)) for group in comparison.groups]
    finite = [(group, number.mean) for group, number in pairs if number and math.isfinite(number.mean)]
    limit = OUTLIER_FACTOR * statistics.median(abs(mean) for _, mean in finite) if finite else 0.0
    kept = [(group, mean) for group, mean in finite if abs(mean) <= limit]
    return kept, _left_out(len(finite) - len(kept), "with much larger values")


def _left_out(count: int, reason: str) -> str:
    return f" Left out: {count} row{'s' * (count != 1)} {reason}." if count else ""


def _draw_heat_map(comparison: Comparison) -> tuple[Draw, str] | None:
    measured, left_out = _without_outliers(comparison)
    if len(comparison.keys) != 2 or len(measured) < 2:
        return None
    first, second = comparison.keys
    rows, columns = ([*_sort_values([group.values[key] for group in comparison.groups])] for key in (first, second))
    if len(rows) < 2 or len(columns) < 2:
        return None
    cells: dict[tuple[int, int], list[float]] = {}
    for group, mean in measured:
        cells.setdefault((rows.index(group.values[first]), columns.index(group.values[second])), []).append(mean)
    values = np.full((len(rows), len(columns)), np.nan)
    for position, means in cells.items():
        values[position] = sum(means) / len(means)
    down, across = ([shorten(format_setting(value), 18) for value in axis] for axis in (rows, columns))
    metric, higher = _short(comparison.metric), comparison.higher_is_better(comparison.metric)
    names = _short(first), _short(second)
    drawing: Draw = lambda sheet: heat_map(values, down, across, names, metric, higher, sheet)  # noqa: E731
    return drawing, f"Mean {comparison.metric}; darker is better.{left_out}"


def _sort_values(values: list[Value | None]) -> list[Value | None]:
    """The distinct values: numbers by size, then words in their given order, then missing ones."""
    distinct = list(dict.fromkeys(values))
    return sorted(distinct, key=lambda v: (v is None, isinstance(v, str), v if isinstance(v, float) else 0.0))


def _draw_parallel(comparison: Comparison) -> tuple[Draw, str] | None:
    measured, left_out = _without_outliers(comparison)
    if len(comparison.keys) < 3 or len(measured) < 2:
        return None
    scales = [_scale(key, [group.values[key] for group, _ in measured]) for key in comparison.keys]
    scales = [scale for scale in scales if len(set(scale.values)) > 1]
    metric = Scale(_short(comparison.metric), [mean for _, mean in measured])
    caption = f"One line for each row of the table; thicker lines have a better {comparison.metric}.{left_out}"
    higher = comparison.higher_is_better(comparison.metric)
    return lambda sheet: parallel_coordinates(scales, metric, higher, sheet), caption


def _scale(key: str, values: list[Value | None]) -> Scale:
    """The values, with booleans as words. Long texts lose their middle."""
    texts = [value if isinstance(value, float | None) else format_setting(value) for value in values]
    return Scale(_short(key), [_short(text) if isinstance(text, str) else text for text in texts])


def _short(text: str) -> str:
    return shorten(text, MAX_LABEL_LENGTH)


def _draw_code_sizes(comparison: Comparison) -> tuple[Draw, str] | None:
    metric = comparison.metric if comparison.metric.startswith("test/") else "test/mse"
    kinds: dict[tuple[str, ...], dict[float, list[float]]] = {}
    pca: dict[float, list[float]] = {}
    constant: set[float] = set()
    for group in comparison.groups:
        rest = {key: value for key, value in group.values.items() if not key.endswith("code_size")}
        words = Group(rest, group.runs).words if set(rest.values()) - {None} else ("autoencoder",)
        for run in group.finished:
            size, error = run.numbers.get("code_size"), run.numbers.get(metric)
            if size is None or error is None or not math.isfinite(error) or run.collapse is not None:
                continue
            kinds.setdefault(words, {}).setdefault(size, []).append(error)
            name = metric.removeprefix("test/")
            if (linear := run.numbers.get(f"baselines/pca/{name}")) is not None:
                pca.setdefault(size, []).append(linear)
            if (mean := run.numbers.get(f"baselines/mean_image/{name}")) is not None:
                constant.add(mean)
    if len({size for sizes in kinds.values() for size in sizes}) < 2:
        return None
    lines = []
    for label, sizes in zip(short_labels([*kinds]), kinds.values(), strict=True):
        numbers = [(size, Statistic.from_values(errors)) for size, errors in sorted(sizes.items())]
        known = [(size, number.mean, number.std or 0.0) for size, number in numbers if number]
        lines.append(ErrorBySize(label, *zip(*known, strict=True)))
    reference = (sorted(pca), [sum(pca[size]) / len(pca[size]) for size in sorted(pca)])
    level = constant.pop() if len(constant) == 1 else None
    return (
        lambda sheet: error_by_code_size(lines, reference, level, metric, sheet),
        "Mean ± standard deviation over runs that did not collapse, PCA with as many components, and the mean image.",
    )


def _draw_front(comparison: Comparison) -> tuple[Draw, str] | None:
    if not comparison.pareto:
        return None
    numbers = [[group.statistic(metric) for metric in comparison.pareto] for group in comparison.groups]
    labels = short_labels([group.words for group in comparison.groups])
    points = [
        Point(label, x.mean, y.mean, bool(group.on_front))
        for group, label, (x, y) in zip(comparison.groups, labels, numbers, strict=True)
        if x is not None and y is not None and math.isfinite(x.mean) and math.isfinite(y.mean)
    ]
    if not points:
        return None
    first, second = (f"{metric} {'↑' if comparison.higher_is_better(metric) else '↓'}" for metric in comparison.pareto)
    caption = "Means of all rows; every row on the front that is better in one number is worse in the other."
    return lambda sheet: front_chart(points, (first, second), sheet), caption


def _draw_montage(comparison: Comparison) -> tuple[Pixels, str] | None:
    """The first test images, and their reconstructions by the best run of each of the best groups."""
    rows: list[tuple[str, np.ndarray]] = []
    targets: np.ndarray | None = None
    other_images = without = 0
    groups = comparison.ranked()
    for group, label in zip(groups, short_labels([group.words for group in groups]), strict=True):
        run = group.best_run(comparison.metric)
        probes = None if run is None else run.probes
        if run is None or probes is None:
            without += run is not None and run.settings.get("trainer.figures") == "none"
            continue
        if targets is None:
            targets = probes["targets"]
            rows.append(("targets", targets))
        if not np.array_equal(targets, probes["targets"]):
            other_images += 1
        elif len(rows) <= MAX_MONTAGE_ROWS:
            result = f"{comparison.metric} {run.numbers[comparison.metric]:.4g}"
            rows.append((f"{label}\n{result}", probes["reconstructions"]))
    if without:
        log.warning("%d rows: no reconstructions, because of trainer.figures=none; aerun-evaluate draws them", without)
    if len(rows) < 2:
        return None
    caption = f"The best run of each of the best {len(rows) - 1} rows, best first."
    return montage(rows), caption + _left_out(other_images, "with other test images")
