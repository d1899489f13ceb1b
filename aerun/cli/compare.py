"""The command line of the comparison: parse, collect, compare, print, write."""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from aerun.base.arguments import Parser, count
from aerun.base.files import write_bytes, write_text
from aerun.cli.command import guarded
from aerun.compare.collect import collect
from aerun.compare.comparison import Comparison, Question, compare
from aerun.compare.csv_json import as_csv, as_json
from aerun.compare.table_output import format_markdown, format_terminal
from aerun.config.schema import nearest
from aerun.errors import ConfigError

EXAMPLES = """\
  %(prog)s outputs/grid                                    what varied, mean and deviation over seeds, best first
  %(prog)s outputs/grid --where 'sparsity=topk' --metric test/psnr,validation/loss
  %(prog)s outputs/grid --group-by model                   averaged over everything else
  %(prog)s outputs/grid --best                             the best, and the lines that load it
  %(prog)s outputs/grid other_run --output report          tables, pictures and one HTML page
"""


def parser() -> Parser:
    """All options."""
    result = Parser("Compare runs by what their folders say: only the keys that varied, averaged over seeds.", EXAMPLES)
    add = result.add_argument
    add("paths", nargs="+", metavar="SWEEP_OR_RUN", help="folders of sweeps, of runs, or of either")
    add("--metric", action="append", default=[], metavar="NAME,…", help="numbers to show, the first one ranks")
    add("--where", action="append", default=[], metavar="'KEY=VALUE'", help="only such runs; also != < <= > >=")
    add("--over", action="append", default=[], metavar="KEY,…", help="average over these keys (default: seed)")
    add("--group-by", action="append", default=[], metavar="KEY,…", help="average over everything but these keys")
    add("--no-group", action="store_true", help="one row a run")
    add("--keys", action="append", default=[], metavar="KEY,…", help="show these keys too")
    add("--sort", metavar="NAME", help="sort by this key or number (default: the first metric, best first)")
    add("--descending", action="store_true", help="turn the order around")
    add("--best", nargs="?", type=count, const=1, metavar="N", help="the best N only (1), and how to load the best")
    add("--format", choices=("table", "markdown", "csv", "json"), default="table", help="what is printed")
    add("--output", type=Path, metavar="FOLDER", help="write Markdown, CSV, JSON, pictures and index.html here")
    add("--html", type=Path, metavar="FILE", help="write the page alone, pictures included")
    return result


def _best_before_path(words: Sequence[str]) -> list[str]:
    """``--best FOLDER`` means ``--best 1 FOLDER``: argparse would take the folder for the number."""
    followed = zip_longest(words, words[1:], fillvalue="")
    return ["--best=1" if word == "--best" and not after.isdigit() else word for word, after in followed]


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The arguments; ConfigError for what cannot be read. Options and folders may come in any order."""
    known = parser()
    asked, strange = known.parse_known_intermixed_args(_best_before_path(words))
    if strange:
        raise ConfigError(f"{strange[0]}: there is no such option.{nearest(strange[0], known._option_string_actions)}")
    return asked


def _split(words: Sequence[str]) -> tuple[str, ...]:
    """Names from options that may be repeated and may hold several, with commas."""
    return tuple(name.strip() for word in words for name in word.split(",") if name.strip())


def compare_runs(words: Sequence[str]) -> None:
    """What scripts/compare.py does with its arguments."""
    asked = parse(words)
    logging.basicConfig(format="aerun: %(message)s", level=logging.WARNING)
    question = Question(
        metrics=_split(asked.metric),
        over=_split(asked.over) or Question.over,
        group_by=_split(asked.group_by) or None,
        grouped=not asked.no_group,
        where=tuple(asked.where),
        keys=_split(asked.keys),
        sort=asked.sort,
        descending=asked.descending,
        best=asked.best,
    )
    comparison = compare(collect(asked.paths), question)
    text = _printed(comparison, asked.format)
    if asked.best and asked.format == "table":
        text += "\n" + _how_to_load(comparison)
    _print(text)
    if asked.output is not None:
        asked.output.mkdir(parents=True, exist_ok=True)
        write_text(asked.output / "compare.md", format_markdown(comparison))
        write_text(asked.output / "compare.csv", as_csv(comparison))
        write_text(asked.output / "compare.json", as_json(comparison))
    _write_pictures(comparison, asked.output, asked.html)


def _print(text: str) -> None:
    """Print to a reader who may have seen enough, such as ``head``."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains as it ends


def _printed(comparison: Comparison, format: str) -> str:
    if format == "table":
        fits = sys.stdout.isatty() or "COLUMNS" in os.environ
        return format_terminal(comparison, shutil.get_terminal_size().columns if fits else None)
    return {"markdown": format_markdown, "csv": as_csv, "json": as_json}[format](comparison).rstrip("\n")


def _how_to_load(comparison: Comparison) -> str:
    """The best run, and the three lines that load its model."""
    group = comparison.ranked()[0]
    run = group.best_run(comparison.metric)
    assert run is not None  # as ranked() says
    reached = f"{comparison.metric} {run.numbers[comparison.metric]:.6g}"
    return (
        f"\nbest: {group.label}; its best run has {reached}\n{run.folder}\n\n"
        f"import aerun\n\nmodel = aerun.load({str(run.folder)!r})\ncodes = model.encode(images)"
    )


def _write_pictures(comparison: Comparison, folder: Path | None, page: Path | None) -> None:
    """The pictures as PNG files, and the pages that hold them."""
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


def compare_main() -> None:
    """``aerun-compare SWEEP_OR_RUN...`` and scripts/compare.py."""
    from aerun.cli.compare import compare_runs

    guarded(lambda: compare_runs(sys.argv[1:]))
