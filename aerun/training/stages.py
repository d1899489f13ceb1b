"""Greedy layer-wise pretraining: Hinton & Salakhutdinov 2006 (Science 313:504) and Bengio et al. 2007, by autoencoders.

Every stage minimizes the run's own loss between images and the reconstructions of a nested autoencoder.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from torch.optim import Optimizer

from aerun.config.settings import Settings
from aerun.core.autoencoder import Autoencoder, untie
from aerun.core.nested import freeze_only, layers, nested
from aerun.errors import ConfigError
from aerun.trainer import Greedy, Joint
from aerun.training.build import build_autoencoder, build_optimizer
from aerun.training.checkpoint import Checkpointer, load_model
from aerun.training.loop import Loop, Surroundings
from aerun.training.parts import Parts
from aerun.training.progress import Progress

log = logging.getLogger(__name__)
STAGE_WEIGHTS = "stage{}.safetensors"  # next to the checkpoints: the best weights of a finished stage


@dataclass
class InStages:
    """Stage i, from 1, trains the autoencoder of the outermost i layer pairs for ``epochs[i-1]`` epochs; one more, the
    last, fine-tunes the whole. Each starts from the best weights of the one before.

    ``parts`` are the whole's. ``settings.freeze`` names layers that no stage trains.
    """

    settings: Settings
    trainer: Greedy
    parts: Parts
    epochs: list[int]
    needs_folder: bool = True

    def __post_init__(self) -> None:
        self._number = 0
        self._stage: Parts | None = None

    @classmethod
    def of(cls, settings: Settings, trainer: Greedy, parts: Parts) -> InStages:
        """ConfigError where the model cannot be trained in stages, or one of them has nothing to train."""
        epochs = epochs_of(trainer, settings.stage_optimizers, parts.autoencoder, settings.name("model"))
        regime = cls(settings, trainer, parts, epochs)
        regime._check()
        return regime

    @property
    def outcome(self) -> str:
        """See Regime."""
        return "fine-tuned" if self.trainer.epochs else f"stage {len(self.epochs)}"

    def restore(self, checkpoints: Checkpointer) -> Progress | None:
        """See Regime."""
        return checkpoints.restore(self._resume)

    def keep_start(self, checkpoints: Checkpointer) -> None:
        """Nothing: the checkpoint that opens the first stage has the weights."""

    def train(self, progress: Progress, around: Surroundings) -> Progress:
        """See Regime. A checkpoint opens each stage: from then on the best weights are its own."""
        plan = self._plan()
        for number in (number for number in plan if number >= progress.stage):
            if number > progress.stage:
                self._begin(number, progress, around)
            last = number == plan[-1]
            log.info("%s", self._about(number))
            Loop(self._trainer(number), self._enter(number), progress, around, self._name(number), number, last).run()
            if not last:
                self._finish_stage(number, around.checkpoints)
        return progress

    def finished_stages(self, folder: Path) -> Iterator[tuple[str, Autoencoder]]:
        """See Regime. Weights that were untied later are tied here."""
        pretrained = build_autoencoder(self.settings, self.parts.data).to(self.parts.device)
        for number in range(1, len(self.epochs) + 1):
            path = folder / STAGE_WEIGHTS.format(number)
            if path.exists():
                load_model(path, pretrained)
                yield f"stage {number}", nested(pretrained, number)

    def _begin(self, number: int, progress: Progress, around: Surroundings) -> None:
        parts = self._enter(number)
        progress.begin(number, parts.scheduler.state())
        around.checkpoints.enter(parts.optimizer)
        around.log.flush()
        around.checkpoints.save(progress)

    def _finish_stage(self, number: int, checkpoints: Checkpointer) -> None:
        """Keep the stage's best weights, and continue from them."""
        name = STAGE_WEIGHTS.format(number)
        self.parts.ranks.first(lambda: checkpoints.keep(name))
        best = load_model(checkpoints.folder / name, self.parts.autoencoder)
        log.info("stage %d: best loss %.5g, after epoch %d", number, best.best_loss, best.best_epoch)

    def _enter(self, number: int) -> Parts:
        """What the stage of that number trains; layers that it unties get their own weights now."""
        if number == self._number and self._stage is not None:
            return self._stage
        if self._is_fine_tuning(number) and self.trainer.untie_at == "finetune":
            untie(self.parts.autoencoder)
        trained, _ = self._select(number)
        scheduler = copy.deepcopy(self.settings.scheduler)
        self._number = number
        self._stage = replace(
            self.parts, autoencoder=trained, optimizer=self._optimizer(number, trained), scheduler=scheduler
        )
        return self._stage

    def _optimizer(self, number: int, trained: Autoencoder) -> Optimizer:
        own = self.settings.stage_optimizers
        each = own if len(own) > 1 else (own or [self.settings.optimizer]) * len(self.epochs)
        return build_optimizer(self.settings, trained, [*each, self.settings.optimizer][number - 1])

    def _resume(self, progress: Progress) -> Optimizer:
        """Enter the stage of a checkpoint; its optimizer, to be restored as well."""
        parts = self._enter(progress.stage)
        parts.scheduler.restore(progress.scheduler)
        return parts.optimizer

    def _select(self, number: int) -> tuple[Autoencoder, bool]:
        """The stage's autoencoder, frozen parameters marked, and whether that leaves any to train."""
        whole, frozen = self.parts.autoencoder, self.settings.freeze
        if self._is_fine_tuning(number):
            return whole, freeze_only(whole, frozen)
        trained, earlier = nested(whole, number), number > 1 and self.trainer.freeze_earlier
        return trained, freeze_only(trained, frozen, nested(whole, number - 1).parameters() if earlier else ())

    def _check(self) -> None:
        """ConfigError where a stage would have nothing to train."""
        plan = self._plan()
        for number in plan:
            if not self._select(number)[1]:
                raise ConfigError(
                    f"trainer=greedy and freeze=[{','.join(self.settings.freeze)}]: stage {number} would have nothing "
                    "to train; trainer.stage_epochs can give it 0 epochs"
                )
        freeze_only(self.parts.autoencoder, self.settings.freeze)
        skipped = [number for number in range(1, max(plan)) if number not in plan]
        if skipped and self.trainer.freeze_earlier:
            log.warning(
                "trainer.stage_epochs=%s: the layer pairs of stage %s stay frozen at their first weights while later "
                "ones train; unless init_from has set them, use trainer.freeze_earlier=false",
                self.epochs,
                ", ".join(map(str, skipped)),
            )

    def _is_fine_tuning(self, number: int) -> bool:
        return number > len(self.epochs)

    def _plan(self) -> list[int]:
        """The numbers of the stages that train, in order."""
        numbers = [number for number, epochs in enumerate(self.epochs, 1) if epochs]
        return [*numbers, len(self.epochs) + 1] if self.trainer.epochs else numbers

    def _name(self, number: int) -> str:
        """The stage's name in logs; none for fine-tuning, whose numbers are the run's."""
        return "" if self._is_fine_tuning(number) else f"stage{number}"

    def _trainer(self, number: int) -> Joint:
        """The keys that the loop of a stage reads."""
        shared = {key.name: vars(self.trainer)[key.name] for key in fields(Joint)}
        if not self._is_fine_tuning(number):
            shared |= {"epochs": self.epochs[number - 1], "steps": None}
        return Joint(**shared)

    def _about(self, number: int) -> str:
        """The stage in a line: of how many, and which layers it trains."""
        trained = self._enter(number).autoencoder
        names = {path.rpartition(".")[0] for path, value in trained.named_parameters() if value.requires_grad}
        moving = ", ".join(name for name in layers(trained) if name in names)
        what = "fine-tuning" if self._is_fine_tuning(number) else f"stage {number} of {len(self.epochs)}"
        return f"{what}: training {moving}"


def epochs_of(trainer: Greedy, optimizers: Sequence[object], autoencoder: Autoencoder, model: str) -> list[int]:
    """The epochs of each stage. ConfigError for a model without layer pairs, or where there are not as many values."""
    if autoencoder.cuts is None:
        raise ConfigError(
            f"trainer=greedy and {model}: this model has no layer pairs; use model=fc, fc_deep or conv, or two "
            "nn.Sequential whose layers mirror each other"
        )
    pairs, epochs = len(autoencoder.cuts) + 1, trainer.stage_epochs
    for key, values in (("stage_epochs", epochs), ("stage_optimizer", optimizers)):
        count = len(values) if isinstance(values, Sequence) else 1
        if count != pairs and ((key == "stage_epochs" and isinstance(values, list)) or count > 1):
            raise ConfigError(f"trainer.{key}: has {count} values for {pairs} layer pairs; the outermost comes first")
    each = epochs if isinstance(epochs, list) else [epochs] * pairs
    if not each[-1] and not trainer.epochs:
        raise ConfigError(f"trainer.stage_epochs={each} and trainer.epochs=0: the innermost pair would not be trained")
    return each
