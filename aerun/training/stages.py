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

from aerun.base.archive import is_file
from aerun.config.settings import Settings
from aerun.core.autoencoder import Autoencoder, untie
from aerun.core.nested import freeze_only, has_linear_path, layers, nested
from aerun.errors import ConfigError
from aerun.trainer import Greedy, Joint
from aerun.training.build import build_autoencoder, build_optimizer
from aerun.training.checkpoint import Checkpointer, load_model
from aerun.training.loop import Loop, Session
from aerun.training.parts import Parts
from aerun.training.progress import Progress

log = logging.getLogger(__name__)
STAGE_WEIGHTS = "stage{}.safetensors"  # in the folder of checkpoints: the best weights of a finished stage


@dataclass
class StagedTraining:
    """Stage i, from 1, trains the autoencoder of the outermost i layer pairs for ``epochs[i-1]`` epochs; a final stage
    fine-tunes the whole model. Each stage starts from the best weights of the previous one.

    ``parts`` belong to the whole model. ``settings.freeze`` names layers that no stage trains.
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
    def create(cls, settings: Settings, trainer: Greedy, parts: Parts) -> StagedTraining:
        """ConfigError if the model cannot be trained in stages, or if a stage has nothing to train."""
        epochs = epochs_per_stage(trainer, settings.stage_optimizers, parts.autoencoder, settings.name("model"))
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

    def save_start(self, checkpoints: Checkpointer) -> None:
        """Do nothing: the checkpoint at the start of the first stage contains the weights."""

    def train(self, progress: Progress, session: Session) -> Progress:
        """See Regime. Each stage starts with a checkpoint."""
        plan = self._plan()
        for number in (number for number in plan if number >= progress.stage):
            if number > progress.stage:
                self._start_stage(number, progress, session)
            last = number == plan[-1]
            log.info("%s", self._describe(number))
            Loop(
                self._trainer(number), self._parts_of_stage(number), progress, session, self._name(number), number, last
            ).run()
            if not last:
                self._finish_stage(number, session.checkpoints)
        return progress

    def finished_stages(self, folder: Path) -> Iterator[tuple[str, Autoencoder]]:
        """See Regime. Weights that fine-tuning unties are still tied here."""
        pretrained = build_autoencoder(self.settings, self.parts.data).to(self.parts.device)
        for number in range(1, len(self.epochs) + 1):
            path = folder / STAGE_WEIGHTS.format(number)
            if is_file(path):
                load_model(path, pretrained)
                yield f"stage {number}", nested(pretrained, number)

    def _start_stage(self, number: int, progress: Progress, session: Session) -> None:
        parts = self._parts_of_stage(number)
        progress.start_stage(number, parts.scheduler.state())
        session.checkpoints.start_stage(parts.optimizer)
        session.log.flush()
        session.checkpoints.save(progress)

    def _finish_stage(self, number: int, checkpoints: Checkpointer) -> None:
        """Keep the best weights of the stage in a file, and load them."""
        name = STAGE_WEIGHTS.format(number)
        self.parts.ranks.first(lambda: checkpoints.keep(name))
        best = load_model(checkpoints.folder / name, self.parts.autoencoder)
        log.info(
            "stage %d: best %s %.5g, after epoch %d", number, self.parts.monitor.name, best.best_loss, best.best_epoch
        )

    def _parts_of_stage(self, number: int) -> Parts:
        """The parts that the stage trains. If it unties layers, they get their own weights now."""
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
        given = self.settings.stage_optimizers
        each = given if len(given) > 1 else (given or [self.settings.optimizer]) * len(self.epochs)
        return build_optimizer(self.settings, trained, [*each, self.settings.optimizer][number - 1])

    def _resume(self, progress: Progress) -> Optimizer:
        """Prepare the stage of a checkpoint, and return its optimizer, which is to be restored."""
        parts = self._parts_of_stage(progress.stage)
        parts.scheduler.restore(progress.scheduler)
        return parts.optimizer

    def _select(self, number: int) -> tuple[Autoencoder, bool]:
        """Freeze what the stage does not train; return its autoencoder, and whether anything is left to train."""
        whole, frozen = self.parts.autoencoder, self.settings.freeze
        if self._is_fine_tuning(number):
            return whole, freeze_only(whole, frozen)
        trained, earlier = nested(whole, number), number > 1 and self.trainer.freeze_earlier
        return trained, freeze_only(trained, frozen, nested(whole, number - 1).parameters() if earlier else ())

    def _check(self) -> None:
        """ConfigError if a stage would have nothing to train."""
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
                "trainer.stage_epochs=%s: the layer pairs of stage %s stay frozen at their initial weights while later "
                "stages train; unless init_from has set these weights, use trainer.freeze_earlier=false",
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
        """The name of the stage in logs; empty for fine-tuning, whose numbers are the run's."""
        return "" if self._is_fine_tuning(number) else f"stage{number}"

    def _trainer(self, number: int) -> Joint:
        """The keys of a joint trainer, with the epochs of the stage."""
        shared = {key.name: vars(self.trainer)[key.name] for key in fields(Joint)}
        if not self._is_fine_tuning(number):
            shared |= {"epochs": self.epochs[number - 1], "steps": None}
        return Joint(**shared)

    def _describe(self, number: int) -> str:
        """One line about the stage: its number, and the layers that it trains."""
        trained = self._parts_of_stage(number).autoencoder
        names = {path.rpartition(".")[0] for path, value in trained.named_parameters() if value.requires_grad}
        trained_layers = ", ".join(name for name in layers(trained) if name in names)
        title = "fine-tuning" if self._is_fine_tuning(number) else f"stage {number} of {len(self.epochs)}"
        return f"{title}: training {trained_layers}"


def epochs_per_stage(trainer: Greedy, optimizers: Sequence[object], autoencoder: Autoencoder, model: str) -> list[int]:
    """The epochs of each stage. ConfigError for a model without layer pairs, or if the number of values does not
    match."""
    if autoencoder.condition is not None:
        raise ConfigError(
            "trainer=greedy and model.condition=label: the autoencoders of inner layers have no labels; use "
            "trainer=joint or model.condition=none"
        )
    if has_linear_path(autoencoder):
        raise ConfigError(
            "trainer=greedy and model.linear_path=pca: the path is around all layers; use trainer=joint or "
            "model.linear_path=none"
        )
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
