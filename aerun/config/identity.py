"""Whether two configurations describe the same run, and in which keys they differ."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from aerun.config.schema import known_class
from aerun.config.settings import RunKeys

# Keys that change neither the weights of a run nor what it measures by itself, and what they do instead. Those below
# them are included. A key or group that is declared here is not part of the identity of a run.
IGNORED_KEYS: Mapping[str, str] = {
    "resume": "names the folder of the run",
    "sweep": "says how many runs are run together",
    "trusted_packages": "allows classes",
    "checkpoint": "says how often the run is saved",
    "tracker": "says where curves and pictures are shown",
    "protocol": "evaluates the trained model; a finished run is evaluated by added protocols",
    "trainer.threads": "divides the work",
    "trainer.log_every_steps": "says how often curves are logged",
    "trainer.pictures": "says how often pictures are logged",
    "trainer.figures": "says which pictures are kept",
    "trainer.tsne": "adds a picture",
}
DEVICE = ("trainer", "device")  # counts by its kind, without its number
# Keys that were added later, with the values that have no effect. They are ignored, so that older sweeps can be
# continued. A key of one of aerun's classes needs no entry if the default of its field has no effect.
LATER_KEYS: Mapping[str, Mapping[str, Any]] = {"dataset": {"flip": False, "zoom": 0.0}, "trainer": {"monitor": "loss"}}

KeyPath = tuple[str, ...]


def identity(config: Mapping[str, Any], counted: Collection[str] = ()) -> str:
    """A digest of the resolved configuration, equal for equal runs, however they were typed.

    ``counted``: keys that count although they are in IGNORED_KEYS, because a sweep varies them.
    """
    content = sorted(_content(config, counted).items())
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def identities(config: Mapping[str, Any], device: Any, counted: Collection[str] = ()) -> list[str]:
    """The digests by which a run is found that was trained on ``device``, such as ``cuda:0``, if that is recorded.

    They are those of its configuration, and of the same one with this device or with one that is chosen automatically.
    """
    trainer = config["trainer"]
    devices = [trainer.get("device"), *([device] if isinstance(device, str) else []), "auto"]
    return [identity({**config, "trainer": {**trainer, "device": name}}, counted) for name in dict.fromkeys(devices)]


def differing_keys(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """The dotted keys by which two configurations describe different runs."""
    one, other = _content(first), _content(second)
    return [".".join(path) for path in dict.fromkeys((*one, *other)) if one.get(path) != other.get(path)]


def is_same_part(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether two nodes of a group describe the same part; a key that one of them lacks has its default there."""
    one, other = (dict(_leaves({"part": node}, (), {})) for node in (first, second))
    return one == other


def _content(config: Mapping[str, Any], counted: Collection[str] = ()) -> dict[KeyPath, str]:
    """What decides the result of a run: its values as JSON by key, without ignored keys and those without effect."""
    ignored = [key for key in IGNORED_KEYS if not any(f"{name}.".startswith(f"{key}.") for name in counted)]
    return {
        path: text.partition(":")[0].strip('"') if path == DEVICE else text
        for path, text in _leaves(config, (), _field_defaults(RunKeys))
        if not f"{'.'.join(path)}.".startswith(tuple(f"{key}." for key in ignored))
    }


def _leaves(node: Mapping[str, Any], path: KeyPath, defaults: Mapping[str, str]) -> Iterator[tuple[KeyPath, str]]:
    """The values that are not mappings, without those that equal ``defaults``. A group without options has none."""
    for key, value in node.items():
        inner = (*path, str(key))
        if isinstance(value, Mapping) and (value or not path):
            later = {name: _as_json(item) for name, item in LATER_KEYS.get(".".join(inner), {}).items()}
            yield from _leaves(value, inner, later | _class_defaults(str(value.get("_target_"))))
        elif (text := _as_json(value)) != defaults.get(key):
            yield inner, text


@functools.cache
def _class_defaults(target: str) -> dict[str, str]:
    """The defaults of one of aerun's classes. An older configuration, which lacks the key, has them too."""
    return _field_defaults(known_class(target))


def _field_defaults(cls: Any) -> dict[str, str]:
    """The defaults of a dataclass as JSON, by field."""
    defaults = {}
    for field in dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ():
        if field.default is not dataclasses.MISSING:
            defaults[field.name] = _as_json(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            defaults[field.name] = _as_json(field.default_factory())
    return defaults


def _as_json(value: Any) -> str:
    return json.dumps(_canonical(value), sort_keys=True, default=repr)


def _canonical(value: Any) -> Any:
    """The value with whole numbers as integers: a learning rate of 1.0 equals one of 1."""
    if isinstance(value, Mapping):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
