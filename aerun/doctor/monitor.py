"""The doctor during training: what is logged anyway, looked at after every epoch, and a last look at the end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from aerun.contracts import EpochEnd, Observer, RunView
from aerun.core.autoencoder import Autoencoder
from aerun.dataset.data import head
from aerun.doctor.curve import DEAD_UNITS, Line, curve_of
from aerun.doctor.examination import Examination, Fit
from aerun.doctor.examine import examine_run, options_of
from aerun.doctor.judge import judge
from aerun.doctor.layers import can_die, layers_of
from aerun.doctor.recorded import layers_of_line, penalty_of
from aerun.doctor.verdict import Verdict
from aerun.metrics.evaluation import corrupted_batches
from aerun.training.parts import Parts

log = logging.getLogger(__name__)
IMAGES = 128  # on which units are looked at
EARLY = 3  # epochs: before, a net may well not have begun to learn


def is_looked_at(epoch: int) -> bool:
    """Whether units of hidden layers are looked at after that epoch of a training: 1, 2, 3, 5, 10, 20, 30, 50, …"""
    while epoch > 5 and epoch % 10 == 0:
        epoch //= 10
    return epoch in (1, 2, 3, 5)


class Watch(Observer):
    """Warns during training. It changes nothing that the training sees, and needs nothing saved: all that it knows is
    in metrics.jsonl."""

    def __init__(self) -> None:
        self._warned: set[str] = set()

    def begin(self, run: RunView) -> None:
        """Learn what was logged before, in a run that is continued."""
        self._run = run
        self._options = options_of(run.autoencoder, run.noise, run.optimizer)
        self._lines: list[Line] = list(run.log.logged())
        self._warned = set()

    @torch.no_grad()
    def measure(
        self, autoencoder: Autoencoder, part: str, evaluate: Callable[[Any], dict[str, float]]
    ) -> Mapping[str, float]:
        """After some epochs the share of units that are 0 for all of some images, by hidden layer, where units can."""
        progress = None if part == "test" else self._run.progress
        if progress is None or not is_looked_at(progress.epoch + 1 - progress.stage_epoch) or not can_die(autoencoder):
            return {}
        _, noisy, _ = next(corrupted_batches(head(self._run.part, IMAGES), self._run.noise))
        layers = (layer for layer in layers_of(autoencoder, noisy) if layer.name != "code")
        return {f"{DEAD_UNITS}/{layer.name}": layer.dead for layer in layers}

    def epoch(self, end: EpochEnd) -> None:
        """Warn of what the numbers of an epoch show for the first time."""
        line = {"epoch": end.epoch, **end.numbers}
        self._lines.append(line)
        if len(self._lines) < EARLY:
            return
        for verdict in judge(self._examination(line, end.target_spread)):
            if verdict.name not in self._warned:
                self._warned.add(verdict.name)
                log.warning("doctor, epoch %d: %s", end.epoch, verdict)

    def _examination(self, line: Line, target_spread: float) -> Examination:
        sse, spread = line.get("validation/sse"), line.get("validation/output_spread")
        fit = None
        if sse is not None and spread is not None and target_spread:
            fit = Fit(explained=1 - sse / target_spread, spread=spread)
        return Examination(
            final=False,
            fit=fit,
            layers=tuple(layers_of_line(line)),
            curve=curve_of(self._lines, penalty_of(self._options)),
            options=self._options,
        )


def conclusion(parts: Parts, lines: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> list[str]:
    """Names of the verdicts on a run that has ended, from its best weights; each is logged as a warning."""
    verdicts: list[Verdict] = judge(examine_run(parts, lines, summary))
    for verdict in verdicts:
        log.warning("doctor: %s", verdict)
    return [verdict.name for verdict in verdicts]
