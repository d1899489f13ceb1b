"""The interface of parts: one class for each group, with a default for everything optional.

A part of your own subclasses the class of its group, or simply has the same methods: ``complete`` then adds the missing
defaults to its class. No code depends on the name of a part.

A part with weights or buffers defines ``build``, which returns an ``nn.Module`` with the part's interface. Modules are
built after the seed is set, and treated like any other layer: trained, saved, frozen, and initialized from another
run. Greedy pretraining trains encoder and decoder; sparsity and latent join in its last stage.
"""

from __future__ import annotations

import inspect

from aerun.contracts.data import Dataset, Evaluation, Noise
from aerun.contracts.network import Latent, Model, Sparsity
from aerun.contracts.observers import EpochEnd, Evaluate, Observer, RunLog, RunView, TrackedRun, Tracker
from aerun.contracts.part import CodePart, Part, default
from aerun.contracts.terms import (
    Codec,
    Diagnostic,
    Factors,
    Metric,
    Moment,
    Pass,
    Penalty,
    Shape,
    Shapes,
    Terms,
    TrainingData,
)
from aerun.contracts.training import Loss, Optimizer, Regularizer, Schedule, Scheduler, Trainer
from aerun.contracts.values import (
    Activation,
    Count,
    Decay,
    Finite,
    Fraction,
    NonNegative,
    NonNegativeInt,
    OpenProbability,
    Positive,
    Probability,
    Range,
    Seed,
    Size,
)

__all__ = [
    "CONTRACTS",
    "REQUIRED",
    "Activation",
    "CodePart",
    "Codec",
    "Count",
    "Dataset",
    "Decay",
    "Diagnostic",
    "EpochEnd",
    "Evaluate",
    "Evaluation",
    "Factors",
    "Finite",
    "Fraction",
    "Latent",
    "Loss",
    "Metric",
    "Model",
    "Moment",
    "Noise",
    "NonNegative",
    "NonNegativeInt",
    "Observer",
    "OpenProbability",
    "Optimizer",
    "Part",
    "Pass",
    "Penalty",
    "Positive",
    "Probability",
    "Range",
    "Regularizer",
    "RunLog",
    "RunView",
    "Schedule",
    "Scheduler",
    "Seed",
    "Shape",
    "Shapes",
    "Size",
    "Sparsity",
    "Terms",
    "TrackedRun",
    "Tracker",
    "Trainer",
    "TrainingData",
    "complete",
    "default",
    "missing_names",
]


CONTRACTS: dict[str, type] = {
    "dataset": Dataset,
    "noise": Noise,
    "model": Model,
    "latent": Latent,
    "sparsity": Sparsity,
    "regularizer": Regularizer,
    "schedule": Schedule,
    "loss": Loss,
    "optimizer": Optimizer,
    "scheduler": Scheduler,
    "trainer": Trainer,
    "protocol": Evaluation,
    "callback": Observer,
    "tracker": Tracker,
}
# Names without a default, which every part must define.
REQUIRED: dict[str, tuple[str, ...]] = {
    "dataset": ("load",),
    "noise": ("__call__",),
    "model": ("build",),
    "latent": ("__call__",),
    "sparsity": ("__call__",),
    "regularizer": ("penalties",),
    "schedule": ("key", "value"),
    "loss": ("__call__", "scale"),
    "optimizer": ("build",),
    "trainer": ("epochs", "batch_size"),
    "protocol": ("__call__",),
}


def missing_names(cls: type, group: str) -> list[str]:
    """The names that a part of the group must define and that the class does not have."""
    defined = {name for base in cls.__mro__ for name in (*vars(base), *inspect.get_annotations(base))}
    return [name for name in REQUIRED.get(group, ()) if name not in defined]


def complete(cls: type, group: str) -> None:
    """Add the defaults of everything that it does not define to a class that does not subclass its group's contract."""
    contract = CONTRACTS[group]
    if contract in cls.__mro__:
        return
    defined = {name for base in cls.__mro__[:-1] for name in (*vars(base), *inspect.get_annotations(base))}
    for base in contract.__mro__:
        if base.__module__.rpartition(".")[0] != __name__:
            continue
        for name, value in vars(base).items():
            if not name.startswith("_") and name not in defined:
                setattr(cls, name, value)
                defined.add(name)
