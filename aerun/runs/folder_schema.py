"""What the files of a run folder contain: one schema for each. Keys that a schema does not name may have any value."""

from __future__ import annotations

import math
import re
from typing import Any

from aerun.base.typed import (
    LARGEST,
    MAPPING,
    NUMBER,
    POSITIVE_NUMBER,
    TEXT,
    TRUTH,
    Check,
    all_of,
    is_number,
    list_of,
    mapping_of,
    must_be,
    or_null,
    record,
    whole,
)
from aerun.config.settings import GROUPS, SEVERAL

MAX_IMAGE_VALUES = 2**30  # of one image
MAX_STAGES = 10_000
BAD_NAMES = re.compile(r"\.{0,2}|.*[/\\\0].*", re.DOTALL)  # of a folder below another
JOB_NAMES = must_be("jobs by the names of their folders", lambda jobs: not any(map(BAD_NAMES.fullmatch, jobs)))

CONFIG_SCHEMA: Check = record(
    {
        **dict.fromkeys(GROUPS, MAPPING),
        **{group: or_null(MAPPING) for group in SEVERAL},
        "checkpoint": MAPPING,
        "trainer": record({"_target_": TEXT, "epochs": or_null(NUMBER), "device": or_null(TEXT)}),
    },
    required=["trainer"],
)
OVERRIDES_SCHEMA: Check = record(
    {"overrides": list_of(TEXT), "choices": mapping_of(or_null(TEXT))}, required=["overrides", "choices"]
)
STATUS_SCHEMA: Check = record(
    {
        "state": TEXT,
        **{key: or_null(TEXT) for key in ("error", "traceback", "host", "began", "time")},
        "process": or_null(whole()),
    },
    required=["state"],
)
SUMMARY_SCHEMA: Check = record(
    {
        "test": all_of(record({}, required=["mse"]), mapping_of(NUMBER)),
        "baselines": mapping_of(NUMBER),
        **{key: whole() for key in ("epochs", "steps", "parameters")},
        "code_size": whole(1),
        "best_epoch": or_null(whole()),
        "best_loss": or_null(NUMBER),
        **dict.fromkeys(("monitored", "dataset_checksum"), TEXT),
        **dict.fromkeys(("train_seconds", "compile_seconds", "wall_seconds"), POSITIVE_NUMBER),
        "images_per_second": or_null(POSITIVE_NUMBER),
        "precision_difference": mapping_of(NUMBER),
        "protocols": mapping_of(list_of(TEXT)),
        "unanswered": mapping_of(TEXT),
        "measured": list_of(TEXT),
        "verdicts": list_of(TEXT),
        "metrics": mapping_of(record({"higher_is_better": TRUTH, "unit": or_null(TEXT)}, ["higher_is_better"])),
    },
    required=["epochs", "steps", "test", "baselines"],
)


def _check_shape(key: str, value: Any) -> None:
    list_of(whole(1), 1, 8)(key, value)
    if math.prod(value) > MAX_IMAGE_VALUES:
        raise ValueError(f"{key}={value}: must have at most {MAX_IMAGE_VALUES:,} values")


ENVIRONMENT_SCHEMA: Check = record(
    {
        "device": or_null(TEXT),
        "versions": mapping_of(or_null(TEXT)),
        "dataset": record(
            {
                "checksum": TEXT,
                "in_unit_range": TRUTH,
                "classes": whole(1),
                "images": mapping_of(whole()),
                "input_shape": _check_shape,
                "output_shape": _check_shape,
            },
            required=["checksum", "input_shape", "output_shape"],
        ),
        "declared": record(
            {
                "penalty": or_null(TEXT),
                "max_nonzeros": or_null(whole()),
                **dict.fromkeys(("constrained", "denser_in_evaluation", "coupled_decay"), TRUTH),
            }
        ),
    }
)
SWEEP_SCHEMA: Check = record(
    {
        "name": TEXT,
        "command": list_of(TEXT),
        "jobs": all_of(
            mapping_of(
                record({"overrides": list_of(TEXT), "values": MAPPING, "hash": TEXT}, ["overrides", "values", "hash"])
            ),
            JOB_NAMES,
        ),
        "defaults": mapping_of(TEXT),
    },
    required=["name", "command", "jobs"],
)


def is_metrics_line(line: Any) -> bool:
    """Whether a line of metrics.jsonl has an epoch, a step, and nothing but numbers."""
    return (
        isinstance(line, dict)
        and all(type(line.get(key)) is int and 0 <= line[key] <= LARGEST for key in ("epoch", "step"))
        and ("stage" not in line or (type(line["stage"]) is int and 1 <= line["stage"] <= MAX_STAGES))
        and all(map(is_number, line.values()))
    )
