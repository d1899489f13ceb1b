"""One run of a sweep as plain data, which is sent to the process that computes it."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aerun.sweep.remote import RUN_JOB

STOP_FILE = "stop"  # file in a launcher's place: start no jobs, and stop running ones as Ctrl-C does
SHOWN_LENGTH = 24  # characters of a run's name that TensorBoard shows
MAX_LENGTH, HASH_DIGITS = 60, 8  # of a folder's name: without its hash, and of the hash
# How long a seed and an option may be, from the most readable on: the first that makes names distinct is used.
LENGTHS = (("seed", MAX_LENGTH), ("s", MAX_LENGTH), ("s", 6), ("s", 4), ("s", 2))
NAMED_ALWAYS = ("model", "sparsity", "noise")  # groups whose options are in the name of a run
NAMED_IF_TYPED = ("loss", "latent", "optimizer", "scheduler", "trainer", "dataset")
NAMED_KEYS = ("model", "sparsity", "noise", "loss", "latent", "optimizer", "scheduler", "seed")  # if typed, and numbers
NUMBER = re.compile(r"[-+]?[\d.]+(e[-+]?\d+)?|true|false", re.IGNORECASE)


@dataclass(frozen=True)
class Job:
    """A resolved configuration and its run folder. ``values`` are the settings that vary over the sweep.

    ``worker``: the dotted name of the function that a launcher calls with the job in a worker process.
    """

    name: str
    folder: Path
    config: dict[str, Any]
    choices: dict[str, str]
    overrides: list[str]
    values: dict[str, Any]
    identity: str
    trial: dict[str, Any] | None = field(default=None)  # for pruning: see aerun.sweep.optuna_search
    worker: str = RUN_JOB

    @property
    def label(self) -> str:
        """The varied settings, for people to read."""
        varied = " ".join(f"{key}={format_value(value)}" for key, value in self.values.items())
        return varied or " ".join(self.overrides) or "the default run"


def shared_data_path(place: Path, dataset: Mapping[str, Any]) -> Path:
    """The file of a launcher's decoded copy of a data set, by the hash of its settings."""
    digest = hashlib.sha256(json.dumps(dataset, sort_keys=True).encode()).hexdigest()[:16]
    return place / f"{digest}.safetensors"


def format_value(value: Any) -> str:
    """A value as it is typed on the command line."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return "[" + ",".join(map(format_value, value)) + "]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def name_jobs(values: Sequence[Mapping[str, Any]], identities: Sequence[str], taken: Iterable[str] = ()) -> list[str]:
    """A folder name for each job: its varied settings, then the start of its identity. ``taken`` names are in use.

    Names differ within their first 24 characters, because TensorBoard shows no more. Options are written by themselves
    (``conv``), except ``none``, which is left out; other settings as a short key and the value (``k8``, ``lr0.001``).
    If that is too long, options are abbreviated to distinct beginnings, as little as necessary; if it still is, the
    identity replaces the end of the name.
    """
    used = Counter(name[:SHOWN_LENGTH] for name in taken)
    ends = [digest[:HASH_DIGITS] for digest in identities]
    for seed, length in LENGTHS:
        words = [_words(job, seed) for job in values]
        result = _join_words(_abbreviate_options(words, values, length), ends)
        starts = used + Counter(name[:SHOWN_LENGTH] for name in result)
        if all(starts[name[:SHOWN_LENGTH]] == 1 for name in result):
            return result
    return [
        name if starts[name[:SHOWN_LENGTH]] == 1 else f"{name[: SHOWN_LENGTH - HASH_DIGITS - 1].rstrip('.+-_')}_{end}"
        for name, end in zip(result, ends, strict=True)
    ]


def _join_words(words: Sequence[Mapping[str, str]], ends: Sequence[str]) -> list[str]:
    labels = ["-".join(job.values()).lstrip(".+-") or "default" for job in words]
    return [f"{label[:MAX_LENGTH]}_{end}" for label, end in zip(labels, ends, strict=True)]


def _abbreviate_options(
    words: Sequence[Mapping[str, str]], values: Sequence[Mapping[str, Any]], least: int
) -> list[dict[str, str]]:
    """Shorten options (settings that are text) to their first letters: as many as make them distinct, at least
    ``least``."""
    length: dict[str, int] = {}
    for key in {key for job in words for key in job}:
        known = {job[key] for job in words if key in job}
        is_text = all(isinstance(job[key], str) for job in values if key in job)
        enough = (n for n in range(least, MAX_LENGTH) if len({word[:n] for word in known}) == len(known))
        length[key] = next(enough, MAX_LENGTH) if is_text else MAX_LENGTH
    return [{key: word[: length[key]] for key, word in job.items()} for job in words]


def label_run(choices: Mapping[str, str], overrides: Iterable[str]) -> str:
    """The name of a run's folder, without the time: its model, sparsity and noise, other options that were typed, and
    typed numbers of these groups."""
    words = {group: choices[group] for group in NAMED_ALWAYS if choices.get(group) not in (None, "none")}
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if key in NAMED_IF_TYPED and choices.get(key) == value != "none":
            words[key] = value
        elif key.partition(".")[0] in NAMED_KEYS and NUMBER.fullmatch(value):
            words[key] = _key_word(key, "seed") + value
    return re.sub(r"[^\w.+-]+", "_", "-".join(words.values()))[:MAX_LENGTH].rstrip("-_.")


def _words(job: Mapping[str, Any], seed: str) -> dict[str, str]:
    """The settings of a job as parts of its name, without options that are ``none`` if others are left."""
    some = {key: value for key, value in job.items() if value != "none"}
    return {key: _word(key, value, seed) for key, value in (some or job).items()}


def _key_word(key: str, seed: str) -> str:
    return seed if key == "seed" else key.lstrip("+").rpartition(".")[2].partition("_")[0][:5]


def _word(key: str, value: Any, seed: str) -> str:
    """A setting as part of a name."""
    text = f"{value:.4g}" if isinstance(value, float) else format_value(value)
    word = text if isinstance(value, str) else _key_word(key, seed) + text
    return re.sub(r"[^\w.+]+", "_", word).strip("_")
