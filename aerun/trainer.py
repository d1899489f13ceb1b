"""The training loop."""

from __future__ import annotations

import math
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from aerun.errors import DivergedError
from aerun.spec import Count, NonNegative, NonNegativeInt, Positive

if TYPE_CHECKING:
    from aerun.checkpoint import Progress
    from aerun.history import History
    from aerun.progress import ProgressBar
    from aerun.report import Report
    from aerun.step import Parts, Step
    from aerun.tracking import Tracker


@dataclass(frozen=True, kw_only=True)
class Joint:
    """All layers trained together.

    The run ends after ``epochs``, after ``steps`` updates, when the scheduler says so, or when ``patience``
    evaluations have passed without the monitored loss falling by more than ``min_delta``. The monitored loss is
    that of the validation part, or of training where there is none; the weights with the lowest are the result.
    """

    epochs: Count
    steps: Count | None
    batch_size: Count
    device: str
    threads: Count | None
    precision: Literal["float32", "bfloat16"]
    compile: bool
    deterministic: bool
    clip_norm: Positive | None
    clip_value: Positive | None
    log_every_steps: Count
    evaluate_every_epochs: Count
    pictures: NonNegativeInt
    tsne: bool
    patience: Count | None
    min_delta: NonNegative

    def __post_init__(self) -> None:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device):
            raise ValueError(f"device={self.device}: must be one of auto, cpu, cuda, cuda:N, mps")

    def fit(self, parts: Parts, progress: Progress, tracker: Tracker, report: Report, checkpoints: Path) -> Progress:
        """Train from where ``progress`` stands; the folder ``checkpoints`` gets the last and the best state.

        Raises DivergedError, before anything is saved, when a loss is not finite.
        """
        from aerun import checkpoint
        from aerun.history import History
        from aerun.progress import ProgressBar
        from aerun.step import make_step

        steps_per_epoch = math.ceil(len(parts.data.train) / self.batch_size)
        total_steps = min(self.epochs * steps_per_epoch, self.steps or sys.maxsize)
        step = make_step(
            parts,
            learning_rate=lambda number: parts.scheduler.multiplier(
                number, total_steps=total_steps, steps_per_epoch=steps_per_epoch
            ),
            precision=self.precision,
            compiled=self.compile,
            clip_norm=self.clip_norm,
            clip_value=self.clip_value,
        )
        with ProgressBar(progress.step, total_steps) as bar:
            ended = progress.step >= total_steps
            while not ended:
                history = History(parts, tracker, progress.epoch + 1)
                numbers = self._epoch(parts, progress, step, history, bar, total_steps)
                ended = progress.step >= total_steps
                if ended or progress.epoch % self.evaluate_every_epochs == 0:
                    ended |= self._evaluate(parts, progress, tracker, numbers)
                tracker.metrics(epoch=progress.epoch, step=progress.step, **numbers)
                if self.pictures and (ended or progress.epoch in self._picture_epochs()):
                    report.epoch(progress.step)
                progress.scheduler = parts.scheduler.state()
                checkpoint.save(checkpoints / checkpoint.LAST, parts.autoencoder, parts.optimizer, progress)
                if progress.best_epoch == progress.epoch:
                    checkpoint.save(checkpoints / checkpoint.BEST, parts.autoencoder, parts.optimizer, progress)
                bar.epoch(progress.epoch, self.epochs, numbers)
        return progress

    def _epoch(
        self, parts: Parts, progress: Progress, step: Step, history: History, bar: ProgressBar, total_steps: int
    ) -> dict[str, float]:
        """One pass over the training images, in an order drawn for this epoch; returns its mean terms."""
        import torch

        from aerun.seeding import Randomness

        parts.autoencoder.train()
        started = time.perf_counter()
        count = len(parts.data.train)
        generator = Randomness(parts.seed, torch.device("cpu")).at("order", progress.epoch)
        order = torch.randperm(count, generator=generator).to(parts.data.train.inputs.device)
        for rows in order.split(self.batch_size):
            terms, code = step(rows, progress.step)
            progress.step += 1
            history.add(terms, len(rows))
            last = progress.step >= total_steps or history.images == count
            if last or progress.step % self.log_every_steps == 0:
                history.flush(progress.step, code)
                bar.update(progress.step)
            if last:
                break
        seconds = time.perf_counter() - started
        progress.epoch += 1
        progress.train_seconds += seconds
        progress.train_images += history.images
        numbers = {f"train/{name}": value for name, value in history.means().items()}
        numbers["train/learning_rate"] = float(parts.optimizer.param_groups[0]["lr"])
        numbers["train/images_per_second"] = history.images / seconds
        return numbers

    def _evaluate(self, parts: Parts, progress: Progress, tracker: Tracker, numbers: dict[str, float]) -> bool:
        """Add the validation part's metrics to ``numbers``; judge the epoch; whether the run should end."""
        from aerun.evaluation import evaluate

        if parts.data.validation is not None:
            metrics = evaluate(parts.autoencoder, parts.data.validation, parts.noise, parts.loss)
            numbers |= {f"validation/{name}": value for name, value in metrics.items()}
        tracker.scalars({k: v for k, v in numbers.items() if k.startswith("validation/")}, progress.step)
        tracker.scalars({"train/images_per_second": numbers["train/images_per_second"]}, progress.step)
        monitored = numbers.get("validation/loss", numbers["train/loss"])
        if not math.isfinite(monitored):
            raise DivergedError(
                f"epoch {progress.epoch}, step {progress.step}: the validation loss is {monitored} after a last update "
                "that was still finite. Lower optimizer.lr or set trainer.clip_norm; the last good checkpoint is kept"
            )
        parts.scheduler.observe(monitored)
        if progress.best_loss is None or monitored < progress.best_loss - self.min_delta:
            progress.best_loss, progress.best_epoch, progress.waited = monitored, progress.epoch, 0
        else:
            progress.waited += 1
        waited_out = self.patience is not None and progress.waited >= self.patience
        return waited_out or parts.scheduler.finished(parts.optimizer.param_groups[0]["initial_lr"])

    def _picture_epochs(self) -> set[int]:
        """Epochs whose reconstructions are shown, spread evenly; the last is one of them."""
        return {math.ceil(i * self.epochs / self.pictures) for i in range(1, self.pictures + 1)}
