"""One self-contained HTML page: tables that sort and filter, pictures, failures. It loads nothing from anywhere."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from urllib.parse import quote

from aerun.compare.groups import Cause, Group
from aerun.compare.pictures import Picture
from aerun.compare.records import Run
from aerun.compare.sheet import COUNT, OF_PCA, REMARK, RUN, VERDICT, Cell, Sheet, headline, sheet
from aerun.compare.table import Comparison

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
TRACEBACKS = 10  # of one cause; they say the same


def html(comparison: Comparison, pictures: Sequence[Picture], folder: Path) -> str:
    """The page, for a file in ``folder``: links to runs are relative to it."""
    sections = [("results", "Results", _results(comparison, folder))]
    sections += [(picture.name, picture.title, _figure(picture)) for picture in pictures]
    if comparison.causes:
        sections.append(("failures", "Failures", "".join(_cause(cause, folder) for cause in comparison.causes)))
    if any(not group.single for group in comparison.groups):
        sections.append(("runs", "Runs", _table(comparison.singles(), folder, "all", _numbered(comparison))))
    names = sorted({run.folder.parent.name or str(run.folder.parent) for run in comparison.runs})
    title = f"{', '.join(names[:3])}{', …' * (len(names) > 3)}: {comparison.metric}"
    return PAGE.format(
        title=escape(title),
        headline=escape(headline(comparison)),
        links=" ".join(f'<a href="#{name}">{escape(title)}</a>' for name, title, _ in sections),
        sections="\n".join(
            f'<section id="{name}">\n<h2>{escape(title)}</h2>\n{body}\n</section>' for name, title, body in sections
        ),
        style=_beside("page.css"),
        script=_beside("page.js"),
    )


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _results(comparison: Comparison, folder: Path) -> str:
    table = _table(comparison, folder, "rows", list(range(len(comparison.groups))))
    notes = "".join(f"<p class=note>{escape(note)}</p>" for note in sheet(comparison).notes)
    ranked = comparison.ranked()
    best = ranked[0].best_run(comparison.metric) if ranked else None
    if best is None:
        return table + notes
    code = f"import aerun\n\nmodel = aerun.load({str(best.folder)!r})\ncodes = model.encode(images)"
    return (
        f"{table}{notes}\n<p>Best: {escape(ranked[0].label)}; its best run is {_link(best, folder)}, "
        f"{escape(comparison.metric)} {best.numbers[comparison.metric]:.6g}.</p>\n<pre>{escape(code)}</pre>"
    )


def _numbered(comparison: Comparison) -> list[int]:
    """For each run the number of its row, -1 where ``--best`` left that out."""
    rows = {run.folder: number for number, group in enumerate(comparison.groups) for run in group.runs}
    return [rows.get(run.folder, -1) for run in comparison.runs]


def _table(comparison: Comparison, folder: Path, name: str, numbers: Sequence[int]) -> str:
    """A table whose rows carry the number of the group that they belong to, and cells what they are sorted by."""
    page = sheet(comparison)
    heads = "".join(
        f'<th scope=col data-name="{escape(column.name)}"{" class=number" * column.numeric}'
        f"{' data-best=highest' * bool(column.higher_is_better)}><button>{escape(column.heading)}</button></th>"
        for column in page.columns
    )
    rows = "\n".join(
        f"<tr data-group={number}{_kind(group)}>{_cells(page, cells, group, folder)}</tr>"
        for number, group, cells in zip(numbers, comparison.groups, page.rows, strict=True)
    )
    below = "".join(f"<tr>{_baseline(page, cells, folder)}</tr>\n" for cells in page.baselines)
    return (
        f'<div class=scroll><table id="{name}">\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n'
        f"<tfoot>\n{below}</tfoot>\n</table></div>"
    )


def _baseline(page: Sheet, cells: Sequence[Cell], folder: Path) -> str:
    """A baseline's row: its name over all the keys' columns."""
    keys = max(1, next((i for i, column in enumerate(page.columns) if column.numeric), 1))
    rest = replace(page, columns=page.columns[keys:])
    return f"<td colspan={keys}>{escape(cells[0].text)}</td>{_cells(rest, cells[keys:], None, folder)}"


def _kind(group: Group) -> str:
    if group.runs and all(run.failed for run in group.runs):
        return " class=failed"
    return " class=dull" if not group.finished or all(run.collapse for run in group.finished) else ""


def _cells(page: Sheet, cells: Sequence[Cell], group: Group | None, folder: Path) -> str:
    return "".join(
        _cell(column.name, column.numeric, cell, group, folder)
        for column, cell in zip(page.columns, cells, strict=True)
    )


def _cell(name: str, numeric: bool, cell: Cell, group: Group | None, folder: Path) -> str:
    text = escape(cell.text.strip())
    if numeric and name not in (COUNT, OF_PCA):
        mean, sign, deviation = text.partition(" ± ")
        text = f"{mean}<small>{sign}{deviation}</small>" if sign else mean
    elif name in (REMARK, VERDICT) and text:
        text = f"<span class=mark>{text}</span>"
    elif name == RUN and group is not None and len(group.runs) == 1:
        text = _link(group.runs[0], folder)
    is_good = name == OF_PCA and isinstance(cell.value, float) and cell.value < 1
    classes = " ".join(word for word, holds in (("number", numeric), ("good", is_good)) if holds)
    shown = f' class="{classes}"' if classes else ""
    return f'<td{shown} data-value="{escape("" if cell.value is None else str(cell.value))}">{text}</td>'


def _link(run: Run, folder: Path) -> str:
    path = Path(os.path.relpath(run.folder, folder)).as_posix()
    return f'<a href="{escape(quote(path))}/">{escape(run.name)}</a>'


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode()
    kind = "photo" if picture.name in ("montage", "heat_map") else "chart"  # charts turn dark with the page
    image = f'<img class={kind} alt="{escape(picture.title)}" src="data:image/png;base64,{data}">'
    return f"<figure><div class=scroll>{image}</div><figcaption>{escape(picture.caption)}</figcaption></figure>"


def _cause(cause: Cause, folder: Path) -> str:
    items = []
    for number, run in enumerate(cause.runs):
        text = f"{_link(run, folder)} <code>{escape(' '.join(run.overrides))}</code>"
        if run.traceback and number < TRACEBACKS:
            text += f"<details><summary>traceback</summary><pre>{escape(run.traceback)}</pre></details>"
        items.append(f"<li>{text}</li>")
    summary = f"<b>{len(cause.runs)} {escape(cause.runs[0].state)}</b> {escape(cause.text)}"
    return f"<details open><summary>{summary}</summary><ul>{''.join(items)}</ul></details>"
