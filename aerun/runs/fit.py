"""A run on arrays that are handed over: the same parts, loop and step, and no folder unless one is asked for."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from aerun.base.lock import FolderLock
from aerun.base.precision import restored_precision
from aerun.base.progress_bar import no_bars
from aerun.base.signals import StopSignals
from aerun.config.settings import Settings
from aerun.core.autoencoder import Autoencoder
from aerun.dataset.data import Arrays, head
from aerun.errors import ConfigError
from aerun.ranks.silent import SilentReport, SilentTracker
from aerun.runs.folder import CHECKPOINTS, describe, recorded_status
from aerun.runs.init_from import take_over
from aerun.runs.pictures import Report
from aerun.runs.run import explained
from aerun.runs.tracking import Tracker
from aerun.trainer import Greedy
from aerun.training.build import build_parts, prepare
from aerun.training.checkpoint import BEST, Checkpointer, load_model
from aerun.training.parts import Parts
from aerun.training.progress import Progress

Told = Callable[[Mapping[str, Any]], None]


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
    told: Told = lambda line: None,
) -> Fitted:
    """Train on ``rows``, float32 [N,F] or [N,C,H,W], by settings whose data set is ``InMemory``.

    ``told`` gets the numbers of every epoch as they come. With a ``folder``, which must be empty or new, the run
    leaves there what any run does but for a summary, since it has no test images. Torch's global random numbers,
    threads and switches are afterwards what they were. ConfigError for what the data do not allow, DivergedError
    for a loss that is not finite.
    """
    if settings.trainer.processes > 1:
        raise ConfigError("trainer.processes: data that are handed over are trained on by one process")
    if folder is None and isinstance(settings.trainer, Greedy):
        raise ConfigError("trainer=greedy: keeps the weights of each stage in files: run_folder=FOLDER says where")
    if folder is not None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"run_folder={folder}: is not an empty or new folder")
    # Data have a test part, at which nothing looks here.
    dataset = dataclasses.replace(settings.dataset, arrays=Arrays(rows, rows[:1]))
    with _as_it_was(), no_bars(), explained(settings, folder or Path()):
        device = prepare(settings)
        parts = build_parts(settings, dataset.load(device), device)
        if settings.init_from is not None:
            take_over(Path(settings.init_from), parts.autoencoder)
        if folder is None:
            memory = Memory(parts.autoencoder, parts.optimizer)
            lines: _Told = Lines(told)
            with lines:
                progress = _train(settings, parts, lines, SilentReport, memory)
            memory.recall()
        else:
            folder.mkdir(parents=True, exist_ok=True)
            with FolderLock(folder):
                untested = dataclasses.replace(parts.data, test=head(parts.data.test, 0))
                describe(folder, config, settings.choices, overrides, untested, device)
                (folder / CHECKPOINTS).mkdir()
                every = settings.checkpoint.every_minutes
                files = Checkpointer(folder / CHECKPOINTS, parts.autoencoder, parts.optimizer, every)
                lines = WrittenLines(folder, told)
                with recorded_status(folder), lines:
                    progress = _train(settings, parts, lines, Report, files)
                load_model(folder / CHECKPOINTS / BEST, parts.autoencoder)
    return Fitted(parts.autoencoder.eval(), progress, lines.lines)


def _train(
    settings: Settings, parts: Parts, tracker: Tracker, report: type[Report], checkpoints: Checkpointer
) -> Progress:
    seen = report(parts.autoencoder, parts.data, parts.noise, tracker)
    progress: Progress = settings.trainer.fit(parts, Progress(), tracker, seen, checkpoints, StopSignals())
    return progress


class Memory(Checkpointer):
    """Keeps the best weights in memory, and writes nothing."""

    def __init__(self, model: nn.Module, optimizer: Optimizer) -> None:
        super().__init__(Path(), model, optimizer, None)
        self._weights: dict[str, Tensor] = {}

    def epoch(self, progress: Progress, *, last: bool) -> bool:
        """Nothing is to be saved."""
        if progress.best_epoch == progress.epoch:
            self._weights = {name: value.detach().clone() for name, value in self._model.state_dict().items()}
        return False

    def save_best(self) -> None:
        """There is no file."""

    def recall(self) -> None:
        """Put the best weights into the model."""
        self._model.load_state_dict(self._weights)


class _Told(Tracker):
    """Keeps the numbers of each epoch, and passes them on."""

    told: Told
    lines: list[dict[str, Any]]

    def metrics(self, epoch: int, step: int, **numbers: Any) -> None:
        self.lines.append({"epoch": epoch, "step": step, **numbers})
        super().metrics(epoch, step, **numbers)
        self.told(self.lines[-1])


class Lines(_Told, SilentTracker):
    """Writes nothing."""

    def __init__(self, told: Told) -> None:
        super().__init__()
        self.told, self.lines = told, []


class WrittenLines(_Told):
    """Logs as every run does."""

    def __init__(self, folder: Path, told: Told) -> None:
        super().__init__(folder)
        self.told, self.lines = told, []


@contextlib.contextmanager
def _as_it_was() -> Iterator[None]:
    """A block after which torch's process-wide state is what it was: a fit is a guest in somebody's process."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    benchmark = torch.backends.cudnn.benchmark
    cards = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(cards), restored_precision():
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.backends.cudnn.benchmark = benchmark
            if deterministic != torch.are_deterministic_algorithms_enabled():
                torch.use_deterministic_algorithms(deterministic)
