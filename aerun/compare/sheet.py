"""A comparison as text: cells with a fixed number of decimals, for the terminal and for Markdown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from aerun.compare.groups import Baseline, Group, Statistic
from aerun.compare.select import MISSING, printable, shown
from aerun.compare.table import Comparison

OF_PCA, COUNT, REMARK, RUN, VERDICT = "mse / PCA", "n", "state", "run", "verdict"
NARROWEST = 7  # columns to which a text is cut, at the least


@dataclass(frozen=True)
class Cell:
    """What a cell says, and what it is sorted by; None sorts last."""

    text: str
    value: float | str | None = None


@dataclass(frozen=True)
class Column:
    """A heading, and whether the cells are numbers, which are never cut.

    ``higher_is_better``: the direction of a metric; None for a column that is not one.
    """

    name: str
    numeric: bool = False
    higher_is_better: bool | None = None

    @property
    def heading(self) -> str:
        """The name; of a metric with an arrow in the direction that is better."""
        return self.name if self.higher_is_better is None else f"{self.name} {'↑' if self.higher_is_better else '↓'}"


@dataclass(frozen=True)
class Sheet:
    """The table: a row a group, and the baselines' rows below them."""

    columns: list[Column]
    rows: list[list[Cell]]
    baselines: list[list[Cell]]
    notes: list[str]


def sheet(comparison: Comparison) -> Sheet:
    """The comparison as cells."""
    single = any(group.single for group in comparison.groups)
    counted = not single and any(len(group.runs) > 1 for group in comparison.groups)
    remarks = any(group.remark for group in comparison.groups)
    columns = [Column(key) for key in comparison.keys] or [Column(RUN)]
    columns += [Column(metric, True, comparison.higher_is_better(metric)) for metric in comparison.metrics]
    columns += [Column(OF_PCA, numeric=True)] * comparison.with_pca + [Column(COUNT, numeric=True)] * counted
    columns += [Column(REMARK)] * remarks + [Column(VERDICT)] * any(group.verdict for group in comparison.groups)
    columns += [Column(RUN)] * (single and bool(comparison.keys))
    decimals = {metric: _decimals(comparison, metric) for metric in comparison.metrics}
    named = {column.name for column in columns}
    rows = [_row(group, comparison, decimals, named) for group in comparison.groups]
    baselines = [_baseline(row, comparison, decimals, len(columns)) for row in comparison.baselines]
    return Sheet(columns, rows, baselines, _notes(comparison))


def _row(group: Group, comparison: Comparison, decimals: dict[str, int], named: set[str]) -> list[Cell]:
    name = group.runs[0].name if len(group.runs) == 1 else f"all {len(group.runs)}"
    cells = [Cell(shown(value), value) for value in group.values.values()] or [Cell(name, name)]
    for metric in comparison.metrics:
        result = group.statistic(metric)
        cells.append(Cell(spread(result, decimals[metric]), None if result is None else result.mean))
    if OF_PCA in named:
        ratio = group.of_pca
        mark = "" if ratio is None or ratio >= 1 else "*"
        cells.append(Cell(MISSING if ratio is None else f"{number(ratio, 2)}{mark or ' '}", ratio))
    if COUNT in named:
        cells.append(Cell(str(len(group.finished)), float(len(group.finished))))
    if REMARK in named:
        cells.append(Cell(group.remark, group.remark))
    if VERDICT in named:
        cells.append(Cell(group.verdict, group.verdict))
    if RUN in named and group.values:
        cells.append(Cell(name, name))
    return cells


def _baseline(baseline: Baseline, comparison: Comparison, decimals: dict[str, int], width: int) -> list[Cell]:
    """The name under the keys, the numbers under their metrics."""
    keys = max(len(comparison.keys), 1)
    cells = [Cell(baseline.name)] + [Cell("")] * (keys - 1)
    for metric in comparison.metrics:
        low, high = baseline.numbers.get(metric, (math.nan, math.nan))
        places = decimals[metric]
        text = number(low, places) if number(low, places) == number(high, places) else _range(low, high, places)
        cells.append(Cell("" if math.isnan(low) else text, low))
    return cells + [Cell("")] * (width - len(cells))


def _range(low: float, high: float, places: int) -> str:
    return f"{number(low, places)} to {number(high, places)}"


def _notes(comparison: Comparison) -> list[str]:
    notes = []
    if any(group.of_pca is not None and group.of_pca < 1 for group in comparison.groups) and comparison.with_pca:
        notes.append("* a lower error than PCA of the same code size")
    twice = sum(sum(run.finished for run in group.runs) - len(group.finished) for group in comparison.groups)
    if twice:
        notes.append(f"{twice} of the runs are the same as others, in another folder, and count once")
    notes += [f"collapsed: {run.name}: {why}" for run, why in comparison.collapsed[:10]]
    if len(comparison.collapsed) > 10:
        notes.append(f"collapsed: {len(comparison.collapsed) - 10} more")
    return notes


def _decimals(comparison: Comparison, metric: str) -> int:
    """Decimals that give the smallest mean of a column four digits, those aside that are far from all others."""
    numbers = [group.statistic(metric) for group in comparison.groups]
    sizes = [abs(number.mean) for number in numbers if number and number.mean and math.isfinite(number.mean)]
    if not sizes:
        return 0
    usual = [size for size in sizes if size >= statistics.median(sizes) / 1000]
    return max(0, 3 - math.floor(math.log10(min(usual))))


def number(value: float, decimals: int) -> str:
    """The number with those decimals, or with four digits where it is too large or too small for them."""
    fits = value == 0 or 10**-decimals <= abs(value) < 1e7
    return f"{value:.{decimals}f}" if fits else f"{value:.4g}"


def spread(statistic: Statistic | None, decimals: int) -> str:
    """Mean ± sample standard deviation."""
    if statistic is None:
        return MISSING
    mean = number(statistic.mean, decimals)
    if statistic.std is None:
        return mean
    is_fixed = abs(statistic.mean) < 1e7 and statistic.std < 1e7
    return f"{mean} ± {statistic.std:.{decimals}f}" if is_fixed else f"{mean} ± {statistic.std:.4g}"


def headline(comparison: Comparison) -> str:
    """How many runs there are, in which state, and what a row is."""
    runs, groups = len(comparison.runs), comparison.total
    states = ", ".join(f"{count} {state}" for state, count in comparison.states.items())
    text = f"{runs} run{'s' * (runs != 1)}: {states}"
    if comparison.collapsed:
        text += f" ({len(comparison.collapsed)} collapsed)"
    if groups != runs:
        over = ", ".join(f"{key} ({count})" for key, count in comparison.over.items()) or "repetitions"
        text += f"; {groups} row{'s' * (groups != 1)}, mean ± standard deviation over {over}"
    shown = len(comparison.groups)
    return text if shown == groups else f"{text}; the best {shown} by {comparison.metric}"


def failures(comparison: Comparison, limit: int | None = 5) -> list[str]:
    """What went wrong, by cause, with what was typed for the runs that it ended."""
    lines = []
    for cause in comparison.causes:
        count = len(cause.runs)
        lines.append(f"{count} {cause.runs[0].state}: {cause.text}")
        for run in cause.runs[:limit]:
            lines.append(f"    {run.name}: {printable(' '.join(run.overrides)) or 'no overrides'}")
        if limit is not None and count > limit:
            lines.append(f"    and {count - limit} more")
    return lines


def terminal(comparison: Comparison, width: int | None = None) -> str:
    """The table in columns, with what belongs to it, for a terminal of that width."""
    blocks = [[headline(comparison)], *lines(comparison, width), failures(comparison)]
    return "\n\n".join("\n".join(block) for block in blocks if block)


class Lines(NamedTuple):
    """A table in columns: two lines of head and one a row; baselines below it, in the same columns; notes."""

    rows: list[str]
    baselines: list[str]
    notes: list[str]


def lines(comparison: Comparison, width: int | None = None) -> Lines:
    """Texts are cut in their middle until no line is wider than ``width``."""
    page = sheet(comparison)
    body = [[cell.text for cell in row] for row in page.rows]
    below = [[cell.text for cell in row] for row in page.baselines]
    keys = max(len(comparison.keys), 1)
    heads = [column.heading for column in page.columns]
    widths = _widths(heads, body, below, keys)
    if width is not None and _total(widths) > width:
        heads = [column.name for column in page.columns]
        widths = _widths(heads, body, below, keys)
        _narrow(widths, [not column.numeric for column in page.columns], width)
    rows = [_line(heads, page.columns, widths), "  ".join("-" * size for size in widths)]
    rows += [_line(row, page.columns, widths) for row in body]
    room = _total(widths[:keys])
    baselines = [
        f"{cut(row[0], room):<{room}}  {_line(row[keys:], page.columns[keys:], widths[keys:])}".rstrip()
        for row in below
    ]
    return Lines(rows, baselines, page.notes)


def _line(texts: Sequence[str], columns: Sequence[Column], widths: Sequence[int]) -> str:
    aligned = (
        f"{text:>{size}}" if column.numeric else f"{cut(text, size):<{size}}"
        for text, column, size in zip(texts, columns, widths, strict=True)
    )
    return "  ".join(aligned).rstrip()


def _widths(
    heads: Sequence[str], body: Sequence[Sequence[str]], below: Sequence[Sequence[str]], keys: int
) -> list[int]:
    """The width of each column. A baseline's name extends over all columns of keys, which are empty in its row."""
    widths = [max(len(row[i]) for row in [heads, *body]) for i in range(len(heads))]
    for row in below:
        for i in range(keys, len(heads)):
            widths[i] = max(widths[i], len(row[i]))
        widths[keys - 1] += max(0, len(row[0]) - _total(widths[:keys]))
    return widths


def _total(widths: Sequence[int]) -> int:
    """The width of columns with two spaces between them."""
    return sum(widths) + 2 * (len(widths) - 1)


def _narrow(widths: list[int], may_shrink: Sequence[bool], width: int) -> None:
    """Take from the widest columns of text until all fit, or none can give more."""
    while _total(widths) > width:
        candidates = [i for i, may in enumerate(may_shrink) if may and widths[i] > NARROWEST]
        if not candidates:
            return
        widths[max(candidates, key=lambda i: widths[i])] -= 1


def cut(text: str, width: int) -> str:
    """The text, without its middle where it is too long."""
    if len(text) <= width:
        return text
    left = (width - 1) // 2
    return f"{text[:left]}…{text[len(text) - (width - 1 - left) :]}"


def markdown(comparison: Comparison) -> str:
    """The table, its notes and the failures, in Markdown."""
    page = sheet(comparison)
    lines = [_escaped(headline(comparison)), "", _cells(column.heading for column in page.columns)]
    lines.append(_cells("---:" if column.numeric else "---" for column in page.columns))
    lines += [_cells(cell.text.strip() for cell in row) for row in page.rows]
    lines += [_cells(f"*{cell.text}*" if cell.text else "" for cell in row) for row in page.baselines]
    if page.notes:
        lines += ["", *(f"{_escaped(note)}  " for note in page.notes)]
    if comparison.causes:
        lines += ["", "Failures:", ""]
        for cause in comparison.causes:
            lines.append(f"- {len(cause.runs)} {cause.runs[0].state}: {_escaped(cause.text)}")
            lines += [f"  - {_escaped(run.name)}: {_escaped(' '.join(run.overrides))}" for run in cause.runs]
    return "\n".join(lines) + "\n"


def _cells(texts: Iterable[str]) -> str:
    return "| " + " | ".join(text if set(text) <= set("-:") else _escaped(text, stars=False) for text in texts) + " |"


def _escaped(text: str, stars: bool = True) -> str:
    for character in "\\|<" + "*_`[]" * stars:
        text = text.replace(character, f"\\{character}")
    return text.replace("\n", " ")
