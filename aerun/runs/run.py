"""One run, from its settings to its folder."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from aerun.base.device import choose_rank_device
from aerun.base.files import leftover_files, make_subfolder, write_json
from aerun.base.lock import FILES as LOCK_FILES
from aerun.base.lock import FolderLock
from aerun.base.signals import StopSignals
from aerun.config.settings import Settings
from aerun.contracts import Observer
from aerun.dataset.data import Data
from aerun.doctor.monitor import Watch, log_final_verdicts
from aerun.doctor.part_options import declared_options
from aerun.errors import AerunError, ConfigError, DataError
from aerun.metrics.declared import declared_by, metrics_to_json
from aerun.protocol.runner import check_protocols
from aerun.runs import launch
from aerun.runs.added_protocols import run_missing_protocols
from aerun.runs.epoch_bar import ProgressBar
from aerun.runs.folder import (
    CHECKPOINTS,
    CONFIG,
    FIGURES,
    LOG,
    STATUS,
    SUMMARY,
    correct_status,
    read_config,
    read_summary,
    recorded_status,
    write_description,
)
from aerun.runs.init_from import copy_matching_layers
from aerun.runs.pictures import Pictures, draw_final
from aerun.runs.run_errors import translate_errors
from aerun.runs.same_data import require_same_data
from aerun.runs.same_run import find_difference
from aerun.runs.schedule_notes import has_no_effect, warn_of_jump
from aerun.runs.send import describe_run, logged_results
from aerun.runs.summary import draw_curves, draw_stages, summarize
from aerun.runs.tracking import FolderLog, NoLog, check_folder_name, own_trackers
from aerun.training.build import build_parts, prepare
from aerun.training.checkpoint import Checkpointer, ReadOnlyCheckpoints, load_model
from aerun.training.checkpoint_files import BEST, can_be_continued
from aerun.training.divergence import divergence
from aerun.training.loop import Session
from aerun.training.observers import Observers, own_callbacks
from aerun.training.parts import Parts
from aerun.training.progress import Progress
from aerun.training.regime import Regime, regime_of
from aerun.training.start import set_start

log = logging.getLogger(__name__)


def run(
    settings: Settings,
    config: Mapping[str, Any],
    folder: Path,
    *,
    overrides: Sequence[str] = (),
    load: Callable[[torch.device], Data] | None = None,
    signals: StopSignals | None = None,
    pruning: Observer | None = None,
    callbacks: Mapping[str, Observer] | None = None,
) -> dict[str, Any]:
    """Train, evaluate, and write everything to ``folder``; returns the summary.

    ``config`` is what ``settings`` were parsed from, ``overrides`` what the user typed. If the folder contains an
    unfinished run with the same configuration, it is continued; a finished one is evaluated by protocols that are new
    in ``config``, and otherwise left as it is; any other run, and one whose data have changed, is rejected. ``load``
    replaces the data set's own loading. ``signals`` can request a stop from another thread. ``pruning`` observes every
    epoch and may end the run with PrunedError. ``callbacks`` are further observers by name, in addition to those of the
    configuration, and are not copied. StorageError if the folder cannot be written, Stopped after a signal; in both
    cases the last checkpoint is intact.
    """
    config = {**config, "resume": None}
    if callbacks and settings.trainer.processes > 1:
        raise ConfigError(
            f"callback={','.join(callbacks)} and trainer.processes={settings.trainer.processes}: objects stay in this "
            "process; callback=[NAME], with a file of the group callback, is read by the others"
        )
    check_folder_name(folder)
    with translate_errors(settings, folder):
        folder.mkdir(parents=True, exist_ok=True)
        leftovers = _leftovers(folder)
        with FolderLock(folder), signals or StopSignals() as stop:
            for path in leftovers:
                path.unlink(missing_ok=True)  # left by a killed run; the lock excludes other writers
            finished = check_folder_is_ours(folder, settings, config)
            if finished is not None:
                with stop.interruptible():
                    given = load or settings.dataset.load
                    evaluated = run_missing_protocols(folder, settings, config, finished, given)
                    return evaluated or _return_finished(folder, finished, given)
            with stop.interruptible():
                device, processes = prepare(settings), settings.trainer.processes
                choose_rank_device(settings.trainer.device, processes, os.environ)
                place = device if processes == 1 else torch.device("cpu")  # the ranks train
                parts = build_parts(settings, (load or settings.dataset.load)(place), place)
                require_same_data(folder, parts.data.checksum)
                check_protocols(settings.protocol, parts.data, parts.autoencoder)
                regime = regime_of(settings, parts)
                load_start_weights(settings, parts, folder)
            # Written only now, so that a rejected configuration does not leave a folder that looks like a run.
            write_description(
                folder, config, settings.choices, overrides, parts.data, device, declared_options(settings)
            )
            log.info("%s", _describe(settings, parts, folder))
            with recorded_status(folder):
                if processes == 1:
                    summary = run_rank_zero(settings, config, folder, regime, stop, pruning, callbacks)
                else:
                    del parts, regime
                    summary = launch.train(processes, folder, stop, load, pruning)
            stop.check()  # after a signal at the very end the run is complete, but a sweep must stop
            return summary


def _leftovers(folder: Path) -> list[Path]:
    """The unfinished files that a killed run has left. ConfigError for a folder that contains something else."""
    leftovers = leftover_files(folder, CHECKPOINTS, FIGURES)
    if (folder / CONFIG).exists():
        return leftovers
    # Other files that look similar may be the user's.
    leftovers = [path for path in leftovers if path.name.startswith((f".{CONFIG}.", f".{STATUS}."))]
    known = {*LOCK_FILES, STATUS, ".hydra", LOG, *(path.name for path in leftovers)}
    unknown = sorted({path.name for path in folder.iterdir()} - known)
    if unknown:
        raise ConfigError(
            f"{folder}: contains {unknown[0]} but no run; choose an empty folder (hydra.run.dir=…, in Python out=…)"
        )
    return leftovers


def _return_finished(folder: Path, summary: dict[str, Any], load: Callable[[torch.device], Data]) -> dict[str, Any]:
    """The summary, after checking that the data have not changed, if they can be read."""
    try:
        checksum = load(torch.device("cpu")).checksum
    except (AerunError, OSError) as error:
        log.warning("%s: its data cannot be read again (%s)", folder, " ".join(str(error).split()))
    else:
        require_same_data(folder, checksum)
    log.info("%s is already finished", folder)
    correct_status(folder)
    return summary


def check_folder_is_ours(folder: Path, settings: Settings, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Check that the run in the folder, if there is one, is this run; return its summary if it is finished.

    ConfigError for a folder with another run.
    """
    if not (folder / CONFIG).exists():
        return None
    stored = read_config(folder)
    difference = find_difference(folder, stored, config)
    if settings.resume is None and difference is not None:
        raise ConfigError(
            f"{folder}: contains a run with another configuration; they differ in {difference}; choose another folder "
            "(hydra.run.dir=…, in Python out=…)"
        )
    epochs, before = settings.trainer.epochs, stored["trainer"].get("epochs", settings.trainer.epochs)
    if epochs < before:
        raise ConfigError(f"trainer.epochs={epochs}: the run has {before}; a resumed run can only be made longer")
    if epochs > before and settings.trainer.steps is None:
        warn_of_jump(settings, before)
    finished = (folder / SUMMARY).exists()
    if finished and epochs > before and not can_be_continued(folder / CHECKPOINTS):
        raise ConfigError(
            f"trainer.epochs={epochs}: {folder} has kept no checkpoint to continue from (checkpoint.keep=weights or "
            f"aerun-tidy); init_from={folder} starts a new run from its weights"
        )
    try:
        return None if epochs > before else read_summary(folder)
    except DataError as error:
        what = "repeating the final evaluation" if can_be_continued(folder / CHECKPOINTS) else "training again"
        log.warning("%s; %s", error, what)
        return None


def run_rank_zero(
    settings: Settings,
    config: Mapping[str, Any],
    folder: Path,
    regime: Regime,
    stop: StopSignals,
    pruning: Observer | None,
    callbacks: Mapping[str, Observer] | None = None,
) -> dict[str, Any]:
    """The run itself, in a locked folder; with several processes, that of the rank that writes."""
    make_subfolder(folder, CHECKPOINTS)
    parts = regime.parts
    with FolderLog(folder, own_trackers(settings)) as tracker, ProgressBar() as bar:
        ours: dict[str, Observer] = {"tracker": tracker, "doctor": Watch(config, settings.typed), "progress": bar}
        if settings.trainer.figures == "all":
            ours["pictures"] = Pictures(settings.trainer.pictures)
        if pruning is not None:
            ours["pruning"] = pruning
        observers = Observers(own_callbacks(settings) | dict(callbacks or {}), **ours)
        every = settings.checkpoint.every_minutes
        checkpoints = Checkpointer(folder / CHECKPOINTS, parts.autoencoder, parts.optimizer, every, observers)
        progress = regime.restore(checkpoints)
        if progress is None:
            regime.save_start(checkpoints)
        else:
            log.info("continuing %s after step %d", folder, progress.step)
        (folder / SUMMARY).unlink(missing_ok=True)
        tracker.open(progress, describe_run(folder, config, settings.choices, settings.typed))
        session = Session(observers, tracker, checkpoints, stop, folder)
        progress = regime.train(progress or Progress(), session)
        with stop.interruptible():
            load_model(folder / CHECKPOINTS / BEST, parts.autoencoder)
            summary = _conclude(settings, config, folder, regime, progress, tracker, observers)
        tracker.mark_finished()
    summary["wall_seconds"] = checkpoints.wall_seconds(progress)
    write_json(folder / SUMMARY, summary)
    checkpoints.finish(settings.checkpoint.keep)
    return summary


def _conclude(
    settings: Settings,
    config: Mapping[str, Any],
    folder: Path,
    regime: Regime,
    progress: Progress,
    tracker: FolderLog,
    observers: Observers,
) -> dict[str, Any]:
    """Summarize the run, whose model has its best weights, and draw the final pictures."""
    parts, draws = regime.parts, settings.trainer.figures != "none"
    final = progress.step + 1  # after the last step, so that resuming the run drops what is logged here
    tracker.leave_stage()
    picture = (lambda tag, pixels: tracker.picture(tag, pixels, final)) if draws else None
    summary = summarize(settings, parts, progress, picture, observers.measure)
    if not math.isfinite(summary["test"]["loss"]):
        raise divergence(parts, f"the test loss is {summary['test']['loss']}", progress.step)
    callbacks = (*settings.callback.values(), *observers.callbacks.values())
    declaring = declared_by([*settings.parts().values(), *callbacks])
    summary["metrics"] = metrics_to_json(declaring.values())
    summary["verdicts"] = log_final_verdicts(parts, tracker.logged(), summary, config, settings.typed)
    tracker.scalars(logged_results(summary), final)
    observers.end(final)
    if draws:
        draw_final(parts, tracker, final, settings.trainer.tsne)
        draw_curves(folder, tracker, final, summary)
        draw_stages(regime, folder, tracker, final)
    return summary


def run_other_rank(settings: Settings, folder: Path, regime: Regime, stop: StopSignals) -> None:
    """The run in any other rank: the same training, without writing files."""
    parts = regime.parts
    checkpoints = ReadOnlyCheckpoints(folder / CHECKPOINTS, parts.autoencoder, parts.optimizer)
    progress = regime.restore(checkpoints) or Progress()
    regime.train(progress, Session(Observers(), NoLog(), checkpoints, stop))


def load_start_weights(settings: Settings, parts: Parts, folder: Path) -> None:
    """Set what a run that has not started begins with: ``set_start``, and weights of another run, if ``init_from`` is
    set. ConfigError if nothing matches."""
    if can_be_continued(folder / CHECKPOINTS):
        return
    set_start(settings, parts)
    if settings.init_from is not None:
        copy_matching_layers(Path(settings.init_from), parts.autoencoder)


def _describe(settings: Settings, parts: Parts, folder: Path) -> str:
    """One line about the data, the model and the folder, and a warning if an epoch has few updates."""
    data, batch = parts.data, settings.trainer.batch_size
    counts = f"{len(data.train):,} training, {len(data.validation or ()):,} validation, {len(data.test):,} test"
    shape = "x".join(map(str, data.input_shape))
    parameters = sum(p.numel() for p in parts.autoencoder.parameters())
    text = f"{counts} images of {shape}; {parameters:,} parameters; {folder}"
    updates = math.ceil(len(data.train) / batch)
    if has_no_effect(settings.scheduler, settings.trainer.steps or settings.trainer.epochs * updates, updates):
        schedule = f"{settings.name('scheduler')}, {settings.scheduler}"
        text += f"\n{schedule}: does not change the learning rate in a run of this length"
    if updates < 5:
        text += f"\n{updates} updates per epoch: a trainer.batch_size below {batch} or more epochs may be needed"
    return text
