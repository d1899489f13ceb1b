"""The doctor during training: it judges the logged numbers after every epoch, and the best weights at the end."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch

from aerun.contracts import EpochEnd, Evaluate, Observer, RunView
from aerun.core.autoencoder import Autoencoder
from aerun.dataset.data import spread
from aerun.doctor.evidence import examine_run, options_of
from aerun.doctor.examination import MIN_IMAGES, Examination, Fit
from aerun.doctor.file_evidence import layers_of_line, penalty_of
from aerun.doctor.judge import judge
from aerun.doctor.layer_units import has_units_that_die, measure_layers
from aerun.doctor.loss_curve import DEAD_UNITS, Line, measure_curve
from aerun.doctor.verdict import Verdict
from aerun.metrics.evaluation import given_batches
from aerun.training.parts import Parts

log = logging.getLogger(__name__)
UNIT_IMAGES = 128  # on which units are measured
FIRST_JUDGED_EPOCH = 3  # before it, a healthy net may not have begun to learn


def measures_units(epoch: int) -> bool:
    """Whether hidden units are measured after that epoch of a training: 1, 2, 3, 5, 10, 20, 30, 50, …"""
    while epoch > 5 and epoch % 10 == 0:
        epoch //= 10
    return epoch in (1, 2, 3, 5)


class Watch(Observer):
    """Warns during training. It does not affect the training, and saves no state: it uses only what is in
    metrics.jsonl."""

    def __init__(self, config: Mapping[str, Any] | None = None, typed: Collection[str] = ()) -> None:
        """``config``, ``typed``: see ``Options``."""
        self._config, self._typed = config, typed
        self._warned: set[str] = set()

    def begin(self, run: RunView) -> None:
        """Read what was logged before, if the run is resumed."""
        self._run = run
        self._options = options_of(run.autoencoder, run.noise, run.optimizer, self._config, self._typed)
        self._lines: list[Line] = list(run.log.logged())
        self._warned = set()

    @torch.no_grad()
    def measure(self, autoencoder: Autoencoder, part: str, evaluate: Evaluate) -> Mapping[str, float]:
        """After some epochs, the share of units of each hidden layer that are constant over all images, if its
        activation lets units die. ``dead_units`` of the code means the same."""
        progress = None if part == "test" else self._run.progress
        if progress is None or not measures_units(progress.epoch + 1 - progress.stage_epoch):
            return {}
        if not has_units_that_die(autoencoder):
            return {}
        shown = spread(self._run.part, UNIT_IMAGES)
        given, _, noisy, _ = next(given_batches(autoencoder, shown, self._run.noise))
        layers = (layer for layer in measure_layers(given, noisy) if layer.name != "code")
        return {f"{DEAD_UNITS}/{layer.name}": layer.still for layer in layers}

    def epoch(self, end: EpochEnd) -> None:
        """Warn of verdicts that this epoch shows for the first time."""
        line = {"epoch": end.epoch, **end.numbers}
        self._lines.append(line)
        if len(self._lines) < FIRST_JUDGED_EPOCH:
            return
        for verdict in judge(self._examination(line, end.target_spread)):
            if verdict.name not in self._warned:
                self._warned.add(verdict.name)
                log.warning("doctor, epoch %d: %s", end.epoch, verdict)

    def _examination(self, line: Line, target_spread: float) -> Examination:
        sse, spread = line.get("validation/sse"), line.get("validation/output_spread")
        fit, is_evidence = None, len(self._run.part) >= MIN_IMAGES
        if is_evidence and sse is not None and spread is not None and target_spread:
            fit = Fit(explained=1 - sse / target_spread, spread=spread)
        return Examination(
            final=False,
            fit=fit,
            layers=tuple(layers_of_line(line)) if is_evidence else (),
            curve=measure_curve(self._lines, penalty_of(self._options)),
            options=self._options,
        )


def log_final_verdicts(
    parts: Parts,
    lines: Sequence[Mapping[str, Any]],
    summary: Mapping[str, Any],
    config: Mapping[str, Any],
    typed: Collection[str] = (),
) -> list[str]:
    """Judge a run that has ended by its best weights, log each verdict as a warning, and return the verdicts' names."""
    verdicts: list[Verdict] = judge(examine_run(parts, lines, summary, config, typed))
    for verdict in verdicts:
        log.warning("doctor: %s", verdict)
    return [verdict.name for verdict in verdicts]
