"""Weights of several epochs."""

from __future__ import annotations

from dataclasses import dataclass

from aerun.contracts import Count, EpochEnd, Observer, RunView


@dataclass(eq=False)
class Snapshots(Observer):
    """Saves the weights of every ``every_epochs``-th epoch as ``checkpoints/epochN.safetensors`` (in a stage,
    ``stageK_epochN``)."""

    every_epochs: Count

    def begin(self, run: RunView) -> None:
        self._run = run

    def epoch(self, end: EpochEnd) -> None:
        if end.epoch % self.every_epochs == 0:
            stage = f"{self._run.stage}_" if self._run.stage else ""
            self._run.log.weights(f"{stage}epoch{end.epoch}", self._run.autoencoder.state_dict())
