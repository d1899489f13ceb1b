"""A comparison as a table of texts, with a fixed number of decimals in each column."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from aerun.compare.comparison import Comparison
from aerun.compare.groups import Baseline, Group, Statistic
from aerun.compare.records import Run, Value
from aerun.compare.selection import MISSING, format_setting

OF_PCA, COUNT, STATE, RUN, VERDICT = "mse / PCA", "n", "state", "run", "verdict"
MAX_COLLAPSED = 10  # runs that are listed


@dataclass(frozen=True)
class Cell:
    """The text of a cell, and the value that it is sorted by; None sorts last."""

    text: str
    value: float | str | None = None


@dataclass(frozen=True)
class Column:
    """A heading, and whether the cells are numbers, which are never shortened.

    ``higher_is_better``: the direction of a metric; None for a column that is not one.
    """

    name: str
    numeric: bool = False
    higher_is_better: bool | None = None

    @property
    def heading(self) -> str:
        """The name; for a metric, with an arrow in the better direction."""
        return self.name if self.higher_is_better is None else f"{self.name} {'↑' if self.higher_is_better else '↓'}"


@dataclass(frozen=True)
class TextTable:
    """One row for each group, the baselines' rows below them, and notes."""

    columns: list[Column]
    rows: list[list[Cell]]
    baselines: list[list[Cell]]
    notes: list[str]


def build_table(comparison: Comparison) -> TextTable:
    """The comparison as columns and cells."""
    single = any(group.single for group in comparison.groups)
    counted = not single and any(len(group.runs) > 1 for group in comparison.groups)
    states = any(group.state for group in comparison.groups)
    columns = [Column(key) for key in comparison.keys] or [Column(RUN)]
    columns += [Column(metric, True, comparison.higher_is_better(metric)) for metric in comparison.metrics]
    columns += [Column(OF_PCA, numeric=True)] * comparison.has_pca + [Column(COUNT, numeric=True)] * counted
    columns += [Column(STATE)] * states + [Column(VERDICT)] * any(group.verdict for group in comparison.groups)
    columns += [Column(RUN)] * (single and bool(comparison.keys))
    decimals = {metric: _decimals(comparison, metric) for metric in comparison.metrics}
    named = {column.name for column in columns}
    rows = [_row(group, comparison, decimals, named) for group in comparison.groups]
    baselines = [_baseline(row, comparison, decimals, len(columns)) for row in comparison.baselines]
    return TextTable(columns, rows, baselines, _notes(comparison))


def _row(group: Group, comparison: Comparison, decimals: dict[str, int], named: set[str]) -> list[Cell]:
    name = group.runs[0].name if len(group.runs) == 1 else f"all {len(group.runs)}"
    cells = [Cell(format_setting(value), value) for value in group.values.values()] or [Cell(name, name)]
    for metric in comparison.metrics:
        result = group.statistic(metric)
        cells.append(Cell(format_statistic(result, decimals[metric]), None if result is None else result.mean))
    if OF_PCA in named:
        ratio = group.mse_over_pca
        mark = "" if ratio is None or ratio >= 1 else "*"
        cells.append(Cell(MISSING if ratio is None else f"{format_number(ratio, 2)}{mark or ' '}", ratio))
    if COUNT in named:
        cells.append(Cell(str(len(group.finished)), float(len(group.finished))))
    if STATE in named:
        cells.append(Cell(group.state, group.state))
    if VERDICT in named:
        cells.append(Cell(group.verdict, group.verdict))
    if RUN in named and group.values:
        cells.append(Cell(name, name))
    return cells


def _baseline(baseline: Baseline, comparison: Comparison, decimals: dict[str, int], width: int) -> list[Cell]:
    """The baseline's name in the first column, its numbers in the columns of their metrics."""
    keys = max(len(comparison.keys), 1)
    cells = [Cell(baseline.name)] + [Cell("")] * (keys - 1)
    for metric in comparison.metrics:
        low, high = baseline.numbers.get(metric, (math.nan, math.nan))
        places = decimals[metric]
        low_text, high_text = format_number(low, places), format_number(high, places)
        text = low_text if low_text == high_text else f"{low_text} to {high_text}"
        cells.append(Cell("" if math.isnan(low) else text, low))
    return cells + [Cell("")] * (width - len(cells))


def _notes(comparison: Comparison) -> list[str]:
    notes = [comparison.choice] if comparison.choice else []
    if comparison.differing_seeds:
        notes.append("not all rows are means over the same seeds: runs are missing, or have not finished")
    ratios = [group.mse_over_pca for group in comparison.groups if group.mse_over_pca is not None]
    if comparison.has_pca and any(ratio < 1 for ratio in ratios):
        notes.append("* lower error than PCA with the same code size")
    copies = sum(sum(run.finished for run in group.runs) - len(group.finished) for group in comparison.groups)
    if copies:
        notes.append(f"not counted: copies of other runs in another folder ({copies})")
    notes += _changed_data([run for group in comparison.groups for run in group.finished])
    notes += [f"collapsed: {run.name}: {reason}" for run, reason in comparison.collapsed[:MAX_COLLAPSED]]
    if len(comparison.collapsed) > MAX_COLLAPSED:
        notes.append(f"collapsed: {len(comparison.collapsed) - MAX_COLLAPSED} more")
    return notes


def _changed_data(runs: Sequence[Run]) -> list[str]:
    """A note for each data set whose data are not the same in all of its runs."""
    first: dict[tuple[tuple[str, Value], ...], Run] = {}
    notes: dict[tuple[tuple[str, Value], ...], str] = {}
    for run in runs:
        settings = run.settings.items()
        key = tuple(sorted(item for item in settings if item[0].partition(".")[0] == "dataset"))
        other = first.setdefault(key, run)
        if None not in (run.data, other.data) and run.data != other.data:
            notes.setdefault(key, f"not comparable: the data changed between {other.name} and {run.name}")
    return list(notes.values())


def _decimals(comparison: Comparison, metric: str) -> int:
    """Decimals for four digits of the smallest mean in a column; means far below the others are ignored."""
    numbers = [group.statistic(metric) for group in comparison.groups]
    sizes = [abs(number.mean) for number in numbers if number and number.mean and math.isfinite(number.mean)]
    if not sizes:
        return 0
    usual = [size for size in sizes if size >= statistics.median(sizes) / 1000]
    return max(0, 3 - math.floor(math.log10(min(usual))))


def format_number(value: float, decimals: int) -> str:
    """The number with that many decimals, or with four digits if it is too large or too small for them."""
    fits = value == 0 or 10**-decimals <= abs(value) < 1e7
    return f"{value:.{decimals}f}" if fits else f"{value:.4g}"


def format_statistic(statistic: Statistic | None, decimals: int) -> str:
    """Mean ± sample standard deviation."""
    if statistic is None:
        return MISSING
    mean = format_number(statistic.mean, decimals)
    if statistic.std is None:
        return mean
    is_fixed = abs(statistic.mean) < 1e7 and statistic.std < 1e7
    return f"{mean} ± {statistic.std:.{decimals}f}" if is_fixed else f"{mean} ± {statistic.std:.4g}"
