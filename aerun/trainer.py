"""The keys of training. ``aerun.training.regime`` trains with them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from aerun.contracts import Count, NonNegative, NonNegativeInt, Positive, Range, Trainer


@dataclass(frozen=True, kw_only=True)
class Joint(Trainer):
    """Trains all layers together.

    The run ends after ``epochs`` (or after ``steps`` updates, if given), when the scheduler ends it, or when the
    monitored number has not improved by more than ``min_delta`` for ``patience`` evaluations. ``monitor`` names the
    number, of the validation part; its declaration says whether higher is better. Without a validation part it is the
    training loss. The result is the weights of the epoch in which it was best.
    """

    epochs: Count
    steps: Count | None
    batch_size: Count
    device: str
    threads: Annotated[int, Range(1, 1024)] | None
    processes: Annotated[int, Range(1, 1024)] = 1
    precision: Literal["float32", "tf32", "bfloat16"]
    compile: bool
    graph: Literal["auto"] | bool = "auto"
    channels_last: bool = False
    deterministic: bool
    clip_norm: Positive | None
    clip_value: Positive | None
    log_every_steps: Count
    evaluate_every_epochs: Count
    pictures: NonNegativeInt
    figures: Literal["all", "final", "none"] = "all"
    tsne: bool
    monitor: str = "loss"
    patience: Count | None
    min_delta: NonNegative

    def __post_init__(self) -> None:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device):
            raise ValueError(f"device={self.device}: must be one of auto, cpu, cuda, cuda:N, mps")
        if self.processes > 1 and re.fullmatch(r"mps|cuda:\d+", self.device):
            raise ValueError(f"device={self.device}: trainer.processes={self.processes} needs device=cuda or cpu")
        if self.processes > self.batch_size:
            raise ValueError(f"processes={self.processes}: is more than trainer.batch_size={self.batch_size}")

    def unread_keys(self, settings: Any) -> Mapping[str, str]:
        unread = {}
        if self.steps is not None:
            unread["trainer.epochs"] = "trainer.steps is given instead"
        if self.patience is None:
            unread["trainer.min_delta"] = "trainer.patience is null"
        if self.figures != "all":
            unread["trainer.pictures"] = f"trainer.figures={self.figures}"
        if self.figures == "none":
            unread["trainer.tsne"] = "trainer.figures=none"
        return unread


@dataclass(frozen=True, kw_only=True)
class Greedy(Joint):
    """Trains one layer pair after the other, outermost first, then all layers: ``aerun.training.stages``.

    Stage i trains the autoencoder of the outermost i pairs for ``stage_epochs`` (one number, or one for each stage),
    with earlier pairs frozen if ``freeze_earlier``. Its optimizer is a new one with the run's keys, except for those in
    ``stage_optimizer`` (for each key one value, or a list with one for each stage). Fine-tuning takes ``epochs`` or
    ``steps``; ``epochs`` 0 omits it. ``untie_at: finetune`` gives tied layers their own weights before fine-tuning.
    Each stage has its own schedule, patience and best weights.
    """

    epochs: NonNegativeInt
    stage_epochs: Count | list[NonNegativeInt] = 10
    stage_optimizer: Any = None
    freeze_earlier: bool = True
    untie_at: Literal["finetune"] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epochs == 0 and self.steps is not None:
            raise ValueError("steps: has no effect, because trainer.epochs=0 means no fine-tuning")
        if self.epochs == 0 and self.untie_at is not None:
            raise ValueError("untie_at=finetune and trainer.epochs=0: there is no fine-tuning to untie weights for")

    def check_settings(self, settings: Any) -> None:
        if self.untie_at is not None and settings.model.tied is False:
            raise ValueError("trainer.untie_at=finetune and model.tied=false: there are no tied weights to untie")
