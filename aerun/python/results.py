"""What the Python doors return: views of folders, which read their files when they are asked."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerun.cli.run_report import error_rows, format_summary
from aerun.compare import Comparison, Question, collect, compare
from aerun.compare.csv_json import as_rows
from aerun.compare.epoch_rows import epoch_rows
from aerun.compare.export import rows_to_frame
from aerun.compare.latex_table import format_latex
from aerun.compare.table_output import format_failures, format_headline, format_terminal
from aerun.compare.text_table import build_table
from aerun.errors import DataError
from aerun.runs.folder import FIGURES, read_summary
from aerun.runs.folder_metrics import read_metrics

if TYPE_CHECKING:
    from aerun.core.autoencoder import Autoencoder

FIRST_FIGURE = "reconstructions_test"  # shown with a run


class Rows(list[dict[str, Any]]):
    """Rows of a table, each with its values by column; shown as a table in a notebook."""

    def _repr_html_(self) -> str:
        columns = list(dict.fromkeys(name for row in self for name in row))
        return html_table(columns, ([_cell(row.get(name)) for name in columns] for row in self))


def as_table(rows: Iterable[dict[str, Any]]) -> Any:
    """A pandas DataFrame if pandas is installed, otherwise ``Rows``."""
    listed = list(rows)
    try:
        from pandas import DataFrame
    except ImportError:
        return Rows(listed)
    return DataFrame(listed)


def html_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Texts as a table in HTML."""
    heads = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Figure:
    """A picture of a run, a PNG file; shown inline in a notebook."""

    path: Path

    def _repr_png_(self) -> bytes:
        return self.path.read_bytes()

    def as_html(self) -> str:
        """The picture with its name, in a page without other files."""
        name, data = escape(self.path.stem), base64.b64encode(self.path.read_bytes()).decode()
        image = f'<img alt="{name}" src="data:image/png;base64,{data}" style="max-width: 100%">'
        return f"<figure>{image}<figcaption>{name}</figcaption></figure>"


class Figures(Mapping[str, Figure]):
    """The pictures of a run by name (``curves_loss``, ``reconstructions_test``); all shown inline in a notebook."""

    def __init__(self, folder: Path) -> None:
        self._paths = {path.stem: path for path in sorted(folder.glob("*.png"))}

    def __getitem__(self, name: str) -> Figure:
        return Figure(self._paths[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def __repr__(self) -> str:
        return f"Figures({', '.join(self._paths)})"

    def _repr_html_(self) -> str:
        return "".join(figure.as_html() for figure in self.values())


@dataclass(frozen=True)
class TrainedRun:
    """A run folder; ``print(run)`` shows what the command line prints at the end.

    ``trusted_packages``: packages, in addition to aerun, torch and torchvision, whose classes the model may use.
    """

    folder: Path
    trusted_packages: tuple[str, ...] = ()

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The final numbers, as in summary.json. DataError for a run that has not finished."""
        summary = read_summary(self.folder)
        if summary is None:
            call = f"aerun.train({f'resume={self.folder}'!r})"
            raise DataError(f"{self.folder}: has not finished; {call} continues it")
        return summary

    @property
    def metrics(self) -> Any:
        """The numbers of each epoch, from metrics.jsonl: a pandas DataFrame if pandas is installed, otherwise a list of
        dicts."""
        return as_table(read_metrics(self.folder))

    @property
    def figures(self) -> Figures:
        """The pictures in figures/, by name."""
        return Figures(self.folder / FIGURES)

    @cached_property
    def model(self) -> Autoencoder:
        """The model with its best weights, on the CPU, in evaluation mode, as ``aerun.load`` gives it."""
        from aerun.runs.reopen import load  # imports torch

        return load(self.folder, trusted_packages=self.trusted_packages)

    def __repr__(self) -> str:
        return f"TrainedRun({os.path.relpath(self.folder)!r})"

    def __str__(self) -> str:
        return format_summary(self.summary, self.folder)

    def _repr_html_(self) -> str:
        rows = [
            (name, _cell(mse), "" if psnr is None else f"{psnr:.2f}") for name, mse, psnr in error_rows(self.summary)
        ]
        table = html_table(["test error", "MSE per pixel", "PSNR (dB)"], rows)
        first = self.figures.get(FIRST_FIGURE)
        verdicts = ", ".join(self.summary.get("verdicts", ()))
        parts = [f"<p><code>{escape(str(self.folder))}</code></p>", table]
        parts += [f"<p>{escape(verdicts)}</p>"] if verdicts else []
        return "".join([*parts, "" if first is None else first.as_html()])


@dataclass(frozen=True)
class RunComparison:
    """What ``aerun-compare`` shows of some runs, as ``print`` does; a table in a notebook.

    ``comparison``: the groups of runs, with their statistics. ``trusted_packages``: see ``TrainedRun``.
    """

    comparison: Comparison
    trusted_packages: tuple[str, ...] = ()

    @property
    def rows(self) -> Rows:
        """One row for each group of runs: its keys, the mean of each metric, its standard deviation (``NAME std``) and
        95 % interval (``NAME low``, ``NAME high``), ``n`` finished runs of ``runs``, the difference from the baseline
        row if there is one (``NAME difference``, …), ``mse / PCA``, ``state``, ``verdict``, and the ``folder`` of its
        best run. None: not known. Where each row is one run, there are no columns of deviations and counts."""
        rows = as_rows(self.comparison)
        if not all(group.single for group in self.comparison.groups):
            return Rows(rows)
        spread = (f"{metric} {name}" for metric in self.comparison.metrics for name in ("std", "low", "high"))
        counts = {"n", "runs", *spread}
        return Rows({name: value for name, value in row.items() if name not in counts} for row in rows)

    def frame(self) -> Any:
        """``rows`` as a pandas DataFrame. ConfigError without pandas."""
        return rows_to_frame(self.rows)

    def epochs(self) -> Any:
        """A pandas DataFrame with one row for each epoch of each run: ``run``, ``folder``, ``state`` and keys;
        ``epoch``, ``step``, ``images`` and ``seconds`` of training; ``kept``, whether the run keeps the weights of this
        epoch; and all numbers of metrics.jsonl. ConfigError without pandas."""
        return rows_to_frame(epoch_rows(self.comparison))

    def latex(self) -> str:
        """The table in LaTeX, with the rules of the package booktabs."""
        return format_latex(self.comparison)

    @property
    def best(self) -> TrainedRun:
        """The best run by the first metric. DataError if no run has finished with a finite number."""
        ranked = self.comparison.ranked()
        run = ranked[0].best_run(self.comparison.metric) if ranked else None
        if run is None:
            raise DataError(f"no run has finished with a finite {self.comparison.metric} yet")
        return TrainedRun(run.folder, self.trusted_packages)

    def __repr__(self) -> str:
        return f"RunComparison({format_headline(self.comparison)})"

    def __str__(self) -> str:
        return format_terminal(self.comparison)

    def _repr_html_(self) -> str:
        table = build_table(self.comparison)
        rows = [[cell.text for cell in row] for row in (*table.rows, *table.baselines)]
        parts = [f"<p>{escape(format_headline(self.comparison))}</p>"]
        parts.append(html_table([column.heading for column in table.columns], rows))
        return "".join(
            [*parts, *(f"<p>{escape(line)}</p>" for line in (*table.notes, *format_failures(self.comparison)))]
        )


@dataclass(frozen=True)
class SweepResult:
    """The folder of a sweep. ``trusted_packages``: see ``TrainedRun``."""

    folder: Path
    trusted_packages: tuple[str, ...] = ()

    @property
    def comparison(self) -> RunComparison:
        """The runs so far, averaged over seeds, best first. DataError if there are none."""
        return RunComparison(compare(collect([self.folder]), Question()), self.trusted_packages)

    @property
    def runs(self) -> Any:
        """One row for each run, with the columns of ``RunComparison.rows``: a pandas DataFrame if pandas is installed,
        otherwise a list of dicts."""
        return as_table(RunComparison(compare(collect([self.folder]), Question(grouped=False))).rows)

    @property
    def best(self) -> TrainedRun:
        """The best run of the best group."""
        return self.comparison.best

    def __repr__(self) -> str:
        return f"SweepResult({os.path.relpath(self.folder)!r})"

    def __str__(self) -> str:
        return str(self.comparison)

    def _repr_html_(self) -> str:
        return self.comparison._repr_html_()
