"""Modules that a configuration names by ``_target_``: described when it is read, built after the seed is set.

So the same seed gives the same weights, whatever was read or imported before, in one process and in every launcher.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from inspect import Parameter
from types import FunctionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from aerun.config.schema import check, no_such_key
from aerun.contracts import Optimizer
from aerun.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn, optim


POSITIONAL = "_args_"
NAMED = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


@dataclass(frozen=True)
class Deferred:
    """A class with its arguments, as ``path`` of the configuration names it (``target``).

    Arguments without a name are a list under ``_args_``, as in Hydra: {_target_: torch.nn.Sequential, _args_: [...]}.
    """

    cls: type
    arguments: Mapping[str, Any]
    path: str
    target: str

    @property
    def key(self) -> str:
        """Key and value that name the class, for messages."""
        return f"{self.path}._target_={self.target}"

    def construct(self) -> Any:
        """An object of the class, those in its arguments first. ConfigError for arguments that it rejects."""
        named = {key: _constructed(value) for key, value in self.arguments.items()}
        positional = named.pop(POSITIONAL, [])
        if not isinstance(positional, list):
            raise ConfigError(f"{self.path}.{POSITIONAL}={positional}: must be a list in brackets")
        try:
            return self.cls(*positional, **named)
        except Exception as error:
            given = f" {', '.join(self.arguments)}" if self.arguments else ""
            reason = " ".join(str(error).split())
            raise ConfigError(f"{self.key}: rejects its arguments{given} ({reason})") from error


class DeferredPart:
    """A part that is a module, or is given one. Until it is built it has its arguments and what its class declares."""

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
        if name in self.deferred.arguments:
            return self.deferred.arguments[name]
        try:
            value = inspect.getattr_static(self.deferred.cls, name)
        except AttributeError:
            return self._default(name)
        if isinstance(value, FunctionType | property):
            return value.__get__(self)
        return value.__get__(self, type(self)) if hasattr(value, "__get__") else value

    def _default(self, name: str) -> Any:
        """The default of an argument."""
        argument = inspect.signature(self.deferred.cls).parameters.get(name)
        if argument is None or argument.default is Parameter.empty:
            raise AttributeError(f"{self.deferred.target} does not have {name} before it is built")
        return argument.default


def built(part: Any) -> Any:
    """A part that is built for no shape: itself, or the object that waited for the seed."""
    return part.build() if isinstance(part, DeferredPart) else part


def check_arguments(cls: type, values: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The arguments of a class of one's own: their names by its signature, values by those annotations that are known
    here. What it is given without names (``_args_``), and torch's own classes, are left to the call.

    ConfigError as in ``construct``.
    """
    try:
        parameters = inspect.signature(cls).parameters.values()
    except (TypeError, ValueError):  # written in C
        return dict(values)
    kinds = {parameter.kind for parameter in parameters}
    if cls.__module__.startswith("torch") or POSITIONAL in values or Parameter.VAR_POSITIONAL in kinds:
        return dict(values)
    named = {parameter.name: parameter for parameter in parameters if parameter.kind in NAMED}
    for name in values:
        if name not in named and Parameter.VAR_KEYWORD not in kinds:
            raise no_such_key(path, name, named)
    for name, parameter in named.items():
        if parameter.default is Parameter.empty and name not in values:
            raise ConfigError(f"{path}.{name}: a value is missing")
    try:
        annotated: Any = cls if dataclasses.is_dataclass(cls) else inspect.getattr_static(cls, "__init__")
        hints = typing.get_type_hints(annotated, include_extras=True)
    except (NameError, TypeError):  # names that are imported for type checkers only
        hints = {}
    known = {name: hint for name, hint in hints.items() if name in values and _is_known(hint)}
    return {n: check(f"{path}.{n}", value, known[n]) if n in known else value for n, value in values.items()}


def _is_known(annotation: Any) -> bool:
    """Whether values are checked against that annotation: those of aerun's own classes, which YAML can write."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _is_known(arguments[0])
    if origin in (Union, types.UnionType, list):
        return all(_is_known(argument) for argument in arguments)
    return origin is Literal or annotation in (int, float, bool, str, type(None))


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

    def build(self, parameters: Iterable[nn.Parameter]) -> optim.Optimizer:
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
