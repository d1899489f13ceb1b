"""The training loop."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aerun.base.device import synchronize
from aerun.base.signals import Stopped, StopSignals
from aerun.config.settings import Settings
from aerun.contracts import EpochEnd, RunLog, RunView, Trainer
from aerun.core.autoencoder import Autoencoder
from aerun.dataset.data import Batch, head
from aerun.errors import ConfigError, DataError, DivergedError, PrunedError, nearest
from aerun.metrics.evaluation import Evaluation
from aerun.training.batches import batches
from aerun.training.checkpoint import Checkpointer
from aerun.training.cuda_graph import resolve_recording
from aerun.training.divergence import divergence
from aerun.training.history import History, weights
from aerun.training.observers import Observers
from aerun.training.parts import Parts, Step, Update
from aerun.training.progress import Progress
from aerun.training.step import make_step

log = logging.getLogger(__name__)
SPEED = "train/images_per_second"
PROBE_IMAGES = 16  # training images that are evaluated if there is no validation part
RECORDED_STEPS = 10  # at the start, when weights change most: the relative weight change is recorded


@dataclass
class Session:
    """What a training needs in addition to the parts: observers, log, checkpoints, and signals that stop it."""

    observers: Observers
    log: RunLog
    checkpoints: Checkpointer
    stop: StopSignals
    folder: Path | None = None


@dataclass
class Loop:
    """One training phase: the whole run, or the current stage (``name``, ``number``); step and epoch counters carry on.

    Save last: everything logged up to a point must be on disk before its checkpoint.
    """

    trainer: Trainer
    parts: Parts
    progress: Progress
    session: Session
    name: str = ""
    number: int = 0
    is_last: bool = True

    def __post_init__(self) -> None:
        trainer, data = self.trainer, self.parts.data
        is_conditional = self.parts.autoencoder.condition is not None
        self.batches = batches(data, trainer.batch_size, self.parts.seed, self.parts.device, is_conditional)
        self.steps_per_epoch = math.ceil(len(data.train) / trainer.batch_size)
        self.phase_steps = trainer.steps or trainer.epochs * self.steps_per_epoch
        self.total_steps = self.progress.stage_step + self.phase_steps
        self.epochs = math.ceil(self.phase_steps / self.steps_per_epoch)
        if self.progress.step > self.total_steps:
            raise DataError(f"the checkpoint is of step {self.progress.step}, and the run ends with {self.total_steps}")
        self._compiled: set[int] = set()
        # Without a validation part, a few training images at least show whether the weights are finite.
        self.part, self.part_name = (
            (data.validation, "validation") if data.validation else (head(data.train, PROBE_IMAGES), "probe")
        )
        self.evaluation = Evaluation(self.part, self.parts.noise, self.parts.loss)

    def run(self) -> Progress:
        """Train from ``progress`` to the end. Checkpoints are saved after epochs and when due.

        DivergedError for a loss that is not finite, raised before anything is saved. Stopped after a signal, once
        everything computed is saved.
        """
        progress = self.progress
        step = self._make_step()
        if progress.step < self.total_steps and not self._should_end():
            progress.ended = False  # a finished run may be made longer
        self.session.observers.begin(self._view())
        try:
            while not progress.ended:
                self._epoch(step)
        except (DivergedError, PrunedError):
            self.session.checkpoints.save_best()
            raise
        return progress

    def _view(self) -> RunView:
        parts = self.parts
        return RunView(
            parts.autoencoder,
            parts.data,
            parts.noise,
            parts.loss,
            parts.optimizer,
            self.session.log,
            self.progress,
            self.part,
            self.epochs,
            self.total_steps,
            self.name,
            self.number,
            self.is_last,
            self.session.folder,
            parts.seed,
        )

    def _epoch(self, step: Step) -> None:
        """Train the rest of an epoch, evaluate, show it to the observers, and save."""
        progress = self.progress
        history = History(self.parts, progress.epoch + 1, progress.partial)
        numbers = self._train_epoch(step, history)
        numbers, evaluated = self._evaluate(history, numbers)
        spread = self.evaluation.target_spread
        end = EpochEnd(progress.epoch, progress.step, numbers, evaluated, progress.ended, spread)
        self.session.observers.epoch(end, self._checkpoint)

    def _checkpoint(self) -> None:
        """Save after an epoch, once everything else of it is on disk."""
        must_stop, _ = self._sync_stop()
        if self.session.checkpoints.epoch(self.progress, last=self.progress.ended or must_stop):
            self._save()
        if must_stop:
            self.session.stop.check()

    def _make_step(self) -> Step:
        trainer, scheduler, begun = self.trainer, self.parts.scheduler, self.progress.stage_step
        return make_step(
            self.parts,
            learning_rate=lambda number: scheduler.multiplier(
                number - begun, total_steps=self.phase_steps, steps_per_epoch=self.steps_per_epoch
            ),
            total_steps=self.phase_steps,
            steps_per_epoch=self.steps_per_epoch,
            begun=begun,
            precision=trainer.precision,
            compiled=trainer.compile,
            graph=resolve_recording(trainer.graph, self.parts.device, trainer.processes),
            clip_norm=trainer.clip_norm,
            clip_value=trainer.clip_value,
        )

    def _train_epoch(self, step: Step, history: History) -> dict[str, float]:
        """Train on the remaining batches of the epoch, and return its mean terms."""
        progress, observers = self.progress, self.session.observers
        self.parts.autoencoder.train()
        clock, images, seconds = time.perf_counter(), progress.train_images, progress.train_seconds
        for batch in self.batches.epoch(progress.epoch, history.steps):
            if progress.step >= self.total_steps:
                break
            last = progress.step + 1 >= self.total_steps or history.steps + 1 == self.steps_per_epoch
            due_to_log = last or (progress.step + 1) % self.trainer.log_every_steps == 0
            is_recorded = due_to_log or progress.step - progress.stage_step < RECORDED_STEPS
            before = [weight.clone() for weight in weights(self.parts.autoencoder)] if is_recorded else []
            update, spent = self._timed(step, batch) if self.trainer.compile else (step(batch, progress.step), 0.0)
            clock += spent
            progress.step += 1
            progress.train_images += len(batch)
            history.add(update.terms, len(batch))
            if before:
                history.add_weight_change(before)
            observers.step(progress.step, history.flush(progress.step, update) if due_to_log else None)
            must_stop, due = self._sync_stop(now=due_to_log)
            # After the last step of an epoch, the checkpoint of the epoch follows immediately.
            if must_stop or (due and not last):
                now = time.perf_counter()
                progress.train_seconds, clock = progress.train_seconds + now - clock, now
                self._save(history)
                self.session.stop.check()
        progress.train_seconds += time.perf_counter() - clock
        numbers = {f"train/{name}": value for name, value in history.means().items()}
        numbers["train/learning_rate"] = float(self.parts.optimizer.param_groups[0]["lr"])
        elapsed = progress.train_seconds - seconds
        numbers[SPEED] = (progress.train_images - images) / elapsed
        return numbers

    def _timed(self, step: Step, batch: Batch) -> tuple[Update, float]:
        """A compiled step and the seconds spent on compiling: all of them in the first step of each batch size."""
        begun = time.perf_counter()
        update = step(batch, self.progress.step)
        if len(batch) in self._compiled:
            return update, 0.0
        self._compiled.add(len(batch))
        synchronize(self.parts.device)
        spent = time.perf_counter() - begun
        self.progress.compile_seconds += spent
        log.info("compiled for batches of %d in %.1f s", len(batch), spent)
        return update, spent

    def _evaluate(self, history: History, numbers: dict[str, float]) -> tuple[dict[str, float], bool]:
        """End the epoch; return all its numbers, and whether it was evaluated."""
        progress = self.progress
        last = progress.step >= self.total_steps
        phase_epochs = progress.epoch + 1 - progress.stage_epoch
        due = last or phase_epochs % self.trainer.evaluate_every_epochs == 0
        validation: Mapping[str, float] = {}
        if due:
            try:
                with self.session.stop.interruptible():
                    metrics = self.parts.ranks.first(self._measure)
            except Stopped:
                self._save(history)
                raise
            validation = {f"{self.part_name}/{key}": value for key, value in metrics.items()}
        progress.epoch, progress.partial = progress.epoch + 1, {}
        numbers |= validation
        if due:
            self._update_best(self._monitored(numbers), history.changes)
            progress.stopped = self.parts.ranks.first(lambda: self.session.observers.should_stop(numbers))
        progress.ended = last or self._should_end()
        return numbers, due

    def _measure(self) -> dict[str, float]:
        """The metrics of the evaluated part, and the numbers that observers measure."""
        autoencoder = self.parts.autoencoder
        metrics = self.evaluation(autoencoder)
        return metrics | self.session.observers.measure(autoencoder, self.part_name, self.evaluation)

    def _sync_stop(self, now: bool = True) -> tuple[bool, bool]:
        """Whether the run must stop, and whether a checkpoint is due; equal on all ranks."""
        session = self.session
        number, due = self.parts.ranks.sync_stop(session.stop.requested, session.checkpoints.due(), now)
        if number is not None:
            session.stop.request(number)
        return number is not None, due

    def _monitored(self, numbers: Mapping[str, float]) -> float:
        """The monitored number. ConfigError if it was not measured."""
        if self.part_name == "probe":
            return numbers["train/loss"] if math.isfinite(numbers["probe/loss"]) else math.nan
        name = self.parts.monitor.name
        if f"validation/{name}" not in numbers:
            known = [tag.removeprefix("validation/") for tag in numbers if tag.startswith("validation/")]
            raise ConfigError(
                f"trainer.monitor={name}: this run does not measure it.{nearest(name, known)} "
                f"It measures {', '.join(sorted(known))}"
            )
        return numbers[f"validation/{name}"]

    def _update_best(self, monitored: float, changes: Sequence[float]) -> None:
        """Report the monitored number to the scheduler, and record the best epoch."""
        progress, sign = self.progress, -1 if self.parts.monitor.higher_is_better else 1
        if not math.isfinite(monitored):
            what = f"epoch {progress.epoch}, step {progress.step}: the monitored {self.parts.monitor.name}"
            what += f" is {monitored}, although the last step was finite"
            raise divergence(self.parts, what, progress.step, changes)
        self.parts.scheduler.observe(sign * monitored)
        if progress.best_loss is None or sign * monitored < sign * progress.best_loss:
            progress.best_loss, progress.best_epoch = monitored, progress.epoch
        # Patience compares with ``mark`` instead: small gains may be worth keeping, but not worth waiting for.
        if progress.mark is None or sign * monitored < sign * progress.mark - self.trainer.min_delta:
            progress.mark, progress.waited = monitored, 0
        else:
            progress.waited += 1

    def _should_end(self) -> bool:
        """Whether patience, an observer or the scheduler ends the run."""
        patience = self.trainer.patience
        if self.progress.stopped or (patience is not None and self.progress.waited >= patience):
            return True
        return self.parts.scheduler.finished(self.parts.optimizer.param_groups[0]["initial_lr"])

    def _save(self, history: History | None = None) -> None:
        """Save a checkpoint; with ``history``, within an epoch."""
        self.progress.partial = history.state(self.progress.step) if history is not None else {}
        self.progress.scheduler = self.parts.scheduler.state()
        self.session.log.flush()
        self.session.checkpoints.save(self.progress)
        self.session.observers.saved(self.progress)


@dataclass
class JointTraining:
    """Trains all layers at once, by ``Loop`` or by the trainer's own ``fit(parts, progress, session)``."""

    settings: Settings
    parts: Parts
    needs_folder: bool = False
    outcome: str = "trained"

    def restore(self, checkpoints: Checkpointer) -> Progress | None:
        """See Regime."""
        progress = checkpoints.restore()
        if progress is not None:
            self.parts.scheduler.restore(progress.scheduler)
        return progress

    def save_start(self, checkpoints: Checkpointer) -> None:
        """See Regime."""
        if self.settings.init_from is not None:
            checkpoints.save(Progress(scheduler=self.parts.scheduler.state()))

    def train(self, progress: Progress, session: Session) -> Progress:
        """See Regime."""
        trainer = self.settings.trainer
        if trainer.fit is not None:
            trained: Progress = trainer.fit(self.parts, progress, session)
            return trained
        return Loop(trainer, self.parts, progress, session).run()

    def finished_stages(self, folder: Path) -> Iterator[tuple[str, Autoencoder]]:
        """See Regime. There are no stages."""
        return iter(())
