"""How a run trains: the settings; ``aerun.training.loop`` does it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from aerun.config.schema import Count, NonNegative, NonNegativeInt, Positive, Range

if TYPE_CHECKING:
    from aerun.base.signals import StopSignals
    from aerun.runs.pictures import Report
    from aerun.runs.tracking import Tracker
    from aerun.training.checkpoint import Checkpointer
    from aerun.training.parts import Parts
    from aerun.training.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Joint:
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

    def fit(
        self,
        parts: Parts,
        progress: Progress,
        tracker: Tracker,
        report: Report,
        checkpoints: Checkpointer,
        stop: StopSignals,
        watch: Callable[[int, Mapping[str, float]], None] | None = None,
    ) -> Progress:
        """Train from where ``progress`` stands to the end; see ``aerun.training.loop.Loop.run``."""
        from aerun.training.loop import Loop

        return Loop(self, parts, progress, tracker, report, checkpoints, stop, watch).run()

    def picture_epochs(self, epochs: int) -> set[int]:
        """Those of so many epochs whose reconstructions are shown, spread evenly; the last is one of them."""
        return {math.ceil(i * epochs / self.pictures) for i in range(1, self.pictures + 1)}


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

    def fit(
        self,
        parts: Parts,
        progress: Progress,
        tracker: Tracker,
        report: Report,
        checkpoints: Checkpointer,
        stop: StopSignals,
        watch: Callable[[int, Mapping[str, float]], None] | None = None,
    ) -> Progress:
        """Train the remaining stages; see ``aerun.training.greedy.LayerByLayer.run``."""
        from aerun.training.greedy import LayerByLayer

        assert parts.stages is not None
        return LayerByLayer(self, parts.stages, progress, tracker, report, checkpoints, stop, watch).run()
