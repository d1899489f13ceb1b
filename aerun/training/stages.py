"""The stages of a greedy run: what each of them trains, and with what."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch.optim import Optimizer

from aerun.core.autoencoder import Autoencoder, untie
from aerun.core.nested import hold, layers, nested
from aerun.errors import ConfigError
from aerun.scheduler import Scheduler
from aerun.training.progress import Progress

if TYPE_CHECKING:
    from aerun.trainer import Greedy
    from aerun.training.parts import Parts

log = logging.getLogger(__name__)
WEIGHTS = "stage{}.safetensors"  # beside the checkpoints: the best weights of a stage that is over


@dataclass
class Stages:
    """Stage i, from 1, trains the autoencoder of the outermost i layer pairs; one more, the last, fine-tunes the whole.

    ``optimizer`` gives a stage's own for what it trains, ``scheduler`` a fresh one; the layers in ``frozen`` are
    trained in none.
    """

    trainer: Greedy
    frozen: Sequence[str]
    optimizer: Callable[[int, Autoencoder], Optimizer]
    scheduler: Callable[[], Scheduler]
    whole: Parts
    epochs: list[int]  # of each stage
    number: int = 0
    parts: Parts | None = None

    def enter(self, number: int) -> Parts:
        """What the stage of that number trains; the weights of layers that it begins to untie are copied now."""
        if number == self.number and self.parts is not None:
            return self.parts
        if self.is_fine_tuning(number) and self.trainer.untie_at == "finetune":
            untie(self.whole.autoencoder)
        trained, _ = self._select(number)
        optimizer, scheduler = self.optimizer(number, trained), self.scheduler()
        self.number = number
        self.parts = replace(self.whole, autoencoder=trained, optimizer=optimizer, scheduler=scheduler, stages=None)
        return self.parts

    def resume(self, progress: Progress) -> Optimizer:
        """Enter the stage of a checkpoint, its schedule where that has it; the optimizer, to be put there as well."""
        parts = self.enter(progress.stage)
        parts.scheduler.restore(progress.scheduler)
        return parts.optimizer

    def _select(self, number: int) -> tuple[Autoencoder, bool]:
        """The stage's autoencoder, its parameters that are held marked, and whether that leaves any."""
        whole = self.whole.autoencoder
        if self.is_fine_tuning(number):
            return whole, hold(whole, self.frozen)
        trained, earlier = nested(whole, number), number > 1 and self.trainer.freeze_earlier
        return trained, hold(trained, self.frozen, nested(whole, number - 1).parameters() if earlier else ())

    def check(self) -> None:
        """ConfigError where a stage would have nothing to train."""
        for number in self.plan():
            if not self._select(number)[1]:
                raise ConfigError(
                    f"trainer=greedy and freeze=[{','.join(self.frozen)}]: stage {number} would have nothing to train; "
                    "trainer.stage_epochs can give it 0 epochs"
                )
        hold(self.whole.autoencoder, self.frozen)
        skipped = [number for number in range(1, max(self.plan())) if number not in self.plan()]
        if skipped and self.trainer.freeze_earlier:
            log.warning(
                "trainer.stage_epochs=%s: layer pairs of stage %s are held as they began while later ones train; "
                "unless init_from has set them, use trainer.freeze_earlier=false",
                self.epochs,
                ", ".join(map(str, skipped)),
            )

    def is_fine_tuning(self, number: int) -> bool:
        """Whether the stage of that number is the one after the last pair's."""
        return number > len(self.epochs)

    def plan(self) -> list[int]:
        """The numbers of the stages that have something to do, in order."""
        numbers = [number for number, epochs in enumerate(self.epochs, 1) if epochs]
        return [*numbers, len(self.epochs) + 1] if self.trainer.epochs else numbers

    def name(self, number: int) -> str:
        """The stage's name in logs; none for fine-tuning, whose numbers are the run's."""
        return "" if self.is_fine_tuning(number) else f"stage{number}"

    def about(self, number: int) -> str:
        """The stage in a line: of how many, and which layers it trains."""
        trained = self.enter(number).autoencoder
        names = {path.rpartition(".")[0] for path, value in trained.named_parameters() if value.requires_grad}
        moving = ", ".join(name for name in layers(trained) if name in names)
        what = "fine-tuning" if self.is_fine_tuning(number) else f"stage {number} of {len(self.epochs)}"
        return f"{what}: training {moving}"


def epochs_of(trainer: Greedy, optimizers: Sequence[Any], autoencoder: Autoencoder, model: str) -> list[int]:
    """The epochs of each stage. ConfigError for a model without layer pairs, or where there are not as many values."""
    if autoencoder.cuts is None:
        raise ConfigError(f"trainer=greedy and {model}: this model has no layer pairs; use model=fc, fc_deep or conv")
    pairs, epochs = len(autoencoder.cuts) + 1, trainer.stage_epochs
    for key, values in (("stage_epochs", epochs), ("stage_optimizer", optimizers)):
        count = len(values) if isinstance(values, Sequence) else 1
        if count != pairs and ((key == "stage_epochs" and isinstance(values, list)) or count > 1):
            raise ConfigError(f"trainer.{key}: has {count} values for {pairs} layer pairs; the outermost comes first")
    each = epochs if isinstance(epochs, list) else [epochs] * pairs
    if not each[-1] and not trainer.epochs:
        raise ConfigError(f"trainer.stage_epochs={each} and trainer.epochs=0: the innermost pair would not be trained")
    return each
