"""The training loop and its step."""

from __future__ import annotations

import contextlib
import logging
import math
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from aerun.errors import DivergedError
from aerun.spec import Count, NonNegative, NonNegativeInt, Positive

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.optim import Optimizer

    from aerun.autoencoder import Autoencoder
    from aerun.checkpoint import Progress
    from aerun.dataset.base import Data
    from aerun.report import Report
    from aerun.scheduler import Constant as Scheduler
    from aerun.tracking import Tracker

log = logging.getLogger(__name__)


@dataclass
class Parts:
    """What a run trains, and with what."""

    autoencoder: Autoencoder
    data: Data
    noise: Any
    loss: Any
    optimizer: Optimizer
    scheduler: Scheduler
    seed: int


@dataclass(frozen=True, kw_only=True)
class Joint:
    """All layers trained together.

    The run ends after ``epochs``, after ``steps`` updates, when the scheduler says so, or when ``patience``
    evaluations have passed without the monitored loss falling by more than ``min_delta``. The monitored loss is
    that of the validation part, or of training where there is none; the weights with the lowest are the run's result.
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

    def fit(self, parts: Parts, progress: Progress, tracker: Tracker, report: Report, folder: Path) -> Progress:
        """Train from where ``progress`` stands, with a checkpoint in ``folder`` after every epoch.

        Raises DivergedError, before anything is saved, when a loss is not finite.
        """
        from aerun import checkpoint
        from aerun.evaluation import evaluate

        data, autoencoder = parts.data, parts.autoencoder
        steps_per_epoch = math.ceil(len(data.train) / self.batch_size)
        total_steps = min(self.epochs * steps_per_epoch, self.steps or sys.maxsize)
        step = self._step(parts, total_steps, steps_per_epoch)
        pictures = (
            {round(i * self.epochs / self.pictures) for i in range(1, self.pictures + 1)} if self.pictures else set()
        )
        with _bar(progress.step, total_steps) as bar:
            while progress.step < total_steps:
                history = History(tracker, self.log_every_steps)
                started = time.perf_counter()
                self._epoch(parts, progress, step, history, total_steps, bar)
                progress.train_seconds += (seconds := time.perf_counter() - started)
                progress.train_images += history.images
                progress.epoch += 1
                ended = progress.step >= total_steps
                line: dict[str, float] = {f"train/{name}": value for name, value in history.means().items()}
                line |= {
                    "train/learning_rate": _rate(parts.optimizer),
                    "train/images_per_second": history.images / seconds,
                }
                tracker.scalars({"train/images_per_second": history.images / seconds}, progress.step)
                if ended or progress.epoch % self.evaluate_every_epochs == 0:
                    monitored = line["train/loss"]
                    if data.validation is not None:
                        metrics = evaluate(autoencoder, data.validation, parts.noise, parts.loss)
                        validation = {f"validation/{name}": value for name, value in metrics.items()}
                        tracker.scalars(validation, progress.step)
                        line |= validation
                        monitored = metrics["loss"]
                    if not math.isfinite(monitored):
                        raise DivergedError(
                            f"epoch {progress.epoch}, after step {progress.step}: the monitored loss is {monitored}; "
                            f"{_gradient_report(autoencoder)}"
                        )
                    ended |= self._judge(monitored, parts, progress)
                tracker.metrics(epoch=progress.epoch, step=progress.step, **line)
                if progress.epoch in pictures or (ended and self.pictures):
                    report.epoch(progress.step)
                progress.scheduler = parts.scheduler.state()
                _save(checkpoint, folder, parts, progress)
                bar.note(progress, self.epochs, line)
                if ended:
                    break
        return progress

    def _judge(self, monitored: float, parts: Parts, progress: Progress) -> bool:
        """Tell the scheduler, remember the best epoch, and say whether the run should end."""
        parts.scheduler.observe(monitored)
        if progress.best_loss is None or monitored < progress.best_loss - self.min_delta:
            progress.best_loss, progress.best_epoch, progress.waited = monitored, progress.epoch, 0
        else:
            progress.waited += 1
        waited_out = self.patience is not None and progress.waited >= self.patience
        return waited_out or parts.scheduler.finished(parts.optimizer.param_groups[0]["initial_lr"])

    def _epoch(
        self, parts: Parts, progress: Progress, step: Step, history: History, total_steps: int, bar: _Bar
    ) -> None:
        """One pass over the training images, in an order drawn for this epoch."""
        import torch

        from aerun.seeding import Randomness

        parts.autoencoder.train()
        count, device = len(parts.data.train), parts.data.train.inputs.device
        generator = Randomness(parts.seed, torch.device("cpu")).at("order", progress.epoch)
        order = torch.randperm(count, generator=generator).to(device)
        for rows in order.split(self.batch_size):
            terms, code = step(rows, progress.step)
            progress.step += 1
            history.add(terms, len(rows))
            last = progress.step >= total_steps or history.images >= count
            if last or progress.step % self.log_every_steps == 0:
                history.flush(progress, parts, code)
                bar.update(progress.step)
            if progress.step >= total_steps:
                return

    def _step(self, parts: Parts, total_steps: int, steps_per_epoch: int) -> Step:
        """The update as a function of (rows of the training part, number of the step)."""
        import torch
        from torch.nn.utils import clip_grad_norm_, clip_grad_value_

        from aerun.dataset.base import as_float
        from aerun.objective import objective
        from aerun.seeding import Randomness

        autoencoder, train, noise, optimizer = (
            parts.autoencoder,
            parts.data.train,
            parts.noise,
            parts.optimizer,
        )
        same = parts.data.same
        forward: Callable[..., Any] = torch.compile(autoencoder) if self.compile else autoencoder
        random = Randomness(parts.seed, train.inputs.device)
        parameters = list(autoencoder.parameters())
        autocast = torch.autocast(
            train.inputs.device.type, torch.bfloat16, enabled=self.precision == "bfloat16", cache_enabled=True
        )

        def step(rows: Tensor, number: int) -> tuple[dict[str, Tensor], Tensor]:
            images = as_float(train.inputs[rows])
            targets = images if same else as_float(train.targets[rows])
            noisy = images if noise.is_identity else noise(images, random.at("noise", number))
            with autocast:
                result = forward(noisy, autoencoder.draw(len(rows), random.at("latent", number)))
            terms = objective(result, targets, autoencoder, parts.loss)
            optimizer.zero_grad(set_to_none=True)
            terms["loss"].backward()
            if self.clip_norm is not None:
                clip_grad_norm_(parameters, self.clip_norm)
            if self.clip_value is not None:
                clip_grad_value_(parameters, self.clip_value)
            multiplier = parts.scheduler.multiplier(number, total_steps=total_steps, steps_per_epoch=steps_per_epoch)
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * multiplier
            optimizer.step()
            return {name: term.detach() for name, term in terms.items()}, result.code.detach()

        return step


class History:
    """Loss terms of one epoch, kept on the device and brought to the host once per logging interval."""

    def __init__(self, tracker: Tracker, interval: int) -> None:
        self.images = 0
        self._tracker = tracker
        self._pending: list[Tensor] = []
        self._names: list[str] = []
        self._sizes: list[int] = []
        self._rows: list[list[float]] = []

    def add(self, terms: dict[str, Tensor], images: int) -> None:
        """Terms of one step, without waiting for them."""
        import torch

        self._names = list(terms)
        self._pending.append(torch.stack(list(terms.values())))
        self._sizes.append(images)
        self.images += images

    def flush(self, progress: Progress, parts: Parts, code: Tensor) -> None:
        """Log the mean terms since the last flush; DivergedError at the first that is not finite."""
        import torch

        rows: list[list[float]] = torch.stack(self._pending).cpu().tolist()
        self._pending.clear()
        first = progress.step - len(rows) + 1
        for offset, row in enumerate(rows):
            # The sum comes first but says least: name the part of it that went wrong.
            for name, value in reversed(list(zip(self._names, row, strict=True))):
                if not math.isfinite(value):
                    raise DivergedError(
                        f"epoch {progress.epoch + 1}, step {first + offset}: {name} is {value}; "
                        f"{_gradient_report(parts.autoencoder)}, learning rate {_rate(parts.optimizer):g}. "
                        "Lower optimizer.lr or set trainer.clip_norm"
                    )
        self._rows += rows
        sizes = self._sizes[-len(rows) :]
        means = _weighted(rows, sizes)
        values = {f"train/{name}": mean for name, mean in zip(self._names, means, strict=True)}
        values["train/gradient_norm"] = gradient_norm(parts.autoencoder)
        values["train/learning_rate"] = _rate(parts.optimizer)
        values["train/active_units"] = float((code != 0).sum()) / len(code)
        self._tracker.scalars(values, progress.step)

    def means(self) -> dict[str, float]:
        """Each term's mean over the epoch's images."""
        return dict(zip(self._names, _weighted(self._rows, self._sizes), strict=True))


def gradient_norm(autoencoder: Autoencoder) -> float:
    """Euclidean norm over all gradients of the last step (after clipping)."""
    import torch

    gradients = [p.grad for p in autoencoder.parameters() if p.grad is not None]
    return float(torch.stack(torch._foreach_norm(gradients)).norm()) if gradients else 0.0


def _gradient_report(autoencoder: Autoencoder) -> str:
    return f"gradient norm {gradient_norm(autoencoder):g}"


def _rate(optimizer: Optimizer) -> float:
    return float(optimizer.param_groups[0]["lr"])


def _weighted(rows: list[list[float]], sizes: list[int]) -> list[float]:
    total = sum(sizes)
    return [math.fsum(v * n for v, n in zip(column, sizes, strict=True)) / total for column in zip(*rows, strict=True)]


def _save(checkpoint: Any, folder: Path, parts: Parts, progress: Progress) -> None:
    """The last checkpoint always; the best one if this epoch is it."""
    checkpoint.save(folder / checkpoint.LAST, parts.autoencoder, parts.optimizer, progress)
    if progress.best_epoch == progress.epoch:
        checkpoint.save(folder / checkpoint.BEST, parts.autoencoder, parts.optimizer, progress)


class _Bar:
    """A progress bar on a terminal; elsewhere one line an epoch."""

    def __init__(self, initial: int, total: int) -> None:
        from tqdm import tqdm

        self._bar = tqdm(
            total=total,
            initial=initial,
            unit="step",
            leave=False,
            dynamic_ncols=True,
            disable=not sys.stderr.isatty(),
        )

    def update(self, step: int) -> None:
        self._bar.update(step - self._bar.n)

    def note(self, progress: Progress, epochs: int, line: dict[str, float]) -> None:
        """Show the epoch's numbers."""
        numbers = f"train {line['train/loss']:.5g}"
        if "validation/loss" in line:
            numbers += f", validation {line['validation/loss']:.5g}"
        if self._bar.disable:
            log.info("epoch %d/%d: %s", progress.epoch, epochs, numbers)
        else:
            self._bar.set_description(f"epoch {progress.epoch}/{epochs}", refresh=False)
            self._bar.set_postfix_str(numbers)


@contextlib.contextmanager
def _bar(initial: int, total: int):  # type: ignore[no-untyped-def]
    bar = _Bar(initial, total)
    try:
        yield bar
    finally:
        bar._bar.close()


if TYPE_CHECKING:
    Step = Callable[[Tensor, int], tuple[dict[str, Tensor], Tensor]]


def choose_device(name: str) -> torch.device:
    """The device that ``trainer.device`` names; ConfigError for one that this machine does not have."""
    import torch

    from aerun.errors import ConfigError

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if available[kind]))
    device = torch.device(name)
    there = ", ".join(kind for kind, here in available.items() if here)
    if not available[device.type] or (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()):
        raise ConfigError(f"trainer.device={name}: this machine has {there} (torch {torch.__version__})")
    return device
