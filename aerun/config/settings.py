"""From a composed configuration to typed settings: every key, value and pair is checked here, before torch is imported.

The parts of a run are dataclasses, and their annotations are the schema. An option is found by the ``_target_``
of its YAML, which lies at the path of its code: conf/sparsity/topk.yaml names aerun.sparsity.TopK.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from aerun.config.schema import Positive, Seed

GROUPS = ("dataset", "noise", "model", "latent", "sparsity", "loss", "optimizer", "scheduler", "trainer")
SEVERAL = "protocol"  # the group of which a run may have any number of options


@dataclass(frozen=True)
class Checkpointing:
    """Checkpoints come after epochs (at most one a second), and within one when so many minutes have passed."""

    every_minutes: Positive | None


@dataclass(frozen=True)
class Settings:
    """A run: one part of each group, and what belongs to the run as a whole."""

    seed: Seed
    resume: str | None
    trusted_packages: list[str]
    checkpoint: Checkpointing
    dataset: Any
    noise: Any
    latent: Any
    sparsity: Any
    model: Any
    loss: Any
    optimizer: Any
    scheduler: Any
    trainer: Any
    init_from: str | None = None
    freeze: list[str] = field(default_factory=list)
    # Of a greedy run's stages: one for all of them, one each, or none, which is the run's own.
    stage_optimizers: list[Any] = field(default_factory=list, metadata={"internal": True})
    # By name, in the order in which they were chosen.
    protocol: dict[str, Any] = field(default_factory=dict, metadata={"internal": True})
    choices: dict[str, str] = field(default_factory=dict, metadata={"internal": True})

    def name(self, group: str) -> str:
        """The group's option for a message: ``model=conv``, or its class where the option is not known."""
        return f"{group}={self.choices.get(group) or type(getattr(self, group)).__name__}"
