"""The notes below a comparison: how to read its numbers, and what flatters or spoils them."""

from __future__ import annotations

from collections.abc import Sequence

from aerun.compare.comparison import Comparison
from aerun.compare.groups import Group
from aerun.compare.paired import name_some, paired_notes
from aerun.compare.records import Run, Value

MAX_COLLAPSED = 10  # runs that are listed


def table_notes(comparison: Comparison) -> list[str]:
    """One line for each thing to know about the numbers of the table."""
    notes = [comparison.choice] if comparison.choice else []
    if comparison.differing_seeds:
        notes.append("not all rows are means over the same seeds: runs are missing, or have not finished")
    factors = [key for key in comparison.over if key != "seed"]
    if factors and any(len(group.finished) > 1 for group in comparison.groups):
        notes.append(f"intervals treat runs that differ in {', '.join(factors)} as independent draws, like seeds")
    flattered = [f"{group.label} ({count})" for group in comparison.groups if (count := _left_out(group))]
    if flattered:
        notes.append(f"runs that failed are not in the means, which flatters these rows: {name_some(flattered)}")
    notes += paired_notes(comparison.groups)
    if any(group.expected_best for group in comparison.groups):
        notes.append(
            f"best of m: the expected best {comparison.metric} of m runs drawn from those of a row (Dodge et al. "
            f"2019); runs that failed count as the worst"
        )
    if comparison.pareto:
        first, second = comparison.pareto
        notes.append(f"front ●: every row that is better in {first} is worse in {second}, and the reverse")
    ratios = [group.mse_over_pca for group in comparison.groups if group.mse_over_pca is not None]
    if comparison.has_pca and any(ratio < 1 for ratio in ratios):
        notes.append("* lower error than PCA with the same code size")
    copies = sum(sum(run.finished for run in group.runs) - len(group.finished) for group in comparison.groups)
    if copies:
        notes.append(f"not counted: copies of other runs in another folder ({copies})")
    notes += _changed_data([run for group in comparison.groups for run in group.finished])
    notes += [f"collapsed: {run.name}: {reason}" for run, reason in comparison.collapsed[:MAX_COLLAPSED]]
    if len(comparison.collapsed) > MAX_COLLAPSED:
        notes.append(f"collapsed: {len(comparison.collapsed) - MAX_COLLAPSED} more")
    return notes


def _left_out(group: Group) -> int:
    """How many failed runs are left out of a row's means."""
    return sum(run.failed for run in group.runs) if group.finished and not group.single else 0


def _changed_data(runs: Sequence[Run]) -> list[str]:
    """A note for each data set whose data are not the same in all of its runs."""
    first: dict[tuple[tuple[str, Value], ...], Run] = {}
    notes: dict[tuple[tuple[str, Value], ...], str] = {}
    for run in runs:
        settings = run.settings.items()
        key = tuple(sorted(item for item in settings if item[0].partition(".")[0] == "dataset"))
        other = first.setdefault(key, run)
        if None not in (run.data, other.data) and run.data != other.data:
            notes.setdefault(key, f"not comparable: the data changed between {other.name} and {run.name}")
    return list(notes.values())
