"""How a run trains: all layers together, in stages, or by a trainer of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from aerun.config.settings import Settings
from aerun.core.autoencoder import Autoencoder
from aerun.trainer import Greedy
from aerun.training.checkpoint import Checkpointer
from aerun.training.loop import Surroundings, Together
from aerun.training.parts import Parts
from aerun.training.progress import Progress
from aerun.training.stages import InStages


class Regime(Protocol):
    """What a run needs of the way in which it trains. ``needs_folder``: weights are kept in files meanwhile."""

    parts: Parts
    needs_folder: bool

    def restore(self, checkpoints: Checkpointer) -> Progress | None:
        """Put everything where the last checkpoint has it; None if there is none."""

    def keep_start(self, checkpoints: Checkpointer) -> None:
        """Save first weights that were taken from another run, which is not needed from here on."""

    def train(self, progress: Progress, around: Surroundings) -> Progress:
        """Train from where ``progress`` stands to the end. For errors see ``Loop.run``."""

    def finished_stages(self, folder: Path) -> Iterator[tuple[str, Autoencoder]]:
        """The best model of each stage that a run folder keeps, and its label. Each is valid until the next."""

    @property
    def outcome(self) -> str:
        """A word for the final weights."""


def regime_of(settings: Settings, parts: Parts) -> Regime:
    """The regime of ``settings.trainer``. ConfigError for what it cannot train."""
    trainer = settings.trainer
    if isinstance(trainer, Greedy):
        return InStages.of(settings, trainer, parts)
    return Together(settings, parts)
