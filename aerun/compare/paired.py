"""Compare rows with a baseline row over the seeds that both have."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Sequence
from dataclasses import replace

from aerun.compare.groups import Group
from aerun.compare.records import Value
from aerun.compare.seed_statistics import MIN_PAIRS, PairedDifference, with_tests
from aerun.compare.selection import language_of, values_of
from aerun.compare.setting_text import format_setting
from aerun.errors import ConfigError, nearest

MAX_NAMED_ROWS = 4  # in a note
ALPHA = 0.05


def pair_with_baseline(
    groups: Sequence[Group], against: Sequence[str], keys: Sequence[str], over: Collection[str], metric: str
) -> list[Group]:
    """The groups with their differences from the row that meets the conditions ``against``, in a metric.

    If several rows meet them, a row's baseline is the one that agrees with it in all other ``keys`` that the baseline
    has. Pairs agree in the keys ``over``. ConfigError for a condition that chooses no row, or a row with more than one
    baseline.
    """
    language = language_of([run for group in groups for run in group.runs], "--against ")
    conditions = [language.parse(text) for text in against]
    free = frozenset[str]().union(*(condition.keys for condition in conditions))
    text = " ".join(f"--against '{each}'" for each in against)
    for name in sorted(free.difference(keys)):
        known = f"rows differ in {', '.join(keys)}" if keys else "there is only one row"
        raise ConfigError(f"{text}: {name} does not choose a row; {known}.{nearest(name, keys)}")
    if any(group.single for group in groups):
        raise ConfigError(f"{text}: compares rows over their seeds; leave out --no-group")
    baselines = [
        group for group in groups if all(each.holds(values_of(run)) for each in conditions for run in group.runs)
    ]
    if not baselines:
        known = "; ".join(f"{name} is {', '.join(_values(name, groups))}" for name in sorted(free))
        raise ConfigError(f"{text}: no row meets this; {known}")
    pairs: dict[int, PairedDifference] = {}
    for index, group in enumerate(groups):
        if group not in baselines and (baseline := _partner(group, baselines, free, text)) is not None:
            pairs[index] = _subtract(group, baseline, over, metric)
    if not pairs:
        raise ConfigError(f"{text}: no other row agrees with {baselines[0].label} in all other keys")
    tested = dict(zip(pairs, with_tests([*pairs.values()]), strict=True))
    return [replace(group, paired=tested.get(index)) for index, group in enumerate(groups)]


def _values(name: str, groups: Sequence[Group]) -> list[str]:
    return sorted({format_setting(group.values.get(name)) for group in groups})


def _partner(group: Group, baselines: Sequence[Group], free: Collection[str], text: str) -> Group | None:
    """The group's baseline: the only one, or the one with the same settings; None if there is none."""
    if len(baselines) == 1:
        return baselines[0]

    def agrees(baseline: Group) -> bool:
        settings = ((key, value) for key, value in baseline.values.items() if key not in free and value is not None)
        return all(group.values.get(key) == value for key, value in settings)

    found = [baseline for baseline in baselines if agrees(baseline)]
    if len(found) > 1:
        names = " and ".join(baseline.label for baseline in found[:2])
        raise ConfigError(f"{text}: {group.label} has {len(found)} baselines, {names}; add a condition")
    return found[0] if found else None


def _subtract(group: Group, baseline: Group, over: Collection[str], metric: str) -> PairedDifference:
    keys = [key for key in over if all(run.settings.get(key) is not None for run in baseline.finished)]
    own, other = (_by_seed(each, keys, metric) for each in (group, baseline))
    differences = tuple(own[seed] - other[seed] for seed in own if seed in other)
    return PairedDifference(metric, baseline.label, differences, (len(group.finished), len(baseline.finished)))


def _by_seed(group: Group, keys: Sequence[str], metric: str) -> dict[tuple[Value | None, ...], float]:
    """The metric for each combination of the keys, averaged if it occurs more than once; finite values only."""
    found: dict[tuple[Value | None, ...], list[float]] = {}
    for run in group.finished:
        if math.isfinite(value := run.numbers.get(metric, math.nan)):
            found.setdefault(tuple(run.settings.get(key) for key in keys), []).append(value)
    return {seed: statistics.fmean(values) for seed, values in found.items()}


def paired_notes(groups: Sequence[Group]) -> list[str]:
    """What the differences are, and which of them to read with care."""
    compared = [(group, group.paired) for group in groups if group.paired is not None]
    if not compared:
        return []
    count = len({group.label for group, _ in compared})
    notes = [
        f"difference: row - baseline in {compared[0][1].metric} over common seeds, with its 95 % interval; p: paired "
        f"t-test and Wilcoxon's signed-rank test, Holm-corrected over {count} row{'s' * (count != 1)}; d_z: mean / "
        f"standard deviation of the differences"
    ]
    names = {"baseline: ": [pair.baseline for _, pair in compared]}
    few, unequal = "fewer than 3 common seeds, too few for a test: ", "the numbers of runs and of pairs differ: "
    names[few] = [group.label for group, pair in compared if len(pair.differences) < MIN_PAIRS]
    names[unequal] = [
        f"{group.label} ({len(pair.differences)} pairs, {pair.runs[0]} and {pair.runs[1]} runs)"
        for group, pair in compared
        if {len(pair.differences)} != set(pair.runs)
    ]
    baselines = {pair.baseline for _, pair in compared}
    names["no baseline with the same other keys: "] = [
        group.label for group in groups if group.paired is None and group.label not in baselines
    ]
    notes += [text + name_some(rows) for text, rows in names.items() if rows]
    sizes = [len(pair.differences) for _, pair in compared if pair.p_wilcoxon is not None]
    if sizes and (least := 2 / 2 ** min(sizes)) > ALPHA:
        notes.append(f"Wilcoxon's p cannot be below {least:g} with {min(sizes)} common seeds, before correction")
    return notes


def name_some(names: Sequence[str]) -> str:
    """The first few distinct names, and how many more there are."""
    distinct = list(dict.fromkeys(names))
    more = f" and {len(distinct) - MAX_NAMED_ROWS} more" if len(distinct) > MAX_NAMED_ROWS else ""
    return "; ".join(distinct[:MAX_NAMED_ROWS]) + more
