"""The check of configuration values against the types and ranges of a dataclass.

Every option of the configuration is a dataclass whose annotations are its schema. Checking them here rejects
``sparsity.k=0`` with a clear message before torch is imported.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import re
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

# Parts of your own may import these from here, as they did before.
from aerun.contracts.values import *  # noqa: F403
from aerun.contracts.values import Range
from aerun.errors import ConfigError, nearest


def construct(cls: type, values: Mapping[str, Any], path: str) -> Any:
    """Build the dataclass ``cls`` from configuration values, each checked against its field's annotation.

    ``path``: of the values in the configuration (``"sparsity"``), with which every message starts. ConfigError for an
    unknown or missing key, a wrong type, a value out of range, and a ValueError in ``__post_init__``.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path}={values}: must be a mapping of keys to values")
    fields, required = _schema(cls)
    prefix = f"{path}." if path else ""
    for name in values:
        if name not in fields:
            raise no_such_key(path, name, fields)
    for name in required:
        if name not in values:
            raise ConfigError(f"{prefix}{name}: a value is missing")
    checked = {name: check(f"{prefix}{name}", value, fields[name]) for name, value in values.items()}
    try:
        return cls(**checked)
    except ValueError as error:
        raise ConfigError(f"{prefix}{error}") from error


@functools.cache
def _schema(cls: type) -> tuple[dict[str, Any], list[str]]:
    """The annotations of a dataclass by field, and the fields without a default."""
    hints, fields = typing.get_type_hints(cls, include_extras=True), dataclasses.fields(cls)
    annotations = {f.name: hints[f.name] for f in fields if f.init and not f.metadata.get("internal")}
    return annotations, [field.name for field in fields if field.init and _has_no_default(field)]


def annotation_of(cls: type, name: str) -> Any:
    """The annotation of a dataclass's field; ``Any`` for another class."""
    return _schema(cls)[0][name] if dataclasses.is_dataclass(cls) else Any


def no_such_key(path: str, name: str, allowed: Iterable[str]) -> ConfigError:
    """The error for the unknown key ``name`` at ``path``, with the nearest allowed key."""
    prefix = f"{path}." if path else ""
    return ConfigError(
        f"{prefix}{name}: there is no such key.{nearest(name, allowed)} "
        f"Allowed in {path or 'the configuration'}: {', '.join(sorted(allowed)) or 'nothing'}"
    )


def _has_no_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def check(key: str, value: Any, annotation: Any) -> Any:
    """``value`` as the annotated type; an int becomes a float if the type is float. ConfigError if it does not
    match."""
    problem = _Problem(key, value)
    return _check(problem, value, annotation)


@dataclass(frozen=True)
class _Problem:
    key: str
    value: Any

    def __call__(self, allowed: str) -> ConfigError:
        return ConfigError(f"{self.key}={_show(self.value)}: must be {allowed}")


def _show(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    looks_like_another_type = isinstance(value, str) and re.fullmatch(r"|null|true|false|-?[\d.]+(e-?\d+)?", value)
    return f"'{value}'" if looks_like_another_type else str(value)


def _check(problem: _Problem, value: Any, annotation: Any) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is Any:
        return value
    if origin is Annotated:
        limits = next((extra for extra in arguments[1:] if isinstance(extra, Range)), None)
        result = _check(problem, value, arguments[0])
        if limits is not None and result not in limits:
            raise problem(f"{_name(annotation)}")
        return result
    if origin is Literal:
        if value not in arguments or isinstance(value, bool):
            raise ConfigError(
                f"{problem.key}={_show(value)}: must be {_name(annotation)}." + nearest(str(value), map(str, arguments))
            )
        return value
    if origin in (Union, types.UnionType):
        return _check_union(problem, value, annotation)
    if origin is list:
        if not isinstance(value, list):
            raise problem(_name(annotation))
        return [_check(problem, item, arguments[0]) for item in value]
    if origin is dict:
        if not isinstance(value, dict):
            raise problem(_name(annotation))
        return value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if annotation is float and is_number:
        return float(value)
    if not isinstance(value, annotation) or (isinstance(value, bool) and annotation is not bool):
        raise problem(_name(annotation))
    return value


def _check_union(problem: _Problem, value: Any, annotation: Any) -> Any:
    for member in get_args(annotation):
        if member is type(None):
            if value is None:
                return None
            continue
        try:
            return _check(problem, value, member)
        except ConfigError:
            continue
    raise problem(_name(annotation))


def _name(annotation: Any) -> str:
    """The annotation in words: ``a whole number, at least 1, or null``."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        limits = [str(extra) for extra in arguments[1:] if isinstance(extra, Range)]
        return ", ".join([_name(arguments[0]), *limits])
    if origin is Literal:
        return ("one of " if len(arguments) > 1 else "") + ", ".join(map(str, arguments))
    if origin in (Union, types.UnionType):
        return ", or ".join(_name(member) for member in arguments)
    if origin is list:
        return "a list in brackets" if arguments[0] is Any else f"a list in brackets, each {_name(arguments[0])}"
    if origin is dict:
        return "options by name"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    return words.get(annotation, str(annotation))


def column_type(annotation: Any) -> type:
    """The type of a table's column with values of that annotation: bool or float if it has no others, else str."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return column_type(arguments[0])
    if origin in (Union, types.UnionType):
        found = {column_type(member) for member in arguments if member is not type(None)}
        return found.pop() if len(found) == 1 else str
    if annotation in (int, float):
        return float
    return bool if annotation is bool else str


def known_class(target: str) -> type | None:
    """One of aerun's dataclasses, by its dotted name; None for any other class, and for one of another version."""
    if not target.startswith("aerun."):
        return None
    try:
        found = locate(target)
    except ConfigError:
        return None
    return found if isinstance(found, type) and dataclasses.is_dataclass(found) else None


def locate(target: str) -> Any:
    """The class or function that a dotted ``_target_`` names. ConfigError if it cannot be imported."""
    module, _, name = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # importing a user's module may raise anything
        reason = " ".join(str(error).split())
        if isinstance(error, ModuleNotFoundError) and error.name == target.partition(".")[0]:
            reason += "; set PYTHONPATH=FOLDER to the folder that contains it"
        elif not isinstance(error, ImportError | AttributeError | ValueError):
            reason = f"{type(error).__name__}: {reason}"
        raise ConfigError(f"_target_={target}: cannot be imported ({reason})") from error
