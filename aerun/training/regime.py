"""How a run trains: all layers together, in stages, or by a user's trainer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from aerun.config.settings import Settings
from aerun.core.autoencoder import Autoencoder
from aerun.trainer import Greedy
from aerun.training.checkpoint import Checkpointer
from aerun.training.loop import JointTraining, Session
from aerun.training.parts import Parts
from aerun.training.progress import Progress
from aerun.training.stages import StagedTraining


class Regime(Protocol):
    """How the layers of a run are trained. ``needs_folder``: weights are stored in files between stages."""

    parts: Parts
    needs_folder: bool

    def restore(self, checkpoints: Checkpointer) -> Progress | None:
        """Restore the last checkpoint; None if there is none."""

    def save_start(self, checkpoints: Checkpointer) -> None:
        """Save initial weights that come from another run, so that the other run is not needed any more."""

    def train(self, progress: Progress, session: Session) -> Progress:
        """Train from ``progress`` to the end. For errors see ``Loop.run``."""

    def finished_stages(self, folder: Path) -> Iterator[tuple[str, Autoencoder]]:
        """Label and best model of each finished stage in a run folder. A model is valid until the next is yielded."""

    @property
    def outcome(self) -> str:
        """A label for the final weights."""


def regime_of(settings: Settings, parts: Parts) -> Regime:
    """The regime of ``settings.trainer``. ConfigError if it cannot train the model."""
    trainer = settings.trainer
    if isinstance(trainer, Greedy):
        return StagedTraining.create(settings, trainer, parts)
    return JointTraining(settings, parts)
