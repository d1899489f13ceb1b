"""A comparison as text for a terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from aerun.compare.comparison import Comparison
from aerun.compare.records import Run
from aerun.compare.setting_text import printable
from aerun.compare.text_table import Column, build_table
from aerun.errors import visible

MIN_COLUMN_WIDTH = 7  # to which texts are shortened
MAX_LISTED_RUNS = 5  # of each cause of failure


def format_headline(comparison: Comparison) -> str:
    """The number of runs in each state, and what they are averaged over."""
    runs, groups = len(comparison.runs), comparison.total
    states = ", ".join(f"{count} {state}" for state, count in comparison.states.items())
    text = f"{runs} run{'s' * (runs != 1)}: {states}"
    if comparison.collapsed:
        text += f" ({len(comparison.collapsed)} collapsed)"
    if groups != runs:
        over = ", ".join(f"{key} ({count})" for key, count in comparison.over.items()) or "repetitions"
        text += f"; {groups} row{'s' * (groups != 1)}, mean ± standard deviation over {over}"
    shown = len(comparison.groups)
    return visible(text if shown == groups else f"{text}; the best {shown} by {comparison.metric}")


def format_failures(comparison: Comparison) -> list[str]:
    """The causes of failure, each with the overrides of its runs."""
    lines = []
    for failure in comparison.failures:
        count = len(failure.runs)
        lines.append(visible(f"{count} {failure.runs[0].state}: {failure.text}"))
        for run in failure.runs[:MAX_LISTED_RUNS]:
            lines.append(f"    {visible(run.name)}: {printable(' '.join(run.overrides)) or 'no overrides'}")
        if count > MAX_LISTED_RUNS:
            lines.append(f"    and {count - MAX_LISTED_RUNS} more")
    return lines


def format_best(comparison: Comparison, run: Run) -> str:
    """The numbers of the best run: the one that chose it, and the one to report."""
    names = dict.fromkeys((comparison.metric, comparison.reported))
    return ", ".join(f"{name} {run.numbers[name]:.6g}" for name in names if name in run.numbers)


def format_terminal(comparison: Comparison, width: int | None = None) -> str:
    """The headline, the table with baselines and notes, and the failures, for a terminal of that width."""
    blocks = [[format_headline(comparison)], *format_lines(comparison, width), format_failures(comparison)]
    return "\n\n".join("\n".join(block) for block in blocks if block)


class TableLines(NamedTuple):
    """A table in columns: two header lines and one for each row; baselines in the same columns; notes."""

    rows: list[str]
    baselines: list[str]
    notes: list[str]


def format_lines(comparison: Comparison, width: int | None = None) -> TableLines:
    """The table in columns. Texts are shortened in their middle until no line is wider than ``width``."""
    table = build_table(comparison)
    body = [[visible(cell.text) for cell in row] for row in table.rows]
    below = [[visible(cell.text) for cell in row] for row in table.baselines]
    keys = max(len(comparison.keys), 1)
    heads = [visible(column.heading) for column in table.columns]
    widths = _widths(heads, body, below, keys)
    if width is not None and _total(widths) > width:
        heads = [visible(column.name) for column in table.columns]
        widths = _widths(heads, body, below, keys)
        _narrow(widths, [not column.numeric for column in table.columns], width)
    rows = [_join_cells(heads, table.columns, widths), "  ".join("-" * size for size in widths)]
    rows += [_join_cells(row, table.columns, widths) for row in body]
    room = _total(widths[:keys])
    baselines = [
        f"{shorten(row[0], room):<{room}}  {_join_cells(row[keys:], table.columns[keys:], widths[keys:])}".rstrip()
        for row in below
    ]
    return TableLines(rows, baselines, [visible(note) for note in table.notes])


def _join_cells(texts: Sequence[str], columns: Sequence[Column], widths: Sequence[int]) -> str:
    aligned = (
        f"{text:>{size}}" if column.numeric else f"{shorten(text, size):<{size}}"
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
    """Narrow the widest text columns until all columns fit, or none can be narrower."""
    while _total(widths) > width:
        candidates = [i for i, may in enumerate(may_shrink) if may and widths[i] > MIN_COLUMN_WIDTH]
        if not candidates:
            return
        widths[max(candidates, key=lambda i: widths[i])] -= 1


def shorten(text: str, width: int) -> str:
    """The text, with its middle replaced by an ellipsis if it is too long."""
    if len(text) <= width:
        return text
    left = (width - 1) // 2
    return f"{text[:left]}…{text[len(text) - (width - 1 - left) :]}"


def format_markdown(comparison: Comparison) -> str:
    """The headline, the table, its notes and the failures, in Markdown."""
    table = build_table(comparison)
    lines = [_escape(format_headline(comparison)), "", _join_markdown(column.heading for column in table.columns)]
    lines.append(_join_markdown("---:" if column.numeric else "---" for column in table.columns))
    lines += [_join_markdown(cell.text.strip() for cell in row) for row in table.rows]
    lines += [_join_markdown(f"*{cell.text}*" if cell.text else "" for cell in row) for row in table.baselines]
    if table.notes:
        lines += ["", *(f"{_escape(note)}  " for note in table.notes)]
    if comparison.failures:
        lines += ["", "Failures:", ""]
        for failure in comparison.failures:
            lines.append(f"- {len(failure.runs)} {failure.runs[0].state}: {_escape(failure.text)}")
            lines += [f"  - {_escape(run.name)}: {_escape(' '.join(run.overrides))}" for run in failure.runs]
    return "\n".join(lines) + "\n"


def _join_markdown(texts: Iterable[str]) -> str:
    return "| " + " | ".join(text if set(text) <= set("-:") else _escape(text, stars=False) for text in texts) + " |"


def _escape(text: str, stars: bool = True) -> str:
    for character in "\\|<" + "*_`[]" * stars:
        text = text.replace(character, f"\\{character}")
    return text.replace("\n", " ")
