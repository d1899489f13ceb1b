"""A comparison as a table of texts, with a fixed number of decimals in each column."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from aerun.compare.comparison import Comparison
from aerun.compare.groups import Baseline, Group
from aerun.compare.seed_statistics import PairedDifference, Statistic
from aerun.compare.setting_text import MISSING, format_setting
from aerun.compare.table_notes import table_notes

OF_PCA, COUNT, STATE, RUN, VERDICT = "mse / PCA", "n", "state", "run", "verdict"
INTERVAL, DIFFERENCE, FRONT = "95 % interval", "difference", "front"


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


Field = tuple[Column, Callable[[Group], Cell]]


@dataclass(frozen=True)
class TextTable:
    """One row for each group, the baselines' rows below them, and notes."""

    columns: list[Column]
    rows: list[list[Cell]]
    baselines: list[list[Cell]]
    notes: list[str]


def build_table(comparison: Comparison) -> TextTable:
    """The comparison as columns and cells."""
    fields = _fields(comparison)
    columns = [column for column, _ in fields]
    decimals = {metric: _decimals(comparison, metric) for metric in comparison.metrics}
    return TextTable(
        columns,
        [[fill(group) for _, fill in fields] for group in comparison.groups],
        [_baseline(row, columns, decimals) for row in comparison.baselines],
        table_notes(comparison),
    )


def _fields(comparison: Comparison) -> list[Field]:
    """The columns, each with the function that fills it."""
    groups = comparison.groups
    single = any(group.single for group in groups)
    counted = not single and any(len(group.runs) > 1 for group in groups)
    front = any(group.on_front is not None for group in groups)
    fields = [_key(key) for key in comparison.keys] or [(Column(RUN), _run)]
    for metric in comparison.metrics:
        decimals = _decimals(comparison, metric)
        fields.append(_metric(metric, comparison.higher_is_better(metric), decimals))
        if metric == comparison.metric:
            fields += [_best_of(draws, decimals) for draws in sorted({m for g in groups for m in g.expected_best})]
        if metric == comparison.reported:
            fields += [_interval(metric, decimals)] * counted
            fields += _differences(decimals + 1) if any(group.paired for group in groups) else []
    fields += [(Column(FRONT), lambda group: Cell("●" * bool(group.on_front), str(group.on_front)))] * front
    fields += [(Column(OF_PCA, numeric=True), _ratio)] * comparison.has_pca
    fields += [(Column(COUNT, numeric=True), lambda group: _number(len(group.finished)))] * counted
    fields += [(Column(STATE), lambda group: Cell(group.state, group.state))] * any(group.state for group in groups)
    fields += [(Column(VERDICT), lambda g: Cell(g.verdict, g.verdict))] * any(group.verdict for group in groups)
    return fields + [(Column(RUN), _run)] * (single and bool(comparison.keys))


def _key(key: str) -> Field:
    return Column(key), lambda group: Cell(format_setting(group.values[key]), group.values[key])


def _run(group: Group) -> Cell:
    name = group.runs[0].name if len(group.runs) == 1 else f"all {len(group.runs)}"
    return Cell(name, name)


def _metric(metric: str, higher_is_better: bool, decimals: int) -> Field:
    def fill(group: Group) -> Cell:
        result = group.statistic(metric)
        return Cell(format_statistic(result, decimals), None if result is None else result.mean)

    return Column(metric, True, higher_is_better), fill


def _interval(metric: str, decimals: int) -> Field:
    def fill(group: Group) -> Cell:
        result = group.statistic(metric)
        interval = None if result is None else result.interval
        return Cell(format_interval(interval, decimals), None if interval is None else interval[0])

    return Column(INTERVAL, numeric=True), fill


def _best_of(draws: int, decimals: int) -> Field:
    def fill(group: Group) -> Cell:
        value = group.expected_best.get(draws)
        return Cell(MISSING if value is None else format_number(value, decimals), value)

    return Column(f"best of {draws}", numeric=True), fill


def _differences(decimals: int) -> list[Field]:
    """The columns of the difference from the baseline row; empty cells in rows without one."""

    def column(name: str, fill: Callable[[PairedDifference], Cell]) -> Field:
        return Column(name, numeric=True), lambda group: fill(group.paired) if group.paired else Cell("")

    def difference(pair: PairedDifference) -> Cell:
        statistic = pair.statistic
        if statistic is None:
            return Cell(MISSING)
        text = f"{statistic.mean:+.{decimals}f}"
        return Cell(f"{text} {format_interval(statistic.interval, decimals)}", statistic.mean)

    return [
        column(DIFFERENCE, difference),
        column("p (t)", lambda pair: Cell(format_p(pair.p_t_holm), pair.p_t_holm)),
        column("p (Wilcoxon)", lambda pair: Cell(format_p(pair.p_wilcoxon_holm), pair.p_wilcoxon_holm)),
        column("d_z", lambda p: Cell(MISSING if p.effect_size is None else f"{p.effect_size:.2f}", p.effect_size)),
        column("pairs", lambda pair: _number(len(pair.differences))),
    ]


def _ratio(group: Group) -> Cell:
    ratio = group.mse_over_pca
    mark = "*" if ratio is not None and ratio < 1 else " "
    return Cell(MISSING if ratio is None else f"{format_number(ratio, 2)}{mark}", ratio)


def _number(count: int) -> Cell:
    return Cell(str(count), float(count))


def _baseline(baseline: Baseline, columns: Sequence[Column], decimals: Mapping[str, int]) -> list[Cell]:
    """The baseline's name in the first column, its numbers in the columns of their metrics."""
    cells = [Cell(baseline.name)]
    for column in columns[1:]:
        low, high = baseline.numbers.get(column.name, (math.nan, math.nan))
        places = decimals.get(column.name, 0)
        low_text, high_text = format_number(low, places), format_number(high, places)
        text = low_text if low_text == high_text else f"{low_text} to {high_text}"
        cells.append(Cell("") if math.isnan(low) else Cell(text, low))
    return cells


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


def format_interval(interval: tuple[float, float] | None, decimals: int) -> str:
    """``[low, high]``."""
    if interval is None:
        return MISSING
    return f"[{', '.join(f'{end:.{decimals}f}' if abs(end) < 1e7 else f'{end:.4g}' for end in interval)}]"


def format_p(p: float | None) -> str:
    """A p-value with four decimals."""
    return MISSING if p is None else f"{p:.4f}" if p >= 1e-4 else "<0.0001"
