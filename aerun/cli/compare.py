"""``aerun-compare``: compare runs by their folders, print, and write tables, figures and a page."""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from aerun.base.arguments import Parser, count, whole_number
from aerun.base.files import write_bytes, write_text
from aerun.cli.command import guard
from aerun.compare.collect import collect
from aerun.compare.comparison import Comparison, Question, compare
from aerun.compare.csv_json import as_csv, as_json
from aerun.compare.table_output import format_markdown, format_terminal
from aerun.config.schema import nearest
from aerun.errors import ConfigError

EXAMPLES = """\
  %(prog)s outputs/grid                                    keys that vary, mean and deviation over seeds, best first
  %(prog)s outputs/grid --where 'sparsity=topk' --metric test/psnr,validation/loss
  %(prog)s outputs/grid --group-by model                   average over all other keys
  %(prog)s outputs/grid --best                             the best run, and the code that loads it
  %(prog)s outputs/grid other_run --output report          tables, figures and an HTML page
"""


def main() -> int:
    """``aerun-compare SWEEP_OR_RUN...``. Returns the exit code."""
    return guard(lambda: compare_runs(sys.argv[1:]))


def build_parser() -> Parser:
    """All options."""
    result = Parser("Compare runs by the files in their folders: the keys that vary, averaged over seeds.", EXAMPLES)
    add = result.add_argument
    add("paths", nargs="+", metavar="SWEEP_OR_RUN", help="folders of sweeps or runs, or folders that contain them")
    add("--metric", action="append", default=[], metavar="NAME,…", help="numbers to show; the first one ranks")
    add(
        "--where",
        action="append",
        default=[],
        metavar="'KEY=VALUE'",
        help="only these runs; also KEY=A,B and != < <= > >=",
    )
    add("--over", action="append", default=[], metavar="KEY,…", help="average over these keys (default: seed)")
    add("--group-by", action="append", default=[], metavar="KEY,…", help="average over all keys but these")
    add("--no-group", action="store_true", help="one row per run")
    add("--keys", action="append", default=[], metavar="KEY,…", help="show these keys too")
    add("--sort", metavar="NAME", help="sort by this key or number (default: the first metric, best first)")
    add("--descending", action="store_true", help="reverse the order")
    add("--best", nargs="?", type=count, const=1, metavar="N", help="only the N best (1), and how to load the best")
    add("--format", choices=("table", "markdown", "csv", "json"), default="table", help="output format (table)")
    add("--output", type=Path, metavar="FOLDER", help="write Markdown, CSV, JSON, figures and index.html to FOLDER")
    add("--html", type=Path, metavar="FILE", help="write only the page, with its figures inside")
    return result


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The arguments; options and folders may come in any order. ConfigError for unknown options."""
    parser = build_parser()
    arguments, unknown = parser.parse_known_intermixed_args(_best_before_path(words))
    if unknown:
        raise ConfigError(f"{unknown[0]}: unknown option.{nearest(unknown[0], parser._option_string_actions)}")
    return arguments


def _best_before_path(words: Sequence[str]) -> list[str]:
    """Turn ``--best FOLDER`` into ``--best=1 FOLDER``: argparse would take the folder as the number."""
    pairs = zip_longest(words, words[1:], fillvalue="")
    return ["--best=1" if word == "--best" and whole_number(following) is None else word for word, following in pairs]


def _split(words: Sequence[str]) -> tuple[str, ...]:
    """Names from options that may be repeated and may hold several names, separated by commas."""
    return tuple(name.strip() for word in words for name in word.split(",") if name.strip())


def compare_runs(words: Sequence[str]) -> None:
    """Parse, collect, compare, print, write."""
    arguments = parse(words)
    logging.basicConfig(format="aerun: %(message)s", level=logging.WARNING)
    question = Question(
        metrics=_split(arguments.metric),
        over=_split(arguments.over) or Question.over,
        group_by=_split(arguments.group_by) or None,
        grouped=not arguments.no_group,
        where=tuple(arguments.where),
        keys=_split(arguments.keys),
        sort=arguments.sort,
        descending=arguments.descending,
        best=arguments.best,
    )
    comparison = compare(collect(arguments.paths), question)
    text = _format(comparison, arguments.format)
    if arguments.best and arguments.format == "table":
        text += "\n" + _how_to_load(comparison)
    _print(text)
    if arguments.output is not None:
        arguments.output.mkdir(parents=True, exist_ok=True)
        write_text(arguments.output / "compare.md", format_markdown(comparison))
        write_text(arguments.output / "compare.csv", as_csv(comparison))
        write_text(arguments.output / "compare.json", as_json(comparison))
    _write_figures(comparison, arguments.output, arguments.html)


def _print(text: str) -> None:
    """Print; a reader that stops early, such as ``head``, is not an error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes stdout again at exit


def _format(comparison: Comparison, format: str) -> str:
    if format == "table":
        has_width = sys.stdout.isatty() or "COLUMNS" in os.environ
        return format_terminal(comparison, shutil.get_terminal_size().columns if has_width else None)
    return {"markdown": format_markdown, "csv": as_csv, "json": as_json}[format](comparison).rstrip("\n")


def _how_to_load(comparison: Comparison) -> str:
    """The best run, and the code that loads its model."""
    group = comparison.ranked()[0]
    run = group.best_run(comparison.metric)
    assert run is not None  # ranked() returns only groups with a best run
    value = f"{comparison.metric} {run.numbers[comparison.metric]:.6g}"
    return (
        f"\nbest: {group.label}; its best run has {value}\n{run.folder}\n\n"
        f"import aerun\n\nmodel = aerun.load({str(run.folder)!r})\ncodes = model.encode(images)"
    )


def _write_figures(comparison: Comparison, folder: Path | None, page: Path | None) -> None:
    """PNG files into ``folder``, and the pages that show them."""
    pages = [*([folder / "index.html"] if folder else []), *([page] if page else [])]
    if not pages:
        return
    from aerun.compare.html_page import build_page
    from aerun.compare.report_pictures import draw_pictures

    drawn = draw_pictures(comparison)
    for picture in drawn if folder else []:
        assert folder is not None
        write_bytes(folder / f"{picture.name}.png", picture.png)
    for path in pages:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, build_page(comparison, drawn, path.parent))
        print(f"aerun: wrote {path}", file=sys.stderr)
