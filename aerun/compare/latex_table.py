"""A comparison as a LaTeX table, for the packages booktabs and, if it is wide, graphicx."""

from __future__ import annotations

import re

from aerun.compare.comparison import Comparison
from aerun.compare.setting_text import MISSING
from aerun.compare.table_output import format_headline
from aerun.compare.text_table import Cell, Column, build_table

LEFT_OUT = ("state", "verdict", "run")  # columns that a paper does not show
SPECIAL = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "●": r"$\bullet$",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    MISSING: "--",
    "…": r"\ldots{}",
}


def format_latex(comparison: Comparison) -> str:
    r"""A ``tabular`` with the rules of booktabs, to ``\input`` into a table; the notes are comments above it."""
    table = build_table(comparison)
    kept = [index for index, column in enumerate(table.columns) if column.name not in LEFT_OUT or index == 0]
    columns = [table.columns[index] for index in kept]
    rows = [[_cell(row[index], table.columns[index]) for index in kept] for row in table.rows]
    below = [[_cell(row[index], table.columns[index]) for index in kept] for row in table.baselines]
    notes = [format_headline(comparison), *table.notes]
    body = [_join([escape(column.heading) for column in columns]), r"\midrule", *map(_join, rows)]
    body += [r"\midrule", *map(_join, below)] if below else []
    lines = [f"% {' '.join(note.split())}" for note in notes] + [r"% \usepackage{booktabs}"]
    lines.append(f"\\begin{{tabular}}{{{''.join('r' if column.numeric else 'l' for column in columns)}}}")
    return "\n".join([*lines, r"\toprule", *body, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _join(cells: list[str]) -> str:
    return f"{' & '.join(cells)} \\\\"


def _cell(cell: Cell, column: Column) -> str:
    text = cell.text.strip()
    if not column.numeric or text in ("", MISSING):
        return escape(text)
    number = re.sub(r"e([+-])0*(\d+)", lambda power: rf" \times 10^{{{power[1].strip('+')}{power[2]}}}", text)
    for word, command in (
        (MISSING, r"\mbox{--}"),
        (" to ", r"\mbox{--}"),
        ("±", r"\pm"),
        ("*", "^{*}"),
        (" [", r"\ ["),
    ):
        number = number.replace(word, command)
    return f"${number}$"


def escape(text: str) -> str:
    """The text, with characters that LaTeX would interpret as commands."""
    return "".join(SPECIAL.get(character, character) for character in text)
