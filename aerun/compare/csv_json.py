"""Write a comparison as CSV, one row for each group, and as JSON, with all runs; both in full precision."""

from __future__ import annotations

import json
import math
from typing import Any

from aerun.base.files import format_csv
from aerun.compare.comparison import Comparison
from aerun.compare.groups import Group
from aerun.compare.records import Run, Value
from aerun.compare.selection import format_setting
from aerun.compare.text_table import build_table


def as_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """One row for each group: its keys, the mean and standard deviation of each metric, the number of finished runs
    (``n``) and of all, the error relative to PCA, states, verdicts, and the folder of the best run. None: not known."""
    rows = []
    for group in comparison.groups:
        row: dict[str, Any] = {key: _whole(value) for key, value in group.values.items()}
        for metric in comparison.metrics:
            number = group.statistic(metric)
            row |= {metric: number and number.mean, f"{metric} std": number and number.std}
        best = group.best_run(comparison.metric) or group.runs[0]
        row |= {"n": len(group.finished), "runs": len(group.runs), "mse / PCA": group.mse_over_pca}
        rows.append(row | {"state": group.state, "verdict": group.verdict, "folder": str(best.folder)})
    return rows


def as_csv(comparison: Comparison) -> str:
    """``as_rows``; settings as they are typed on the command line."""
    heads = [*comparison.keys, *(part for metric in comparison.metrics for part in (metric, f"{metric} std"))]
    heads += ["n", "runs", "mse / PCA", "state", "verdict", "folder"]
    rows: list[list[Any]] = [heads]
    for group, row in zip(comparison.groups, as_rows(comparison), strict=True):
        settings = {key: format_setting(value) for key, value in group.values.items() if value is not None}
        numbers = {name: repr(value) for name, value in row.items() if isinstance(value, float)}
        rows.append([(row | numbers | settings)[name] for name in heads])
    return format_csv(rows)


def as_json(comparison: Comparison) -> str:
    """Everything, with all runs of each group; numbers that are not finite are null."""
    content = {
        "runs": len(comparison.runs),
        "states": comparison.states,
        "keys": comparison.keys,
        "over": comparison.over,
        "metrics": comparison.metrics,
        "notes": build_table(comparison).notes,
        "groups": [_group(group, comparison) for group in comparison.groups],
        "baselines": [
            {"name": baseline.name, **{metric: _range(*numbers) for metric, numbers in baseline.numbers.items()}}
            for baseline in comparison.baselines
        ],
        "collapsed": [{"run": run.name, "reason": reason} for run, reason in comparison.collapsed],
        "failures": [
            {
                "state": failure.runs[0].state,
                "cause": failure.text,
                "runs": [{"folder": str(run.folder), "overrides": list(run.overrides)} for run in failure.runs],
            }
            for failure in comparison.failures
        ],
    }
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def _whole(value: Value | None) -> Value | int | None:
    """A number without a fraction as an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _group(group: Group, comparison: Comparison) -> dict[str, Any]:
    numbers = {}
    for metric in comparison.metrics:
        number = group.statistic(metric)
        numbers[metric] = number and {"mean": _finite(number.mean), "std": number.std, "n": number.n}
    return {
        "values": dict(group.values),
        "n": len(group.finished),
        "metrics": numbers,
        "mse / PCA": _finite(group.mse_over_pca),
        "state": group.state,
        "verdict": group.verdict,
        "runs": [_run(run, comparison) for run in group.runs],
    }


def _run(run: Run, comparison: Comparison) -> dict[str, Any]:
    return {
        "name": run.name,
        "folder": str(run.folder),
        "state": run.state,
        "collapsed": run.collapse is not None,
        "verdicts": list(run.verdicts),
        "error": run.error,
        "overrides": list(run.overrides),
        "values": {key: run.settings.get(key) for key in [*comparison.keys, *comparison.over]},
        "metrics": {metric: _finite(run.numbers.get(metric)) for metric in comparison.metrics},
    }


def _range(low: float, high: float) -> float | list[float | None] | None:
    return _finite(low) if low == high else [_finite(low), _finite(high)]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
