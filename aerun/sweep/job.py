"""One run of a sweep, as plain data: it travels to whoever computes it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SHARED = ".data"  # a folder in the sweep's: data sets, decoded once for all jobs
STOP = ".stop"  # a file in the sweep's folder: begin nothing, and end what runs as after Ctrl-C
SHOWN, LONGEST, DIGITS = 20, 60, 8  # TensorBoard shows about 20 characters of a run's name


@dataclass(frozen=True)
class Job:
    """A resolved configuration, and the folder for it. ``values`` are the settings that vary over the sweep."""

    name: str
    folder: Path
    config: dict[str, Any]
    choices: dict[str, str]
    overrides: list[str]
    values: dict[str, Any]
    identity: str
    trial: dict[str, Any] | None = field(default=None)  # of a search that prunes: see aerun.sweep.search

    @property
    def label(self) -> str:
        """The varied settings, to be read by a person."""
        varied = " ".join(f"{key}={shown(value)}" for key, value in self.values.items())
        return varied or " ".join(self.overrides) or "the default run"


def shown(value: Any) -> str:
    """A setting's value as it would be typed."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return "[" + ",".join(map(shown, value)) + "]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def names(values: Sequence[Mapping[str, Any]], identities: Sequence[str], taken: Iterable[str] = ()) -> list[str]:
    """A folder name for each job: what varied, then the start of its identity. ``taken`` are those in use.

    The first 20 characters tell them apart, since TensorBoard shows no more. Groups go by their option alone
    (``conv``), other settings by a short key and the value (``k8``, ``lr0.001``); where that is too long, options by
    as many letters as tell them apart, and at last by the identity.
    """
    words = [{key: _word(key, value) for key, value in job.items()} for job in values]
    short = _shortened(words, values)
    used = Counter(name[:SHOWN] for name in taken)
    ends = [digest[:DIGITS] for digest in identities]
    for result in (_named(words, ends), _named(short, ends)):
        starts = used + Counter(name[:SHOWN] for name in result)
        if all(starts[name[:SHOWN]] == 1 for name in result):
            return result
    return [
        name if starts[name[:SHOWN]] == 1 else f"{name[: SHOWN - DIGITS - 1].rstrip('.+-_')}_{end}"
        for name, end in zip(result, ends, strict=True)
    ]


def _named(words: Sequence[Mapping[str, str]], ends: Sequence[str]) -> list[str]:
    labels = ["-".join(job.values()).lstrip(".+-") or "default" for job in words]
    return [f"{label[:LONGEST]}_{end}" for label, end in zip(labels, ends, strict=True)]


def _shortened(words: Sequence[Mapping[str, str]], values: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Options (settings that are text) by their first letters, as many as tell them apart, but two at least."""
    length: dict[str, int] = {}
    for key in {key for job in words for key in job}:
        known = {job[key] for job in words if key in job}
        text = all(isinstance(job[key], str) for job in values if key in job)
        enough = (n for n in range(2, LONGEST) if len({word[:n] for word in known}) == len(known))
        length[key] = next(enough, LONGEST) if text else LONGEST
    return [{key: word[: length[key]] for key, word in job.items()} for job in words]


def _word(key: str, value: Any) -> str:
    leaf = key.lstrip("+").rpartition(".")[2].partition("_")[0]
    text = f"{value:.4g}" if isinstance(value, float) else shown(value)
    word = text if isinstance(value, str) else ("s" if key == "seed" else leaf[:5]) + text
    return re.sub(r"[^\w.+]+", "_", word).strip("_")
