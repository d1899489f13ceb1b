"""One self-contained HTML page: tables to sort and filter, pictures, failures. It loads no other file."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from urllib.parse import quote

from aerun.compare.comparison import Comparison
from aerun.compare.groups import Failure, Group
from aerun.compare.records import Run
from aerun.compare.report_pictures import Picture
from aerun.compare.table_output import format_best, format_headline
from aerun.compare.text_table import COUNT, OF_PCA, RUN, STATE, VERDICT, Cell, TextTable, build_table

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p>{headline}</p>
<nav>{links}</nav>
<label>Filter <input id="filter" type="search" placeholder="conv topk" autocomplete="off"></label>
<output id="count"></output>
</header>
<main>
{sections}
</main>
<script>
{script}</script>
</body>
</html>
"""
MAX_TRACEBACKS = 10  # of each cause, since they are much the same


def build_page(comparison: Comparison, pictures: Sequence[Picture], folder: Path) -> str:
    """The page, for a file in ``folder``; links to runs are relative to it."""
    sections = [("results", "Results", _results(comparison, folder))]
    sections += [(picture.name, picture.title, _figure(picture)) for picture in pictures]
    if comparison.failures:
        failures = "".join(_failure(failure, folder) for failure in comparison.failures)
        sections.append(("failures", "Failures", failures))
    if any(not group.single for group in comparison.groups):
        sections.append(("runs", "Runs", _table(comparison.ungrouped(), folder, "all", _row_numbers(comparison))))
    names = sorted({run.folder.parent.name or str(run.folder.parent) for run in comparison.runs})
    title = f"{', '.join(names[:3])}{', …' * (len(names) > 3)}: {comparison.metric}"
    return PAGE.format(
        title=escape(title),
        headline=escape(format_headline(comparison)),
        links=" ".join(f'<a href="#{name}">{escape(title)}</a>' for name, title, _ in sections),
        sections="\n".join(
            f'<section id="{name}">\n<h2>{escape(title)}</h2>\n{body}\n</section>' for name, title, body in sections
        ),
        style=_read_asset("page.css"),
        script=_read_asset("page.js"),
    )


def _read_asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _results(comparison: Comparison, folder: Path) -> str:
    table = _table(comparison, folder, "rows", list(range(len(comparison.groups))))
    notes = "".join(f"<p class=note>{escape(note)}</p>" for note in build_table(comparison).notes)
    ranked = comparison.ranked()
    best = ranked[0].best_run(comparison.metric) if ranked else None
    if best is None:
        return table + notes
    code = f"import aerun\n\nmodel = aerun.load({str(best.folder)!r})\ncodes = model.encode(images)"
    return (
        f"{table}{notes}\n<p>Best by {escape(comparison.metric)}: {escape(ranked[0].label)}; its best run is "
        f"{_link(best, folder)}, {escape(format_best(comparison, best))}.</p>\n<pre>{escape(code)}</pre>"
    )


def _row_numbers(comparison: Comparison) -> list[int]:
    """For each run, the number of its group's row; -1 if ``--best`` left the group out."""
    rows = {run.folder: number for number, group in enumerate(comparison.groups) for run in group.runs}
    return [rows.get(run.folder, -1) for run in comparison.runs]


def _table(comparison: Comparison, folder: Path, name: str, numbers: Sequence[int]) -> str:
    """A table. Each row has the number of its group as an attribute, each cell the value that it is sorted by."""
    table = build_table(comparison)
    heads = "".join(
        f'<th scope=col data-name="{escape(column.name)}"{" class=number" * column.numeric}'
        f"{' data-best=highest' * bool(column.higher_is_better)}><button>{escape(column.heading)}</button></th>"
        for column in table.columns
    )
    rows = "\n".join(
        f"<tr data-group={number}{_row_class(group)}>{_cells(table, cells, group, folder)}</tr>"
        for number, group, cells in zip(numbers, comparison.groups, table.rows, strict=True)
    )
    below = "".join(f"<tr>{_baseline(table, cells, folder)}</tr>\n" for cells in table.baselines)
    return (
        f'<div class=scroll><table id="{name}">\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n'
        f"<tfoot>\n{below}</tfoot>\n</table></div>"
    )


def _baseline(table: TextTable, cells: Sequence[Cell], folder: Path) -> str:
    """A baseline's row; its name extends over the columns of all keys."""
    keys = max(1, next((i for i, column in enumerate(table.columns) if column.numeric), 1))
    rest = replace(table, columns=table.columns[keys:])
    return f"<td colspan={keys}>{escape(cells[0].text)}</td>{_cells(rest, cells[keys:], None, folder)}"


def _row_class(group: Group) -> str:
    if group.runs and all(run.failed for run in group.runs):
        return " class=failed"
    return " class=dull" if not group.finished or all(run.collapse for run in group.finished) else ""


def _cells(table: TextTable, cells: Sequence[Cell], group: Group | None, folder: Path) -> str:
    return "".join(
        _cell(column.name, column.numeric, cell, group, folder)
        for column, cell in zip(table.columns, cells, strict=True)
    )


def _cell(name: str, numeric: bool, cell: Cell, group: Group | None, folder: Path) -> str:
    text = escape(cell.text.strip())
    if numeric and name not in (COUNT, OF_PCA):
        mean, sign, deviation = text.partition(" ± ")
        text = f"{mean}<small>{sign}{deviation}</small>" if sign else mean
    elif name in (STATE, VERDICT) and text:
        text = f"<span class=mark>{text}</span>"
    elif name == RUN and group is not None and len(group.runs) == 1:
        text = _link(group.runs[0], folder)
    is_good = name == OF_PCA and isinstance(cell.value, float) and cell.value < 1
    classes = " ".join(name for name, applies in (("number", numeric), ("good", is_good)) if applies)
    attribute = f' class="{classes}"' if classes else ""
    return f'<td{attribute} data-value="{escape("" if cell.value is None else str(cell.value))}">{text}</td>'


def _link(run: Run, folder: Path) -> str:
    path = Path(os.path.relpath(run.folder, folder)).as_posix()
    return f'<a href="{escape(quote(path, errors="surrogateescape"))}/">{escape(run.name)}</a>'


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode()
    kind = "photo" if picture.name in ("montage", "heat_map") else "chart"  # charts are inverted on dark pages
    image = f'<img class={kind} alt="{escape(picture.title)}" src="data:image/png;base64,{data}">'
    return f"<figure><div class=scroll>{image}</div><figcaption>{escape(picture.caption)}</figcaption></figure>"


def _failure(failure: Failure, folder: Path) -> str:
    items = []
    for number, run in enumerate(failure.runs):
        text = f"{_link(run, folder)} <code>{escape(' '.join(run.overrides))}</code>"
        if run.traceback and number < MAX_TRACEBACKS:
            text += f"<details><summary>traceback</summary><pre>{escape(run.traceback)}</pre></details>"
        items.append(f"<li>{text}</li>")
    summary = f"<b>{len(failure.runs)} {escape(failure.runs[0].state)}</b> {escape(failure.text)}"
    return f"<details open><summary>{summary}</summary><ul>{''.join(items)}</ul></details>"
