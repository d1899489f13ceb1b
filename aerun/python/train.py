"""``aerun.train``: one run from words of the command line, and from data and observers of Python's."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerun.base.files import missing_folders, remove_empty
from aerun.cli.train import check_run, run_folder
from aerun.config.override_syntax import quoted
from aerun.config.settings import Settings
from aerun.contracts import Observer, complete
from aerun.errors import ConfigError
from aerun.python.guest import as_guest, logging_to
from aerun.python.results import TrainedRun
from aerun.python.words import check_words, compose
from aerun.runs.folder import CONFIG, LOG
from aerun.sweep.sweep_report import python_call

if TYPE_CHECKING:
    from aerun.python.data_source import DataSource, Given

EVENTS = ("begin", "step", "measure", "should_stop", "epoch", "saved", "end")


def train(
    *words: str,
    data: Given | None = None,
    out: str | os.PathLike[str] | None = None,
    callback: Any = (),
    verbose: bool = True,
) -> TrainedRun:
    """Train one autoencoder as ``aerun-train`` with the same words does: same keys, run folder, weights and errors.

        run = aerun.train("model=fc", "sparsity=topk", "sparsity.k=8", "trainer.epochs=5", data=images)
        run.summary["test"]["mse"], run.metrics, run.figures
        codes = run.model.encode(images)

    Args:
        words: Options and keys as on the command line: ``"model=conv"``, ``"trainer.epochs=5"``.
        data: What to train on; without it, what the words say (``"dataset=mnist"``).

            - A folder of pictures (``dataset=image_folder``), or a .npz or .npy file (``dataset=array``).
            - An array or tensor: uint8 images [N,H,W], [N,H,W,C] or [N,C,H,W]; images of floats in [0,1]; or vectors
              [N,F] of floats in any units. The share ``dataset.test`` is held out for testing.
            - A pair of them, ``(train, test)``, or a list of PIL images of one size.

            Arrays are saved in ``arrays/CHECKSUM.npz`` next to the run folder, in one file for all runs on the same
            array, so that ``resume=``, ``aerun-evaluate`` and ``dataset=array`` work without Python. If the file is
            gone, handing over the same array with ``"resume=FOLDER"`` writes it again; another array is rejected.
        out: The run folder; by default a new one under outputs/. A folder with an unfinished run of the same
            configuration is continued; a finished one is returned as it is.
        callback: An observer or a list of them, in addition to those of ``"callback=[name]"``: objects of
            ``aerun.contracts.Observer``, or with some of its methods. They are used as they are, not copied, and are
            not part of config.yaml: hand them over again to resume the run.
        verbose: Whether to show a progress bar (on a terminal, in a notebook) or else a line per epoch.

    Returns:
        The run: ``folder``, ``summary``, ``metrics``, ``figures`` and ``model``.

    Raises:
        ConfigError: Words that do not work, in one line, before training.
        DataError: Data that are missing, or whose meaning is not certain.
        DivergedError: A loss that is not finite.
        KeyboardInterrupt: After Ctrl-C (in a notebook: interrupt the kernel), once a checkpoint has been saved;
            ``aerun.train("resume=FOLDER")`` continues. A second Ctrl-C does not wait for the checkpoint.

    Torch's random numbers, threads and switches, and the handlers of ``logging``, are afterwards what they were. Calls
    from several threads wait for each other.
    """
    observers = named_observers(callback)
    with ExitStack() as undo:
        asked = _ask(words, data, out, undo)
        asked.settings.dataset.check()
        undo.callback(remove_empty, missing_folders(asked.folder))
        with as_guest(verbose):
            _run(asked, observers, verbose)
        undo.pop_all()
    return TrainedRun(asked.folder, tuple(asked.settings.trusted_packages))


@dataclass(frozen=True)
class _Asked:
    """A run that was asked for: its settings, the configuration and the words behind them, and its folder."""

    settings: Settings
    config: dict[str, Any]
    words: list[str]
    folder: Path


def _run(asked: _Asked, observers: dict[str, Observer], verbose: bool) -> None:
    """Train, and say how to continue a run that was stopped."""
    from aerun.runs.run import run  # imports torch

    folder = asked.folder
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with logging_to(folder / LOG, verbose) as log:
            summary = run(asked.settings, asked.config, folder, overrides=asked.words, callbacks=observers)
            for name, reason in summary.get("unanswered", {}).items():
                log.warning("protocol.%s: %s", name, reason)
    except KeyboardInterrupt:
        if (folder / CONFIG).exists():
            call = python_call("aerun.train", [f"resume={os.path.relpath(folder)}"])
            print(f"\naerun: stopped; {call} continues the run", file=sys.stderr)
        raise


def _ask(words: Sequence[str], data: Any, out: str | os.PathLike[str] | None, undo: ExitStack) -> _Asked:
    """Compose and check a run; arrays that were handed over are in their file then. ``undo`` removes the file again if
    it was written for a run that does not begin."""
    typed = check_words(words)
    resumes = any(word.startswith("resume=") for word in typed)
    if resumes and out is not None:
        raise ConfigError(f"out={out}: a resumed run stays in its folder; leave out 'out'")
    source = None
    if data is not None:
        from aerun.python.data_source import data_source, reject_other_data

        source = data_source(data)
        if resumes and source.handed is None:
            raise ConfigError("data: a resumed run keeps its data; only arrays are handed over again")
        if not resumes:
            reject_other_data(typed)
            typed = [*source.words, *typed]
    plain, choices = compose(typed)
    place = run_folder(plain["resume"], choices, typed) if out is None else Path(out).expanduser().absolute()
    if source is not None and source.handed is not None:
        typed = _place_arrays(source, Path(place), plain, typed, undo)
    settings, config, folder = check_run(plain, choices, typed, Path(place))
    return _Asked(settings, config, typed, folder)


def _place_arrays(
    source: DataSource, folder: Path, plain: dict[str, Any], typed: list[str], undo: ExitStack
) -> list[str]:
    """Write the arrays to the file of the run, and name it in the configuration; the words with its name."""
    handed = source.handed
    assert handed is not None
    path = handed.path_of_run(folder) if (folder / CONFIG).exists() else handed.path_for(folder)
    made = missing_folders(path.parent)
    if handed.write(path):
        undo.callback(remove_unused, path, folder / CONFIG, made)
    if plain["resume"] is None:
        plain["dataset"]["root"] = str(path)
    return [f"dataset.root={quoted(path)}" if word.startswith("dataset.root=") else word for word in typed]


def remove_unused(path: Path, marker: Path, made: Sequence[Path]) -> None:
    """Remove a file of arrays, and the folders made for it, that belong to what has not begun: ``marker`` does not
    exist."""
    if not marker.exists():
        path.unlink(missing_ok=True)
        remove_empty(made)


def named_observers(callback: Any) -> dict[str, Observer]:
    """Observers by the names of their classes, with defaults for the methods that they lack. ConfigError for others."""
    given = list(callback) if isinstance(callback, list | tuple) else [callback]
    named: dict[str, Observer] = {}
    for observer in given:
        cls = type(observer)
        if isinstance(observer, type):
            raise ConfigError(
                f"callback={observer.__name__}: is a class; hand over an object, {observer.__name__}(...)"
            )
        if not set(EVENTS) & set(dir(observer)):
            raise ConfigError(f"callback={observer!r}: has none of the methods {', '.join(EVENTS)}")
        try:
            complete(cls, "callback")
        except TypeError as error:
            raise ConfigError(f"callback={cls.__name__}: must be a subclass of aerun.contracts.Observer") from error
        name, number = cls.__name__, 2
        while name in named:
            name, number = f"{cls.__name__}{number}", number + 1
        named[name] = observer
    return named
