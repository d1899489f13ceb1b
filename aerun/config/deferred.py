"""Modules that a configuration names by ``_target_``. They are built after the seed is set, not while it is parsed.

So the same seed gives the same weights in every launcher, independent of what was parsed or imported before.
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
    """A class and its arguments, at ``path`` of the configuration, where it is named ``target``.

    Positional arguments are a list under ``_args_``, as in Hydra: {_target_: torch.nn.Sequential, _args_: [...]}.
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
        """An object of the class; objects in its arguments are built first. ConfigError for arguments that it
        rejects."""
        named = {key: _construct_nested(value) for key, value in self.arguments.items()}
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
    """A part that is a module, or has one as an argument. Before it is built, it has the attributes of its class and
    its arguments, and counts as an instance of its class, so that methods may call ``super()``."""

    def __init__(self, deferred: Deferred) -> None:
        self.deferred = deferred

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return self.deferred.cls

    def build(self, *shapes: Any) -> Any:
        """Construct the part, and call its ``build``, if it has one, with the arguments of its group's ``build``."""
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
        is_descriptor = inspect.ismethoddescriptor(value) or inspect.isdatadescriptor(value)
        return value.__get__(self, type(self)) if is_descriptor else value

    def _default(self, name: str) -> Any:
        """The default of an argument."""
        argument = inspect.signature(self.deferred.cls).parameters.get(name)
        if argument is None or argument.default is Parameter.empty:
            raise AttributeError(f"{self.deferred.target} does not have {name} before it is built")
        return argument.default


def built(part: Any) -> Any:
    """The part itself or, for a deferred part whose ``build`` takes no shapes, the object that it builds."""
    return part.build() if isinstance(part, DeferredPart) else part


def check_arguments(cls: type, values: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Check the arguments of a user's class: names by its signature, values by annotations of known types.

    Positional arguments (``_args_``) and torch's classes are not checked here; the call rejects what is wrong.
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
    except (NameError, TypeError):  # names that are imported only for type checkers
        hints = {}
    known = {name: hint for name, hint in hints.items() if name in values and _is_known(hint)}
    return {n: check(f"{path}.{n}", value, known[n]) if n in known else value for n, value in values.items()}


def _is_known(annotation: Any) -> bool:
    """Whether values are checked against the annotation: it consists of the types that YAML can contain."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _is_known(arguments[0])
    if origin in (Union, types.UnionType, list):
        return all(_is_known(argument) for argument in arguments)
    return origin is Literal or annotation in (int, float, bool, str, type(None))


def is_module(cls: type) -> bool:
    """Whether a class is a subclass of ``torch.nn.Module``."""
    torch = sys.modules.get("torch")  # a module's class has imported it
    return torch is not None and issubclass(cls, torch.nn.Module)


def _construct_nested(value: Any) -> Any:
    if isinstance(value, Deferred):
        return value.construct()
    if isinstance(value, Mapping):
        return {key: _construct_nested(item) for key, item in value.items()}
    return [_construct_nested(item) for item in value] if isinstance(value, list) else value


class FromTorch(Optimizer):
    """An optimizer class of torch or of the user, named by ``_target_``; keys are its arguments."""

    def __init__(self, cls: type[optim.Optimizer], arguments: dict[str, Any]) -> None:
        self.cls, self.arguments = cls, arguments
        self.lr: float | None = arguments.get("lr")

    def build(self, parameters: Iterable[nn.Parameter]) -> optim.Optimizer:
        """ConfigError for arguments that the class rejects."""
        try:
            return self.cls(parameters, **self.arguments)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ConfigError(f"optimizer: {error}") from error

    @property
    def couples_weight_decay(self) -> bool:
        return couples_weight_decay(self.cls, self.arguments)


def couples_weight_decay(cls: type[optim.Optimizer], arguments: Mapping[str, Any]) -> bool:
    """``Optimizer.couples_weight_decay`` for a torch class or a subclass with these arguments."""
    from torch import optim

    scaling = (optim.Adam, optim.NAdam, optim.RMSprop, optim.Adagrad, optim.Adadelta)
    decoupled = arguments.get("decoupled_weight_decay", issubclass(cls, optim.AdamW))
    return issubclass(cls, scaling) and not decoupled
