"""Modules that a configuration names by ``_target_``: described when it is read, built after the seed is set.

So the same seed gives the same weights, whatever was read or imported before, in one process and in every launcher.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import TYPE_CHECKING, Any

from aerun.contracts import Optimizer
from aerun.errors import ConfigError

if TYPE_CHECKING:
    from torch import optim
    from torch.nn import Parameter


@dataclass(frozen=True)
class Deferred:
    """A class with its arguments, at ``path`` of the configuration."""

    cls: type
    arguments: Mapping[str, Any]
    path: str

    @property
    def target(self) -> str:
        """The class's dotted name."""
        return f"{self.cls.__module__}.{self.cls.__qualname__}"

    def construct(self) -> Any:
        """An object of the class, those in its arguments first. ConfigError for arguments that it rejects."""
        arguments = {key: _constructed(value) for key, value in self.arguments.items()}
        try:
            return self.cls(**arguments)
        except Exception as error:
            raise ConfigError(
                f"{self.path}: {self.target} rejects its arguments ({' '.join(str(error).split())})"
            ) from error


class DeferredPart:
    """A part that is a module, or is given one. Until it is built it has what its class declares."""

    def __init__(self, deferred: Deferred) -> None:
        self.deferred = deferred

    def build(self, *shapes: Any) -> Any:
        """The part, built for the shapes of its group's ``build``; an ``nn.Module`` without a ``build`` as it is."""
        part = self.deferred.construct()
        build = inspect.getattr_static(self.deferred.cls, "build", None)
        return part if build is None else part.build(*shapes)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "deferred":
            raise AttributeError(name)
        value = inspect.getattr_static(self.deferred.cls, name)
        if isinstance(value, FunctionType | property):
            return value.__get__(self)
        return value.__get__(self, type(self)) if hasattr(value, "__get__") else value


def built(part: Any) -> Any:
    """A part that is built for no shape: itself, or the object that waited for the seed."""
    return part.build() if isinstance(part, DeferredPart) else part


def is_module(cls: type) -> bool:
    """Whether a class is one of torch's modules, or a subclass."""
    torch = sys.modules.get("torch")  # imported already, if it is
    return torch is not None and issubclass(cls, torch.nn.Module)


def _constructed(value: Any) -> Any:
    if isinstance(value, Deferred):
        return value.construct()
    if isinstance(value, Mapping):
        return {key: _constructed(item) for key, item in value.items()}
    return [_constructed(item) for item in value] if isinstance(value, list) else value


class FromTorch(Optimizer):
    """A class of ``torch.optim``, or of a package of one's own, by its ``_target_``; keys are its arguments."""

    def __init__(self, cls: type[optim.Optimizer], arguments: dict[str, Any]) -> None:
        self.cls, self.arguments = cls, arguments
        self.lr: float | None = arguments.get("lr")

    def build(self, parameters: Iterable[Parameter]) -> optim.Optimizer:
        """ConfigError for arguments that the class does not take."""
        try:
            return self.cls(parameters, **self.arguments)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ConfigError(f"optimizer: {error}") from error

    @property
    def couples_weight_decay(self) -> bool:
        return couples_weight_decay(self.cls, self.arguments)


def couples_weight_decay(cls: type[optim.Optimizer], arguments: Mapping[str, Any]) -> bool:
    """``Optimizer.couples_weight_decay`` for a class of torch's, or a subclass, with these arguments."""
    from torch import optim

    scaling = (optim.Adam, optim.NAdam, optim.RMSprop, optim.Adagrad, optim.Adadelta)
    decoupled = arguments.get("decoupled_weight_decay", issubclass(cls, optim.AdamW))
    return issubclass(cls, scaling) and not decoupled
