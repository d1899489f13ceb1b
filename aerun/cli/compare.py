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
from aerun.compare.csv_json import as_csv, as_json, as_rows
from aerun.compare.epoch_rows import epoch_rows, epochs_to_csv
from aerun.compare.export import require, rows_to_json, rows_to_parquet
from aerun.compare.latex_table import format_latex
from aerun.compare.table_output import format_best, format_markdown, format_terminal
from aerun.errors import ConfigError, nearest, visible

EXAMPLES = """\
  %(prog)s outputs/grid                                    keys that vary, mean and deviation over seeds, best first
  %(prog)s outputs/grid --where 'sparsity=topk' --metric test/psnr,validation/loss
  %(prog)s outputs/grid --group-by model                   average over all other keys
  %(prog)s outputs/grid --best                             the best run, and the code that loads it
  %(prog)s outputs/grid --against 'sparsity=none'          differences from these rows over common seeds
  %(prog)s outputs/search --group-by model --expected-best 1,5,20
  %(prog)s outputs/grid --pareto test/mse,code_size        which rows are best in two numbers
  %(prog)s outputs/grid other_run --output report          tables, figures and an HTML page
"""
FORMATS = ("table", "markdown", "latex", "csv", "json", "parquet")
FIGURE_FORMATS = ("png", "pdf", "svg")
CLOCKS = ("epoch", "step", "image", "second")
ROW_FORMATS = ("csv", "json", "parquet")  # which hold rows of values


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
        help="only these runs; also KEY=A,B, != < <= > >= in, + - * /, and, or, not",
    )
    add("--over", action="append", default=[], metavar="KEY,…", help="average over these keys (default: seed)")
    add("--group-by", action="append", default=[], metavar="KEY,…", help="average over all keys but these")
    add("--no-group", action="store_true", help="one row per run")
    add("--keys", action="append", default=[], metavar="KEY,…", help="show these keys too")
    add("--sort", metavar="NAME", help="sort by this key or number (default: the first metric, best first)")
    add("--descending", action="store_true", help="reverse the order")
    add("--best", nargs="?", type=count, const=1, metavar="N", help="only the N best (1), and how to load the best")
    add(
        "--against",
        action="append",
        default=[],
        metavar="'KEY=VALUE'",
        help="paired differences from this row over common seeds, with interval, tests and effect size",
    )
    add(
        "--expected-best",
        type=_draws,
        default=(),
        metavar="M,…",
        help="expected best of M runs of a row, by the first metric",
    )
    add(
        "--pareto",
        action="append",
        default=[],
        metavar="NAME,NAME",
        help="mark the rows on the Pareto front of two numbers",
    )
    _add_outputs(result)
    return result


def _add_outputs(parser: Parser) -> None:
    """The options of what is printed and written."""
    add = parser.add_argument
    add("--per-epoch", action="store_true", help="a row for each epoch of each run; as csv, json or parquet")
    add("--format", choices=FORMATS, default="table", help="output format (table)")
    add("--output", type=Path, metavar="FOLDER", help="write tables, figures and index.html to FOLDER")
    add(
        "--figures", type=_figure_formats, default=("png",), metavar="FORMAT,…", help="of --output: png, pdf, svg (png)"
    )
    add(
        "--columns",
        type=int,
        choices=(1, 2),
        default=1,
        help="width of PDF and SVG figures: 1 or 2 columns of a page (1)",
    )
    add("--curves", choices=CLOCKS, default="epoch", help="x of learning curves (epoch)")
    add("--html", type=Path, metavar="FILE", help="write only the page, with its figures inside")


def _draws(text: str) -> tuple[int, ...]:
    """``type=`` of --expected-best: whole numbers, separated by commas."""
    return tuple(count(word) for word in _split([text]))


def _figure_formats(text: str) -> tuple[str, ...]:
    """``type=`` of --figures: names of formats, separated by commas."""
    formats = _split([text])
    for name in formats:
        if name not in FIGURE_FORMATS:
            raise argparse.ArgumentTypeError(f"'{name}': must be {', '.join(FIGURE_FORMATS)} or several of these")
    return formats


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The arguments; options and folders may come in any order. ConfigError for unknown options."""
    parser = build_parser()
    arguments, unknown = parser.parse_known_intermixed_args(_best_before_path(words))
    if unknown:
        raise ConfigError(f"{unknown[0]}: unknown option.{nearest(unknown[0], parser._option_string_actions)}")
    if arguments.per_epoch and arguments.format not in ROW_FORMATS:
        raise ConfigError(f"--per-epoch: needs --format {', '.join(ROW_FORMATS[:-1])} or {ROW_FORMATS[-1]}")
    if arguments.format == "parquet":
        require("pyarrow", "--format parquet: needs", "aerun[parquet]")
        if sys.stdout.isatty():
            raise ConfigError("--format parquet: is not text; write it to a file, with > runs.parquet at the end")
    if arguments.figures != ("png",) and arguments.output is None:
        raise ConfigError("--figures: needs --output FOLDER")
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
        against=tuple(arguments.against),
        expected_best=arguments.expected_best,
        pareto=_split(arguments.pareto),
    )
    comparison = compare(collect(arguments.paths), question)
    content = (_format_epochs if arguments.per_epoch else _format)(comparison, arguments.format)
    if arguments.best and arguments.format == "table":
        content = f"{content!s}\n{_how_to_load(comparison)}"
    _print(content)
    if arguments.output is not None:
        arguments.output.mkdir(parents=True, exist_ok=True)
        write_text(arguments.output / "compare.md", format_markdown(comparison))
        write_text(arguments.output / "compare.tex", format_latex(comparison))
        write_text(arguments.output / "compare.csv", as_csv(comparison))
        write_text(arguments.output / "epochs.csv", epochs_to_csv(comparison))
        write_text(arguments.output / "compare.json", as_json(comparison))
    _write_figures(comparison, arguments)


def _print(content: str | bytes) -> None:
    """Print; a reader that stops early, such as ``head``, is not an error."""
    try:
        if isinstance(content, bytes):
            sys.stdout.buffer.write(content)
            sys.stdout.flush()
        else:
            print(content, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes stdout again at exit


def _format(comparison: Comparison, form: str) -> str | bytes:
    if form == "table":
        has_width = sys.stdout.isatty() or "COLUMNS" in os.environ
        return format_terminal(comparison, shutil.get_terminal_size().columns if has_width else None)
    if form == "parquet":
        return rows_to_parquet(as_rows(comparison))
    texts = {"markdown": format_markdown, "latex": format_latex, "csv": as_csv, "json": as_json}
    return texts[form](comparison).rstrip("\n")


def _format_epochs(comparison: Comparison, form: str) -> str | bytes:
    if form == "csv":
        return epochs_to_csv(comparison).rstrip("\n")
    rows = epoch_rows(comparison)
    return rows_to_parquet(rows) if form == "parquet" else rows_to_json(rows).rstrip("\n")


def _how_to_load(comparison: Comparison) -> str:
    """The best run, and the code that loads its model."""
    group = comparison.ranked()[0]
    run = group.best_run(comparison.metric)
    assert run is not None  # ranked() returns only groups with a best run
    return (
        f"\nbest by {visible(comparison.metric)}: {visible(group.label)}; its best run has "
        f"{visible(format_best(comparison, run))}\n{visible(str(run.folder))}\n\n"
        f"import aerun\n\nmodel = aerun.load({str(run.folder)!r})\ncodes = model.encode(images)"
    )


def _write_figures(comparison: Comparison, arguments: argparse.Namespace) -> None:
    """The figures into the folder, and the pages that show them."""
    folder: Path | None = arguments.output
    pages = [*([folder / "index.html"] if folder else []), *([arguments.html] if arguments.html else [])]
    if not pages:
        return
    from aerun.compare.html_page import build_page
    from aerun.compare.report_pictures import draw_pictures

    drawn = draw_pictures(comparison, arguments.curves)
    if folder is not None:
        for picture in drawn:
            for form in arguments.figures:
                if (content := picture.as_file(form, arguments.columns)) is not None:
                    write_bytes(folder / f"{picture.name}.{form}", content)
    for path in pages:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, build_page(comparison, drawn, path.parent))
        print(f"aerun: wrote {path}", file=sys.stderr)
