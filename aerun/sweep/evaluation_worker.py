"""Evaluate one finished run in a worker process. What came of it is in a file; a failure does not raise."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aerun.base.files import write_text
from aerun.base.speed import release_freed_memory
from aerun.config.explain import explain
from aerun.runs.reopen import reevaluate
from aerun.sweep.evaluation import AGREES, DIFFERS, FAILED, outcome_path
from aerun.sweep.job import Job


def evaluate_run(job: Job, scratch: Path, parent: int | None = None, more_signals: Sequence[str] = ()) -> None:
    """Evaluate the run in the job's folder; the job's configuration has the options of ``reevaluate``.

    ``parent`` and ``more_signals``: as for ``run_job``; an evaluation may be killed at any time.
    """
    try:
        state, text = _describe(reevaluate(job.folder, **job.config))
    except Exception as error:
        state, text = FAILED, explain(error) or f"{type(error).__name__}: {' '.join(str(error).split())}"
    finally:
        release_freed_memory()
    write_text(outcome_path(scratch, job), json.dumps({"state": state, "text": text}) + "\n")


def _describe(summary: Mapping[str, Any]) -> tuple[str, str]:
    """Whether the numbers are those of the summary, and the numbers in one line."""
    further = [f"{name} {value:.6g}" for numbers in summary["further"].values() for name, value in numbers.items()]
    numbers = "; ".join([f"test MSE {summary['test']['mse']:.6f}", *further])
    if summary["unanswered"]:
        reasons = "; ".join(f"protocol.{name}: {reason}" for name, reason in summary["unanswered"].items())
        return FAILED, f"{numbers}; {reasons}"
    if summary["differs_from_summary"]:
        return DIFFERS, f"{numbers}; differs in {', '.join(summary['differs_from_summary'])}"
    return AGREES, numbers
