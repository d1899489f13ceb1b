"""The typed settings of a run: one part of each group, and the keys of the run as a whole.

Parts are dataclasses whose annotations are their schema, or modules that are built later. The ``_target_`` of an
option's YAML file names its class, in the module of its group: conf/sparsity/topk.yaml names aerun.sparsity.TopK.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from aerun import contracts
from aerun.contracts import Positive, Seed

GROUPS = ("dataset", "noise", "model", "latent", "sparsity", "loss", "optimizer", "scheduler", "trainer")
# Groups that allow any number of options: protocol=[one,other].
REGULARIZER, SCHEDULE, PROTOCOL, CALLBACK, TRACKER = SEVERAL = (
    "regularizer",
    "schedule",
    "protocol",
    "callback",
    "tracker",
)


@dataclass(frozen=True)
class Checkpointing:
    """Checkpoints are saved after epochs, as long as that takes about 1 % of the time, and within epochs after every
    ``every_minutes``.

    ``keep``: those that a finished run keeps: its trained weights only, also the last checkpoint, which can make it
    longer, or also the one before. Configurations of older versions lack the key; their runs keep all.
    """

    every_minutes: Positive | None
    keep: Literal["weights", "last", "all"] = "all"


@dataclass(frozen=True)
class RunKeys:
    """The keys of a run that belong to no part."""

    seed: Seed
    resume: str | None
    trusted_packages: list[str]
    checkpoint: Checkpointing
    init_from: str | None = None
    freeze: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Settings(RunKeys):
    """The settings of a run.

    ``stage_optimizers``: for greedy training, one for all stages or one for each; empty: the run's optimizer for all.
    ``choices``: the names of the options by group. ``typed``: the keys and groups that the user typed.
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
    regularizer: Mapping[str, contracts.Regularizer] = field(default_factory=dict)
    schedule: Mapping[str, contracts.Schedule] = field(default_factory=dict)
    protocol: Mapping[str, contracts.Evaluation] = field(default_factory=dict)
    callback: Mapping[str, contracts.Observer] = field(default_factory=dict)
    tracker: Mapping[str, contracts.Tracker] = field(default_factory=dict)
    stage_optimizers: list[contracts.Optimizer] = field(default_factory=list)
    choices: Mapping[str, str] = field(default_factory=dict)
    typed: frozenset[str] = frozenset()

    def parts(self) -> dict[str, contracts.Part]:
        """All parts, by the path of their keys: ``model``, ``protocol.knn``, ..."""
        single = {group: vars(self)[group] for group in GROUPS}
        return single | {f"{group}.{name}": part for group in SEVERAL for name, part in vars(self)[group].items()}

    def name(self, group: str) -> str:
        """The group and its option for messages: ``model=conv``, or the name of its class if the option is unknown. An
        option of several is given by its path, ``protocol.knn``."""
        group, _, option = group.partition(".")
        return f"{group}={option or self.choices.get(group) or type(vars(self)[group]).__name__}"
