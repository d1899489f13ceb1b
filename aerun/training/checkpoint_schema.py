"""What the JSON in the header of a checkpoint contains: the progress of the run, and the optimizer's plain values."""

from __future__ import annotations

from typing import Any

from aerun.base.typed import (
    MAPPING,
    NUMBER,
    POSITIVE_NUMBER,
    TEXT,
    TRUTH,
    Check,
    list_of,
    mapping_of,
    or_null,
    record,
    whole,
)

MOST = 2**53  # epochs, steps and images; counts above it are not exact as floats

PARTIAL_SCHEMA: Check = record(
    {
        "names": list_of(TEXT),
        "rows": list_of(list_of(NUMBER)),
        "sizes": list_of(whole(1, MOST)),
        "logged": whole(0, MOST),
        "moves": list_of(NUMBER),
        "last_step": whole(-1, MOST),
        "last_values": mapping_of(NUMBER),
    }
)
PROGRESS: dict[str, Check] = {
    **{key: whole(0, MOST) for key in ("epoch", "step", "waited", "train_images", "stage_epoch", "stage_step")},
    "stage": whole(0, 10_000),
    "best_epoch": or_null(whole(0, MOST)),
    **{key: or_null(NUMBER) for key in ("best_loss", "mark")},
    **dict.fromkeys(("ended", "stopped"), TRUTH),
    **dict.fromkeys(("train_seconds", "compile_seconds", "wall_seconds"), POSITIVE_NUMBER),
    "scheduler": MAPPING,
    "partial": PARTIAL_SCHEMA,
}
HEADER_SCHEMA: Check = record(
    {
        "progress": record(PROGRESS, ["epoch", "step"]),
        "optimizer": record({"groups": list_of(MAPPING), "state": mapping_of(MAPPING)}, ["groups", "state"]),
    },
    required=["progress", "optimizer"],
)


def check_header(about: Any) -> None:
    """ValueError, which names the key, unless the header has the schema and its parts fit together."""
    HEADER_SCHEMA("", about)
    unknown = about["progress"].keys() - PROGRESS
    if unknown:
        raise ValueError(f"progress.{min(unknown)}: is not known")
    partial = about["progress"].get("partial", {})
    names, rows, sizes = (partial.get(key, []) for key in ("names", "rows", "sizes"))
    if len(rows) != len(sizes) or any(len(row) != len(names) for row in rows):
        raise ValueError("progress.partial: its rows, sizes and names do not fit together")
    if partial.get("logged", 0) > len(rows):
        raise ValueError("progress.partial.logged: is more than its rows")
