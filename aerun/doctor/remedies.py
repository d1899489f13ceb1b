"""What to try: an override of keys that the run reads, or plain text if no key helps."""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

from aerun.base.conf import conf_dir
from aerun.config.deferred import DeferredPart
from aerun.config.parse import parse
from aerun.config.settings import GROUPS, REGULARIZER
from aerun.doctor.examination import Examination, Options
from aerun.errors import ConfigError

LOWER_RATE = "a lower learning rate"
OVERRIDE = re.compile(r"[A-Za-z_][\w.]*=\S+")
# Options of groups that verdicts recommend, as in conf/.
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "latent=gaussian": {
        "_target_": "aerun.latent.Gaussian",
        "beta": 1.0,
        **{"warmup_epochs": 0, "cyclical": 0, "free_bits": 0, "capacity": None},
    },
    "loss=mse": {"_target_": "aerun.loss.MSE", "reduction": "mean"},
    "noise=masking": {"_target_": "aerun.noise.Masking", "rate": 0.5, "value": 0.0},
    "regularizer=rae_l2": {
        "rae_l2": {"_target_": "aerun.regularizer.RaeL2", "code_weight": 0.01, "decoder_weight": 0.0001}
    },
    "sparsity=topk": {"_target_": "aerun.sparsity.TopK", "k": 16, "activation": "identity"},
}


def overrides_of(remedy: str) -> tuple[str, ...]:
    """The overrides that a remedy consists of, as they are typed; none for plain text."""
    words = tuple(remedy.split())
    return words if all(OVERRIDE.fullmatch(word) for word in words) else ()


def choose(e: Examination, *candidates: str | None) -> str:
    """The first remedy that is plain text, or whose overrides the run accepts, reads and does not have yet."""
    for candidate in candidates:
        if candidate is not None and (not (words := overrides_of(candidate)) or accepts(e.options, words)):
            return candidate
    return "other settings: none of the usual remedies applies to this run"


def accepts(options: Options, words: Sequence[str]) -> bool:
    """Whether a run accepts these overrides in addition to those that were typed, reads them, and does not have their
    values; True if its configuration is unknown."""
    config = options.config
    if config is None:
        return True
    changed = copy.deepcopy(dict(config))
    typed = [word.partition("=")[0] for word in options.typed]
    if not all(_set(changed, word, typed) for word in words) or changed == config:
        return False
    try:
        parse(changed, overrides=[*typed, *words])
    except ConfigError:
        return not _is_valid(config)  # its data or its classes may be missing here: what exists is accepted
    return True


def _set(config: dict[str, Any], word: str, typed: Sequence[str]) -> bool:
    """Apply an override; False if there is no such key, or if the option lacks a key that was typed."""
    key, _, text = word.partition("=")
    if key in (*GROUPS, REGULARIZER):
        config[key] = dict(OPTIONS[word])
        names = [name.removeprefix(f"{key}.") for name in typed if name.startswith(f"{key}.")]
        return "_target_" not in names and config[key].keys() >= set(names)
    *path, last = key.split(".")
    node: Any = config
    for name in path:
        node = node.get(name) if isinstance(node, Mapping) else None
    if not isinstance(node, dict) or last not in node:
        return False
    node[last] = _value(text)
    return True


def _value(text: str) -> Any:
    """The value of one of our overrides: a list in brackets, a number, null or a name."""
    if text.startswith("["):
        return [_value(item) for item in text[1:-1].split(",") if item]
    for number in (int, float):
        with contextlib.suppress(ValueError):
            return number(text)
    return None if text == "null" else text


def _is_valid(config: Mapping[str, Any]) -> bool:
    try:
        parse(config)
    except ConfigError:
        return False
    return True


def scaled(e: Examination, key: str, factor: float, more_than: float = 0.0) -> str:
    """An override that multiplies the present value by a factor, or text if there is no value."""
    value = e.options.number(key)
    if value is None:
        return f"{key} times {factor:g}"
    if value == int(value) and factor >= 1:
        return f"{key}={int(max(value * factor, more_than))}"
    return f"{key}={two_digits(value * factor)}"


def two_digits(value: float) -> str:
    """The value, rounded to two significant digits."""
    return f"{value:.2g}"


def lower_learning_rate(e: Examination, factor: float = 0.1) -> str | None:
    """An override that lowers the learning rate; None if no key of the run sets it."""
    return scaled(e, "optimizer.lr", factor) if e.options.number("optimizer.lr") else None


def more_nonzeros(e: Examination, share: float) -> str | None:
    """An override that lets four times as many code values be nonzero, or that share of them; None if no key sets the
    number."""
    k, size = e.options.max_nonzeros, e.code_values
    if k is None or size is None or e.options.number("sparsity.k") != k:
        return None
    return f"sparsity.k={min(size, round(max(4 * k, share * size)))}"


def activation_of(e: Examination, key: str) -> str | None:
    """An override for an activation whose units cannot die, if those of the present one can."""
    present = e.options.value(key)
    return f"{key}=leaky_relu" if present in (None, "relu") else None


def longer(e: Examination, factor: int, at_least: int = 0) -> str:
    """An override that makes the run longer by a factor, or lets it continue if it ended before its last epoch."""
    epochs, steps = e.curve.epochs if e.curve is not None else 1, e.options.number("trainer.steps")
    if steps is not None:
        return f"trainer.steps={int(steps) * factor}"
    if (e.options.number("trainer.epochs") or epochs) > epochs and e.options.number("trainer.patience") is not None:
        return "trainer.patience=null"
    return f"trainer.epochs={max(at_least, factor * epochs)}"


def original(e: Examination, *groups: str) -> str | None:
    """An override that replaces the user's own class of a group by the class of aerun that it is derived from, to see
    whether the fault is in its code; None if there is none."""
    if e.options.config is None:
        return None
    try:
        settings = parse(e.options.config)
    except ConfigError:
        return None
    for group in groups:
        part = vars(settings)[group]
        own = part.deferred.cls if isinstance(part, DeferredPart) else type(part)
        prefix = f"aerun.{group}"
        targets = [
            f"{prefix}.{cls.__name__}" for cls in own.__mro__[1:] if f"{cls.__module__}.".startswith(f"{prefix}.")
        ]
        is_own = not f"{own.__module__}.".startswith(f"{prefix}.")
        known = next((target for target in targets if is_own and _is_option(group, target)), None)
        if known is not None:
            return f"{group}._target_={known}"
    return None


def _is_option(group: str, target: str) -> bool:
    """Whether an option of conf/ names this class."""
    return any(f"_target_: {target}\n" in path.read_text() for path in (conf_dir() / group).glob("*.yaml"))
