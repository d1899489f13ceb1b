"""``aerun.run_sweep`` and ``aerun.compare_runs``: many runs."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from aerun.base.files import missing_folders
from aerun.compare import Question, collect, compare
from aerun.config.explain import explain
from aerun.config.foreign import trusted_by
from aerun.config.override_syntax import quoted
from aerun.errors import AerunError, ConfigError
from aerun.python.guest import as_guest
from aerun.python.results import RunComparison, SweepResult
from aerun.python.train import remove_unused
from aerun.python.words import OF_SWEEPS, check_words
from aerun.sweep.job_index import INDEX_FILE
from aerun.sweep.job_runner import SweepError
from aerun.sweep.sweep_report import PYTHON
from aerun.sweep.sweep_settings import sweep_folder

if TYPE_CHECKING:
    from aerun.python.data_source import Given

Names = str | Sequence[str]


def run_sweep(
    *words: str,
    data: Given | None = None,
    out: str | os.PathLike[str] | None = None,
    name: str | None = None,
    verbose: bool = True,
) -> SweepResult:
    """Train many autoencoders, as ``aerun-train -m`` with the same words does.

        sweep = aerun.run_sweep("model=fc,conv", "sparsity=topk", "sparsity.k=4,8", "seed=0,1,2", name="first")
        sweep.runs, sweep.best.model

    Args:
        words: As for ``train``, keys with several values, and the choice of sweeper and launcher:
            ``"hydra/sweeper=random"``, ``"hydra/launcher=joblib"``. By default every combination is run, one after
            another in this process.
        data: As for ``train``, for all runs. Arrays are saved in ``arrays/CHECKSUM.npz`` next to the sweep's folder.
        out: The sweep's folder; by default a new one under outputs/.
        name: Instead of ``out``, the name of a folder under outputs/. With the same folder the sweep is continued:
            runs that have finished are kept.
        verbose: Whether to print what the command line prints: a line for each run, and the best.

    Returns:
        The sweep: ``folder``, ``runs``, ``best``, ``comparison``.

    Raises:
        ConfigError: Words that do not work, before the first run; nothing is started.
        SweepError: Some runs have failed; the others are kept, and ``aerun.compare_runs(FOLDER)`` shows them.
        KeyboardInterrupt: After Ctrl-C, once the running jobs are saved; the same call with the folder as ``out``
            continues.
    """
    words = tuple(word for word in words if word not in ("-m", "--multirun"))
    given = [*words, *([] if name is None else [f"sweep.name={name}"])]
    typed = check_words(given, OF_SWEEPS)
    base, folder = _place(given, out)
    with contextlib.ExitStack() as undo:
        if data is not None:
            from aerun.python.data_source import data_source, reject_other_data

            reject_other_data(typed)
            source = data_source(data)
            path = None if source.handed is None else source.handed.path_for(folder)
            made = [] if path is None else missing_folders(path.parent)
            if source.handed is not None and path is not None and source.handed.write(path):
                undo.callback(remove_unused, path, folder / INDEX_FILE, made)
            root = [] if path is None else [f"dataset.root={quoted(path)}"]
            typed = [*source.words, *root, *typed]
        if not verbose:
            undo.enter_context(_printing_on_errors())
        trusted = _sweep([*typed, f"hydra.sweep.dir={quoted(base)}"], [PYTHON, *words], verbose)
    return SweepResult(folder, trusted)


@contextlib.contextmanager
def _printing_on_errors() -> Iterator[None]:
    """What is printed inside is shown only with an error, as a note of it."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            yield
    except AerunError as error:
        error.add_note(printed.getvalue().strip())
        raise


def _place(words: Sequence[str], out: str | os.PathLike[str] | None) -> tuple[Path, Path]:
    """What ``hydra.sweep.dir`` is to be, and the sweep's folder. ConfigError if several words choose it."""
    named = [word.partition("=")[2] for word in words if word.startswith("sweep.name=")]
    if len(named) + (out is not None) > 1:
        raise ConfigError("run_sweep: out, name and sweep.name=... choose the same folder; keep one of them")
    new = Path.cwd() / "outputs" / f"sweep_{datetime.now():%Y-%m-%d_%H-%M-%S-%f}"
    base = new if out is None else Path(out).expanduser().absolute()
    return base, sweep_folder(str(base), named[0] if named else None)


def _sweep(words: Sequence[str], command: Sequence[str], verbose: bool) -> tuple[str, ...]:
    """Run the sweep; the packages that its runs trust. Errors of Hydra's become ConfigError, in a line."""
    from aerun.sweep.in_process import prepare_sweep  # Hydra's plugins

    try:
        sweeper, arguments = prepare_sweep(words, command)
        with as_guest(verbose):
            sweeper.sweep(arguments)
    except SweepError as error:
        error.add_note(f"aerun.compare_runs({str(sweeper.folder)!r}) shows the others")
        raise
    except AerunError:
        raise
    except Exception as error:
        text = explain(error, list(words))
        if text is None:
            raise
        raise ConfigError(text) from error
    return tuple(package for package in sweeper.master.trusted_packages if package in trusted_by(words))


def compare_runs(
    *folders: str | os.PathLike[str],
    metric: Names = (),
    over: Names = ("seed",),
    group_by: Names | None = None,
    grouped: bool = True,
    where: Names = (),
    keys: Names = (),
    sort: str | None = None,
    descending: bool = False,
    best: int | None = None,
    against: Names = (),
    expected_best: Sequence[int] = (),
    pareto: Names = (),
    trusted_packages: Sequence[str] = (),
) -> RunComparison:
    """Compare runs as ``aerun-compare`` does, from the files of their folders.

        aerun.compare_runs("outputs/first", metric="test/psnr", where="sparsity=topk")

    Args:
        folders: Folders of sweeps, of runs, or folders that contain them.
        metric: Numbers to show; the first one ranks.
        over: Keys to average over.
        group_by: Instead, the only keys not to average over.
        grouped: Whether runs are averaged at all; otherwise each run is a row.
        where: Only runs that meet these conditions: ``"sparsity=topk"``, ``"optimizer.lr<0.01"``,
            ``"model=fc or seed=0"``.
        keys: More keys to show.
        sort: Sort by this key or number instead of the first metric.
        descending: Reverse the order.
        best: Only so many of the best groups.
        against: The baseline, ``"sparsity=none"``: all other rows' differences from it over common seeds are shown. If
            several rows meet the conditions, a row's baseline is the one that agrees with it in all other keys.
        expected_best: Show the expected best of so many runs of a row, by the first metric.
        pareto: Two numbers; mark the rows on their Pareto front.
        trusted_packages: Packages whose classes the model of ``best`` may use.

    Returns:
        The comparison: ``rows``, ``best``, and the table in a notebook and by ``print``.

    Raises:
        ConfigError: A folder, key or number that does not exist.
        DataError: No run in the folders.
    """
    question = Question(
        metrics=_names(metric),
        over=_names(over),
        group_by=None if group_by is None else _names(group_by),
        grouped=grouped,
        where=_conditions(where),
        keys=_names(keys),
        sort=sort,
        descending=descending,
        best=best,
        against=_conditions(against),
        expected_best=tuple(expected_best),
        pareto=_names(pareto),
    )
    return RunComparison(compare(collect(folders), question), tuple(trusted_packages))


def _conditions(texts: Names) -> tuple[str, ...]:
    """One condition, or several."""
    return (texts,) if isinstance(texts, str) else tuple(texts)


def _names(names: Names) -> tuple[str, ...]:
    """``"a,b"`` or ``["a", "b"]``."""
    return tuple(name.strip() for name in names.split(",")) if isinstance(names, str) else tuple(names)
