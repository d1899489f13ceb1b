"""A run on arrays in memory: the same parts, loop and step, with a folder only if requested."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from aerun.base.files import make_subfolder
from aerun.base.lock import FolderLock
from aerun.base.precision import restored_precision
from aerun.base.progress_bar import hide_bars
from aerun.base.signals import StopSignals
from aerun.base.speed import spare_compiler
from aerun.config.settings import Settings
from aerun.contracts import EpochEnd, Observer, RunView
from aerun.core.autoencoder import Autoencoder
from aerun.dataset.data import Arrays, head
from aerun.doctor.monitor import Watch
from aerun.doctor.part_options import declared_options
from aerun.errors import ConfigError
from aerun.protocol.runner import check_protocols
from aerun.runs.epoch_bar import ProgressBar
from aerun.runs.folder import CHECKPOINTS, recorded_status, write_description
from aerun.runs.init_from import copy_matching_layers
from aerun.runs.pictures import Pictures
from aerun.runs.run_errors import translate_errors
from aerun.runs.send import describe_run
from aerun.runs.tracking import FolderLog, NoLog, own_trackers
from aerun.training.build import build_parts, prepare
from aerun.training.checkpoint import Checkpointer, load_model
from aerun.training.checkpoint_files import BEST
from aerun.training.loop import Session
from aerun.training.observers import Observers, own_callbacks
from aerun.training.progress import Progress
from aerun.training.regime import Regime, regime_of
from aerun.training.start import set_start

OnEpoch = Callable[[Mapping[str, Any]], None]
_training_lock = threading.RLock()


@dataclass(frozen=True)
class Fitted:
    """A trained model with its best weights, in evaluation mode, and the numbers of each epoch."""

    autoencoder: Autoencoder
    progress: Progress
    history: list[dict[str, Any]]


def fit(
    settings: Settings,
    config: Mapping[str, Any],
    rows: np.ndarray,
    *,
    overrides: Sequence[str] = (),
    folder: Path | None = None,
    on_epoch: OnEpoch = lambda line: None,
) -> Fitted:
    """Train on ``rows``, float32 [N,F] or [N,C,H,W], with settings whose data set is ``InMemory``.

    ``on_epoch`` is called with the numbers of every epoch. With a ``folder``, which must be empty or new, the run
    writes everything except a summary, because it has no test images. Torch's global random state, threads and switches
    are restored afterwards. ConfigError if the data do not fit the settings, DivergedError for a loss that is not
    finite.
    """
    if settings.trainer.processes > 1:
        raise ConfigError(
            f"trainer.processes={settings.trainer.processes}: arrays in memory are trained on by one process"
        )
    if folder is not None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"run_folder={folder}: is not an empty or new folder")
    # A test part is required, but not read here.
    dataset = dataclasses.replace(settings.dataset, arrays=Arrays(rows, rows[:1]))  # type: ignore[type-var]
    with restored_torch_state(), hide_bars(), translate_errors(settings, folder or Path()):
        device = prepare(settings)
        parts = build_parts(settings, dataset.load(device), device)
        check_protocols(settings.protocol, parts.data, parts.autoencoder)
        regime = regime_of(settings, parts)
        set_start(settings, parts)
        if settings.init_from is not None:
            copy_matching_layers(Path(settings.init_from), parts.autoencoder)
        record = EpochRecorder(on_epoch)
        if folder is None:
            if regime.needs_folder:
                name = settings.name("trainer")
                raise ConfigError(f"{name}: stores the weights of each stage in files; give run_folder=FOLDER")
            with ProgressBar() as bar:
                observers = Observers(
                    own_callbacks(settings), doctor=Watch(config, settings.typed), progress=bar, record=record
                )
                memory = InMemoryCheckpoints(parts.autoencoder, parts.optimizer)
                session = Session(observers, NoLog(), memory, StopSignals())
                progress = regime.train(Progress(), session)
            memory.load_best()
        else:
            progress = _train_in_folder(settings, config, overrides, folder, regime, device, record)
    return Fitted(parts.autoencoder.eval(), progress, record.lines)


def _train_in_folder(
    settings: Settings,
    config: Mapping[str, Any],
    overrides: Sequence[str],
    folder: Path,
    regime: Regime,
    device: torch.device,
    record: EpochRecorder,
) -> Progress:
    """Train in a run folder, without a summary, and load the best weights into the model."""
    parts = regime.parts
    folder.mkdir(parents=True, exist_ok=True)
    with FolderLock(folder):
        untested = dataclasses.replace(parts.data, test=head(parts.data.test, 0))
        write_description(folder, config, settings.choices, overrides, untested, device, declared_options(settings))
        make_subfolder(folder, CHECKPOINTS)
        with recorded_status(folder), FolderLog(folder, own_trackers(settings)) as tracker, ProgressBar() as bar:
            ours: dict[str, Observer] = {"tracker": tracker, "doctor": Watch(config, settings.typed)}
            if settings.trainer.figures == "all":
                ours["pictures"] = Pictures(settings.trainer.pictures)
            observers = Observers(own_callbacks(settings), **ours, progress=bar, record=record)
            every = settings.checkpoint.every_minutes
            files = Checkpointer(folder / CHECKPOINTS, parts.autoencoder, parts.optimizer, every, observers)
            tracker.open(None, describe_run(folder, config, settings.choices, settings.typed))
            progress = regime.train(Progress(), Session(observers, tracker, files, StopSignals(), folder))
        load_model(folder / CHECKPOINTS / BEST, parts.autoencoder)
        files.finish(settings.checkpoint.keep)
    return progress


class InMemoryCheckpoints(Checkpointer):
    """Keeps the best weights in memory; writes no files."""

    def __init__(self, model: nn.Module, optimizer: Optimizer) -> None:
        super().__init__(Path(), model, optimizer, None)
        self._weights: dict[str, Tensor] = {}

    def epoch(self, progress: Progress, *, last: bool) -> bool:
        """Keep the weights if they are the best so far; nothing needs saving."""
        if progress.best_epoch == progress.epoch:
            self._weights = {name: value.detach().clone() for name, value in self._model.state_dict().items()}
        return False

    def save_best(self) -> None:
        """Do nothing: there are no files."""

    def load_best(self) -> None:
        """Load the best weights into the model."""
        self._model.load_state_dict(self._weights)


class EpochRecorder(Observer):
    """Keeps the numbers of each epoch, and calls ``on_epoch`` with them."""

    def __init__(self, on_epoch: OnEpoch) -> None:
        self.lines: list[dict[str, Any]] = []
        self._on_epoch = on_epoch
        self._section = ""

    def begin(self, run: RunView) -> None:
        self._section = f"{run.stage}/" if run.stage else ""

    def epoch(self, end: EpochEnd) -> None:
        numbers = {self._section + name: value for name, value in end.numbers.items()}
        self.lines.append({"epoch": end.epoch, "step": end.step, **numbers})
        self._on_epoch(self.lines[-1])


@contextlib.contextmanager
def restored_torch_state() -> Iterator[None]:
    """Restore torch's process-wide state after the block, because the process belongs to the caller.

    Only one thread at a time enters, so that trainings in several threads do not use each other's random numbers.
    """
    with _training_lock:
        threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
        benchmark = torch.backends.cudnn.benchmark
        cards = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
        current = torch.cuda.current_device() if torch.cuda.is_initialized() else 0
        with torch.random.fork_rng(cards), restored_precision():
            try:
                yield
            finally:
                torch.set_num_threads(threads)
                torch.backends.cudnn.benchmark = benchmark
                spare_compiler(False)
                if torch.cuda.is_initialized():
                    torch.cuda.set_device(current)
                if deterministic != torch.are_deterministic_algorithms_enabled():
                    torch.use_deterministic_algorithms(deterministic)
