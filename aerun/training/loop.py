"""The training loop."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aerun.base.device import wait
from aerun.base.progress_bar import ProgressBar
from aerun.base.signals import Stopped, StopSignals
from aerun.dataset.data import Batch, head
from aerun.doctor.monitor import Monitor, is_looked_at
from aerun.errors import DivergedError, PrunedError
from aerun.metrics.evaluation import Evaluation
from aerun.runs.pictures import PROBES, Report
from aerun.runs.tracking import Tracker
from aerun.trainer import Joint
from aerun.training.checkpoint import Checkpointer
from aerun.training.cuda_graph import wants_recording
from aerun.training.history import History, weights
from aerun.training.parts import Parts, Step, Update
from aerun.training.progress import Progress
from aerun.training.step import make_step
from aerun.training.streaming import batches

log = logging.getLogger(__name__)
SPEED = "train/images_per_second"
WATCHED = 10  # first steps of a training, after which it is seen how far the weights went: there they go farthest


@dataclass
class Loop:
    """One training: a run's, or of a run in stages the present stage's (``name``), that goes on with its counts.

    A checkpoint is the point to go back to, so it comes after everything else of its moment.
    """

    settings: Joint
    parts: Parts
    progress: Progress
    tracker: Tracker
    report: Report
    checkpoints: Checkpointer
    stop: StopSignals
    watch: Callable[[int, Mapping[str, float]], None] | None = None
    name: str = ""

    def __post_init__(self) -> None:
        settings, count = self.settings, len(self.parts.data.train)
        self.batches = batches(self.parts.data, settings.batch_size, self.parts.seed, self.parts.device)
        self.steps_per_epoch = math.ceil(count / settings.batch_size)
        self.own_steps = settings.steps or settings.epochs * self.steps_per_epoch
        self.total_steps = self.progress.stage_step + self.own_steps
        self.epochs = math.ceil(self.own_steps / self.steps_per_epoch)
        self._compiled: set[int] = set()
        # Without a validation part some training images tell at least whether the weights are sound.
        data = self.parts.data
        part, self.judge = (data.validation, "validation") if data.validation else (head(data.train, PROBES), "probe")
        self.evaluation = Evaluation(part, self.parts.noise, self.parts.loss)
        self.monitor = Monitor(self.parts, part)
        self.monitor.recall(self.tracker.logged())

    def run(self) -> Progress:
        """Train from where ``progress`` stands to the end, with a checkpoint after epochs (of those shorter than a
        second, after some) and whenever due.

        Raises DivergedError, before anything is saved, when a loss is not finite; Stopped after a signal, with
        everything saved that was computed.
        """
        progress = self.progress
        step = self._make_step()
        if progress.step < self.total_steps and not self._enough():
            progress.ended = False  # also for a finished run that is asked for more
        with ProgressBar(progress.step, self.total_steps, self.name) as bar:
            try:
                while not progress.ended:
                    self._epoch(step, bar)
            except (DivergedError, PrunedError):
                self.checkpoints.save_best()
                raise
        return progress

    def _epoch(self, step: Step, bar: ProgressBar) -> None:
        """What is left of an epoch, and all that comes at its end."""
        progress = self.progress
        history = History(self.parts, self.tracker, progress.epoch + 1, progress.step, progress.partial)
        numbers = self._train_epoch(step, history, bar)
        numbers |= self._evaluate(history, numbers)
        done = progress.epoch - progress.stage_epoch
        if self.settings.pictures and (progress.ended or done in self.settings.picture_epochs(self.epochs)):
            self.report.epoch(progress.step)
        self.tracker.metrics(epoch=progress.epoch, step=progress.step, **numbers)
        self.monitor.epoch({"epoch": progress.epoch, **numbers}, self.evaluation.target_spread)
        leaving, _ = self._agree()
        if self.checkpoints.epoch(progress, last=progress.ended or leaving):
            self._save()
        bar.epoch(done, self.epochs, numbers)
        if leaving:
            self.stop.check()
        if self.watch is not None and self.judged and not progress.ended:
            self.watch(progress.epoch, numbers)

    def _make_step(self) -> Step:
        settings, scheduler, begun = self.settings, self.parts.scheduler, self.progress.stage_step
        return make_step(
            self.parts,
            learning_rate=lambda number: scheduler.multiplier(
                number - begun, total_steps=self.own_steps, steps_per_epoch=self.steps_per_epoch
            ),
            total_steps=self.own_steps,
            begun=begun,
            precision=settings.precision,
            compiled=settings.compile,
            graph=wants_recording(settings.graph, self.parts.device, settings.processes),
            clip_norm=settings.clip_norm,
            clip_value=settings.clip_value,
        )

    def _train_epoch(self, step: Step, history: History, bar: ProgressBar) -> dict[str, float]:
        """What is left of a pass over the training images, in an order drawn for this epoch; its mean terms."""
        progress = self.progress
        self.parts.autoencoder.train()
        clock, images, seconds = time.perf_counter(), progress.train_images, progress.train_seconds
        for batch in self.batches.epoch(progress.epoch, history.steps):
            if progress.step >= self.total_steps:
                break
            last = progress.step + 1 >= self.total_steps or history.steps + 1 == self.steps_per_epoch
            due_to_log = last or (progress.step + 1) % self.settings.log_every_steps == 0
            watched = due_to_log or progress.step - progress.stage_step < WATCHED
            before = [weight.clone() for weight in weights(self.parts.autoencoder)] if watched else []
            update, spent = self._timed(step, batch) if self.settings.compile else (step(batch, progress.step), 0.0)
            clock += spent
            progress.step += 1
            progress.train_images += len(batch)
            history.add(update.terms, len(batch))
            if before:
                history.moved(before)
            if due_to_log:
                history.flush(progress.step, update)
                bar.update(progress.step)
            leaving, due = self._agree(now=due_to_log)
            # After the last step the epoch's own checkpoint follows at once.
            if leaving or (due and not last):
                now = time.perf_counter()
                progress.train_seconds, clock = progress.train_seconds + now - clock, now
                self._save(history)
                self.stop.check()
        progress.train_seconds += time.perf_counter() - clock
        numbers = {f"train/{name}": value for name, value in history.means().items()}
        numbers["train/learning_rate"] = float(self.parts.optimizer.param_groups[0]["lr"])
        elapsed = progress.train_seconds - seconds
        numbers[SPEED] = (progress.train_images - images) / elapsed
        return numbers

    def _timed(self, step: Step, batch: Batch) -> tuple[Update, float]:
        """A compiled step, and the seconds of it that went into compiling: all, at the first of each batch size."""
        begun = time.perf_counter()
        update = step(batch, self.progress.step)
        if len(batch) in self._compiled:
            return update, 0.0
        self._compiled.add(len(batch))
        wait(self.parts.device)
        spent = time.perf_counter() - begun
        self.progress.compile_seconds += spent
        log.info("compiled for batches of %d in %.1f s", len(batch), spent)
        return update, spent

    def _evaluate(self, history: History, numbers: dict[str, float]) -> dict[str, float]:
        """End the epoch: the validation part's metrics, what follows from them, and whether the run has ended."""
        progress = self.progress
        last = progress.step >= self.total_steps
        done = progress.epoch + 1 - progress.stage_epoch
        self.judged = due = last or done % self.settings.evaluate_every_epochs == 0
        validation: dict[str, float] = {}
        if due:
            try:
                with self.stop.interruptible():
                    metrics = self.parts.ranks.first(self._metrics)
            except Stopped:
                self._save(history)
                raise
            validation = {f"{self.judge}/{key}": value for key, value in metrics.items()}
        progress.epoch, progress.partial = progress.epoch + 1, {}
        if due:
            sound = math.isfinite(validation.get("probe/loss", 0.0))
            self._judge(validation.get("validation/loss", numbers["train/loss"]) if sound else math.nan)
        progress.ended = last or self._enough()
        self.tracker.scalars({**validation, SPEED: numbers[SPEED]}, progress.step)
        return validation

    def _metrics(self) -> dict[str, float]:
        """Of the part that judges, and after some epochs of the units of each layer."""
        autoencoder, done = self.parts.autoencoder, self.progress.epoch + 1
        units = self.monitor.dead_units(autoencoder) if is_looked_at(done - self.progress.stage_epoch) else {}
        return {**self.evaluation(autoencoder), **units}

    def _agree(self, now: bool = True) -> tuple[bool, bool]:
        """Whether the run is to be left, and whether a checkpoint is due: the same for all that train it."""
        number, due = self.parts.ranks.agree(self.stop.requested, self.checkpoints.due(), now)
        if number is not None:
            self.stop.request(number)
        return number is not None, due

    def _judge(self, monitored: float) -> None:
        """Tell the scheduler, and remember the best epoch."""
        progress = self.progress
        if not math.isfinite(monitored):
            raise DivergedError(
                f"epoch {progress.epoch}, step {progress.step}: the monitored loss is {monitored}, though the "
                "last step was finite. Lower optimizer.lr or set trainer.clip_norm, in a new run; "
                "what was saved before is kept"
            )
        self.parts.scheduler.observe(monitored)
        if progress.best_loss is None or monitored < progress.best_loss:
            progress.best_loss, progress.best_epoch = monitored, progress.epoch
        # Patience has a mark of its own: small gains may be worth keeping, but not worth waiting for.
        if progress.mark is None or monitored < progress.mark - self.settings.min_delta:
            progress.mark, progress.waited = monitored, 0
        else:
            progress.waited += 1

    def _enough(self) -> bool:
        """Whether patience or the scheduler has ended the run."""
        patience = self.settings.patience
        waited_out = patience is not None and self.progress.waited >= patience
        return waited_out or self.parts.scheduler.finished(self.parts.optimizer.param_groups[0]["initial_lr"])

    def _save(self, history: History | None = None) -> None:
        """Save where the run stands; with ``history``, amid that epoch."""
        self.progress.partial = history.state(self.progress.step) if history is not None else {}
        self.progress.scheduler = self.parts.scheduler.state()
        self.tracker.flush()
        self.checkpoints.save(self.progress)
