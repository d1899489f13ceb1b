"""The typed settings of a run: one part of each group, and the keys of the run as a whole.

The parts are dataclasses whose annotations are their schema. An option is found by the ``_target_`` of its YAML, which
lies at the path of its code: conf/sparsity/topk.yaml names aerun.sparsity.TopK.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aerun import contracts
from aerun.config.schema import Positive, Seed

GROUPS = ("dataset", "noise", "model", "latent", "sparsity", "loss", "optimizer", "scheduler", "trainer")
# Groups of which a run may have any number of options, by name: protocol=[one,other].
PROTOCOL, CALLBACK = SEVERAL = ("protocol", "callback")


@dataclass(frozen=True)
class Checkpointing:
    """Checkpoints come after epochs (at most one a second), and within one when so many minutes have passed."""

    every_minutes: Positive | None


@dataclass(frozen=True)
class RunKeys:
    """Keys of the run as a whole."""

    seed: Seed
    resume: str | None
    trusted_packages: list[str]
    checkpoint: Checkpointing
    init_from: str | None = None
    freeze: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Settings(RunKeys):
    """A run. ``stage_optimizers``: of a greedy run, one for all stages or one for each; empty for the run's own.

    ``choices`` are the options' names by group; ``typed`` the keys and groups that the user typed.
    """

    dataset: contracts.Dataset
    noise: contracts.Noise
    latent: contracts.Latent
    sparsity: contracts.Sparsity
    model: contracts.Model
    loss: contracts.Loss
    optimizer: contracts.Optimizer
    scheduler: contracts.Scheduler
    trainer: contracts.Trainer
    protocol: Mapping[str, contracts.Evaluation] = field(default_factory=dict)
    callback: Mapping[str, contracts.Observer] = field(default_factory=dict)
    stage_optimizers: list[contracts.Optimizer] = field(default_factory=list)
    choices: Mapping[str, str] = field(default_factory=dict)
    typed: frozenset[str] = frozenset()

    def parts(self) -> dict[str, contracts.Part]:
        """All parts by the path of their keys: ``model``, ``protocol.knn``, ..."""
        single = {group: vars(self)[group] for group in GROUPS}
        return single | {f"{PROTOCOL}.{name}": protocol for name, protocol in self.protocol.items()}

    def name(self, group: str) -> str:
        """The group's option for a message: ``model=conv``, or its class where the option is not known."""
        return f"{group}={self.choices.get(group) or type(vars(self)[group]).__name__}"
