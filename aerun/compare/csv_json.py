"""Write a comparison as CSV, one row for each group, and as JSON, with all runs; both in full precision."""

from __future__ import annotations

import json
import math
from typing import Any

from aerun.compare.comparison import Comparison
from aerun.compare.export import rows_to_csv, whole
from aerun.compare.groups import Group
from aerun.compare.records import Run
from aerun.compare.seed_statistics import PairedDifference
from aerun.compare.text_table import build_table


def as_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """One row for each group, all with the same columns: its keys; the mean of each metric, its standard deviation, and
    the ends of its 95 % interval; the number of finished runs (``n``) and of all; the difference from the baseline row
    if there is one; the error relative to PCA, states, verdicts, and the folder of the best run. None: not known."""
    rows = []
    paired = any(group.paired for group in comparison.groups)
    draws = sorted({m for group in comparison.groups for m in group.expected_best})
    for group in comparison.groups:
        row: dict[str, Any] = {key: whole(value) for key, value in group.values.items()}
        for metric in comparison.metrics:
            number = group.statistic(metric)
            low, high = (number and number.interval) or (None, None)
            row |= {metric: number and number.mean, f"{metric} std": number and number.std}
            row |= {f"{metric} low": low, f"{metric} high": high}
        row |= {f"{comparison.metric} best of {m}": group.expected_best.get(m) for m in draws}
        row |= {"front": group.on_front} if comparison.pareto else {}
        best = group.best_run(comparison.metric) or group.runs[0]
        row |= {"n": len(group.finished), "runs": len(group.runs), "mse / PCA": group.mse_over_pca}
        row |= {f"{comparison.reported} difference{name}": v for name, v in difference(group).items()} if paired else {}
        rows.append(row | {"state": group.state, "verdict": group.verdict, "folder": str(best.folder)})
    return rows


def as_csv(comparison: Comparison) -> str:
    """``as_rows``; settings as they are typed on the command line."""
    return rows_to_csv(as_rows(comparison), comparison.keys)


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


def difference(group: Group) -> dict[str, float | str | None]:
    """A group's difference from its baseline: by column, the end of its name; None where there is none."""
    pair = group.paired or PairedDifference("", "", (), (0, 0))
    statistic = pair.statistic
    low, high = (statistic.interval if statistic else None) or (None, None)
    return {
        "": statistic.mean if statistic else None,
        " std": statistic.std if statistic else None,
        " low": low,
        " high": high,
        " pairs": len(pair.differences),
        " d_z": pair.effect_size,
        " p t": pair.p_t,
        " p t Holm": pair.p_t_holm,
        " p Wilcoxon": pair.p_wilcoxon,
        " p Wilcoxon Holm": pair.p_wilcoxon_holm,
        " baseline": pair.baseline or None,
    }


def _group(group: Group, comparison: Comparison) -> dict[str, Any]:
    numbers = {}
    for metric in comparison.metrics:
        number = group.statistic(metric)
        numbers[metric] = number and {
            **{"mean": _finite(number.mean), "std": number.std, "n": number.n},
            "interval": number.interval and list(number.interval),
        }
    named = {name.strip().replace(" ", "_") or "mean": value for name, value in difference(group).items()}
    return {
        "values": dict(group.values),
        "n": len(group.finished),
        "metrics": numbers,
        **({"expected_best": dict(group.expected_best)} if group.expected_best else {}),
        **({"front": group.on_front} if comparison.pareto else {}),
        **({"difference": {"metric": comparison.reported, **named}} if group.paired else {}),
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
