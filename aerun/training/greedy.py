"""Greedy layer-wise pretraining: Hinton & Salakhutdinov 2006 (Science 313:504) and Bengio et al. 2007, by autoencoders.

Every stage minimises the run's own loss between images and the reconstructions of a nested autoencoder.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping

from aerun.base.signals import StopSignals
from aerun.runs.pictures import Report
from aerun.runs.tracking import Tracker
from aerun.trainer import Greedy, Joint
from aerun.training.checkpoint import Checkpointer, load_model
from aerun.training.loop import Loop
from aerun.training.progress import Progress
from aerun.training.stages import WEIGHTS, Stages

log = logging.getLogger(__name__)


@dataclasses.dataclass
class LayerByLayer:
    """One run: its stages one after the other, each from the best weights of the one before."""

    settings: Greedy
    stages: Stages
    progress: Progress
    tracker: Tracker
    report: Report
    checkpoints: Checkpointer
    stop: StopSignals
    watch: Callable[[int, Mapping[str, float]], None] | None

    def run(self) -> Progress:
        """Go on from the stage at which ``progress`` stands; see ``Loop.run`` for what it may raise.

        A checkpoint opens each stage: from then on the best weights are its own.
        """
        plan = self.stages.plan()
        for number in (number for number in plan if number >= self.progress.stage):
            if number > self.progress.stage:
                self._begin(number)
            self._train(number, last=number == plan[-1])
            if number != plan[-1]:
                self._hand_on(number)
        return self.progress

    def _begin(self, number: int) -> None:
        parts = self.stages.enter(number)
        self.progress.begin(number, parts.scheduler.state())
        self.checkpoints.enter(parts.optimizer)
        self.tracker.flush()
        self.checkpoints.save(self.progress)

    def _train(self, number: int, last: bool) -> None:
        parts, name = self.stages.enter(number), self.stages.name(number)
        log.info("%s", self.stages.about(number))
        report = dataclasses.replace(self.report, autoencoder=parts.autoencoder)
        watch = self.watch if last else None  # errors of different stages do not compare
        with self.tracker.stage(number, name):
            Loop(
                *(self._settings(number), parts, self.progress, self.tracker, report, self.checkpoints),
                *(self.stop, watch, name),
            ).run()

    def _settings(self, number: int) -> Joint:
        """What the loop of a stage goes by."""
        shared = {field.name: getattr(self.settings, field.name) for field in dataclasses.fields(Joint)}
        if not self.stages.is_fine_tuning(number):
            shared |= {"epochs": self.stages.epochs[number - 1], "steps": None}
        return Joint(**shared)

    def _hand_on(self, number: int) -> None:
        """Keep the stage's best weights, and go on from them."""
        name, ranks = WEIGHTS.format(number), self.stages.whole.ranks
        ranks.first(lambda: self.checkpoints.keep(name))
        best = load_model(self.checkpoints.folder / name, self.stages.whole.autoencoder)
        log.info("stage %d: best loss %.5g, after epoch %d", number, best.best_loss, best.best_epoch)
