"""Write a comparison as CSV, one row for each group, and as JSON, with all runs; both in full precision."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import Any

from aerun.compare.comparison import Comparison
from aerun.compare.groups import Group
from aerun.compare.records import Run
from aerun.compare.selection import format_setting


def as_csv(comparison: Comparison) -> str:
    """One row for each group: its keys, the mean and standard deviation of each metric, and the number of runs."""
    heads = [*comparison.keys, *(part for metric in comparison.metrics for part in (metric, f"{metric} std"))]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*heads, "n", "runs", "mse / PCA", "state", "verdict", "folder"])
    for group in comparison.groups:
        row = ["" if value is None else format_setting(value) for value in group.values.values()]
        for metric in comparison.metrics:
            number = group.statistic(metric)
            row += ["", ""] if number is None else [repr(number.mean), "" if number.std is None else repr(number.std)]
        best = group.best_run(comparison.metric) or group.runs[0]
        ratio = "" if group.mse_over_pca is None else repr(group.mse_over_pca)
        row += [str(len(group.finished)), str(len(group.runs)), ratio, group.state, group.verdict, str(best.folder)]
        writer.writerow(row)
    return text.getvalue()


def as_json(comparison: Comparison) -> str:
    """Everything, with all runs of each group; numbers that are not finite are null."""
    content = {
        "runs": len(comparison.runs),
        "states": comparison.states,
        "keys": comparison.keys,
        "over": comparison.over,
        "metrics": comparison.metrics,
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
