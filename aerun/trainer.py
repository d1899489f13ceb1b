"""How a run trains: its keys. ``aerun.training.regime`` trains by them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from aerun.config.schema import Count, NonNegative, NonNegativeInt, Positive, Range
from aerun.contracts import Trainer


@dataclass(frozen=True, kw_only=True)
class Joint(Trainer):
    """All layers trained together.

    The run ends after ``epochs`` (or, if given, after ``steps`` updates instead), when the scheduler says so, or
    when ``patience`` evaluations have passed without the monitored loss falling by more than ``min_delta``. That
    is the loss of the validation part, or of training where there is none; the weights with the lowest are the
    result.
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
    tsne: bool
    patience: Count | None
    min_delta: NonNegative

    def __post_init__(self) -> None:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device):
            raise ValueError(f"device={self.device}: must be one of auto, cpu, cuda, cuda:N, mps")
        if self.processes > 1 and re.fullmatch(r"mps|cuda:\d+", self.device):
            raise ValueError(f"device={self.device}: trainer.processes={self.processes} need device=cuda or cpu")
        if self.processes > self.batch_size:
            raise ValueError(f"processes={self.processes}: is more than trainer.batch_size={self.batch_size}")

    def unread_keys(self, settings: Any) -> Mapping[str, str]:
        unread = {}
        if self.steps is not None:
            unread["trainer.epochs"] = "trainer.steps is given instead"
        if self.patience is None:
            unread["trainer.min_delta"] = "trainer.patience is null"
        return unread


@dataclass(frozen=True, kw_only=True)
class Greedy(Joint):
    """One layer pair after the other, outermost first, then all of them: ``aerun.training.greedy``.

    Stage i trains the autoencoder of the outermost i pairs for ``stage_epochs`` (a number, or one a stage), with the
    earlier pairs held fast where ``freeze_earlier``, and with a new optimizer: the run's, but for what
    ``stage_optimizer`` says otherwise (a value, or a list of one a stage, for each key). Fine-tuning takes ``epochs``
    or ``steps``, none at all with ``epochs`` 0; ``untie_at: finetune`` gives tied layers weights of their own when it
    begins. Schedules, patience and the best weights are each stage's own.
    """

    epochs: NonNegativeInt
    stage_epochs: Count | list[NonNegativeInt] = 10
    stage_optimizer: Any = None
    freeze_earlier: bool = True
    untie_at: Literal["finetune"] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epochs == 0 and self.steps is not None:
            raise ValueError("steps: would not be read, since trainer.epochs=0 means no fine-tuning")
        if self.epochs == 0 and self.untie_at is not None:
            raise ValueError("untie_at=finetune and trainer.epochs=0: there is no fine-tuning to untie weights for")

    def check_settings(self, settings: Any) -> None:
        if self.untie_at is not None and settings.model.tied is False:
            raise ValueError("trainer.untie_at=finetune and model.tied=false: there are no tied weights to untie")
