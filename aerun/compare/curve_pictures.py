"""Learning curves and other lines of a comparison: collect their numbers; ``aerun.figures`` draws them."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence

from aerun.compare.comparison import Comparison
from aerun.compare.epoch_rows import clocked_lines
from aerun.compare.fronts_and_draws import drawn_values
from aerun.compare.groups import Group
from aerun.compare.seed_statistics import expected_best
from aerun.compare.table_output import shorten
from aerun.figures.canvas import Draw
from aerun.figures.run_charts import Curve, learning_curves

MAX_LABEL_LENGTH = 44
# What learning curves are drawn over: the name in a line of metrics.jsonl, and the label.
CLOCKS = {
    "epoch": ("epoch", "epoch"),
    "step": ("step", "step"),
    "image": ("images", "training images"),
    "second": ("seconds", "seconds of training"),
}
TRAINING = " (training)"  # label of runs without validation images


def _best_first(comparison: Comparison) -> list[Group]:
    ranked = comparison.ranked()
    return [*ranked, *(group for group in comparison.groups if group not in ranked)]


def draw_curves(comparison: Comparison, clock: str) -> tuple[Draw, str] | None:
    """The learning curves of all groups, over the ``clock``."""
    # Different losses cannot be compared; their squared errors can.
    name = "mse" if "loss" in comparison.keys or "loss" in comparison.over else "loss"
    groups = _best_first(comparison)
    labels = short_labels([group.words for group in groups])
    curves = (_mean_curve(group, name, label, clock) for group, label in zip(groups, labels, strict=True))
    drawn = [curve for curve in curves if curve is not None]
    if not drawn:
        return None
    caption = "Mean over runs, with a band from the lowest to the highest run; dashed if no run has finished."
    part = "training" if all(curve.label.endswith(TRAINING) for curve in drawn) else "validation"
    return lambda sheet: learning_curves(drawn, f"{part} {name}", CLOCKS[clock][1], sheet), caption


def _mean_curve(group: Group, name: str, label: str, clock: str) -> Curve | None:
    """The mean over the group's finished runs, or over all runs if none has finished; at each epoch over the runs that
    reached it."""
    runs = group.finished or group.runs
    epochs: dict[float, list[float]] = {}
    times: dict[float, list[float]] = {}
    column = CLOCKS[clock][0]
    suffix = ""
    for run in runs:
        part = "validation" if any(f"validation/{name}" in line for line in run.lines) else "train"
        suffix = TRAINING if part == "train" else suffix
        for line in clocked_lines(run):
            value, time = line.get(f"{part}/{name}"), line.get(column)
            if isinstance(value, int | float) and math.isfinite(value) and time is not None:
                epochs.setdefault(float(line["epoch"]), []).append(float(value))
                times.setdefault(float(line["epoch"]), []).append(float(time))
    if not epochs:
        return None
    ordered = sorted(epochs)
    x = [statistics.fmean(times[epoch]) for epoch in ordered]
    means, lows, highs = ([reduce(epochs[epoch]) for epoch in ordered] for reduce in (statistics.fmean, min, max))
    return Curve(label + suffix, x, means, lows, highs, complete=bool(group.finished))


def draw_expected_best(comparison: Comparison) -> tuple[Draw, str] | None:
    """The expected best of 1, 2, … of a row's runs, if it was asked for."""
    if not any(group.expected_best for group in comparison.groups):
        return None
    metric, higher = comparison.metric, comparison.higher_is_better(comparison.metric)
    curves = []
    for group, label in zip(comparison.groups, short_labels([group.words for group in comparison.groups]), strict=True):
        values = drawn_values(group, metric, higher)
        draws = range(1, len(values) + 1)
        best = [expected_best(values, count, higher) for count in draws]
        curves += [Curve(label, [*draws], best, best, best)] if best else []
    caption = "The expected best of that many runs of a row; failed ones count as the worst (Dodge et al. 2019)."
    return lambda sheet: learning_curves(curves, f"expected best {metric}", "runs", sheet), caption


def short_labels(groups: Sequence[Sequence[str]]) -> list[str]:
    """A label for each group of a chart from its words. Long ones lose their middle, or the words that they share with
    the groups that would have the same label."""
    labels = [shorten(", ".join(words), MAX_LABEL_LENGTH) for words in groups]
    for label, count in Counter(labels).items():
        same = [index for index, text in enumerate(labels) if text == label] if count > 1 else []
        shared = set.intersection(*(set(groups[index]) for index in same)) if same else set()
        for index in same:
            differing = ", ".join(word for word in groups[index] if word not in shared)
            labels[index] = shorten(f"…, {differing}", MAX_LABEL_LENGTH) if differing else label
    return labels
