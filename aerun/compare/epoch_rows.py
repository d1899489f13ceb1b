"""The numbers of each epoch of each run, with what an epoch can be measured by: steps, images and seconds."""

from __future__ import annotations

import logging
import math
from typing import Any

from aerun.compare.comparison import Comparison
from aerun.compare.export import rows_to_csv, whole
from aerun.compare.records import Run
from aerun.errors import DataError
from aerun.runs.folder import read_environment

log = logging.getLogger(__name__)
SPEED = "train/images_per_second"


def clocked_lines(run: Run) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl with ``images`` and ``seconds`` of training since the start of the run; without them
    where the folder does not tell the size of the data.

    Every epoch takes each training image once, and seconds are those of the steps, without evaluation.
    """
    size, batch = _training_images(run), run.settings.get("trainer.batch_size")
    if not size or not isinstance(batch, float) or batch < 1:
        return run.lines
    steps_per_epoch = math.ceil(size / batch)
    lines, images, seconds = [], 0.0, 0.0
    for line in run.lines:
        epochs, steps = divmod(line["step"], steps_per_epoch)
        before, images = images, epochs * size + steps * batch
        speed = line.get(SPEED)
        seconds = seconds + (images - before) / speed if speed else math.nan
        lines.append({**line, "images": int(images), **({} if math.isnan(seconds) else {"seconds": seconds})})
    return lines


def _training_images(run: Run) -> int | None:
    """The number of training images; None if it is not known."""
    try:
        counts = read_environment(run.folder).get("dataset", {}).get("images", {})
    except DataError as error:
        log.warning("%s", error)
        return None
    count: int | None = counts.get("train")
    return count


def epoch_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """One row for each epoch of each run, all with the same columns: the run's name, folder, state and varied keys;
    ``epoch``, ``step``, ``images``, ``seconds``; ``kept``, whether the run keeps the weights of this epoch; and all
    numbers. None: not known."""
    keys = [*comparison.keys, *comparison.over]
    rows: list[dict[str, Any]] = []
    for run in comparison.runs:
        about: dict[str, Any] = {"run": run.name, "folder": str(run.folder), "state": run.state}
        about |= {key: whole(run.settings.get(key)) for key in keys}
        best = run.numbers.get("best_epoch") if run.finished else None
        for line in clocked_lines(run):
            clock = {name: line.get(name) for name in ("epoch", "step", "images", "seconds")}
            rows.append(about | clock | {"kept": line["epoch"] == best} | line)
    names = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name) for name in names} for row in rows]


def epochs_to_csv(comparison: Comparison) -> str:
    """``epoch_rows``; settings as they are typed on the command line."""
    return rows_to_csv(epoch_rows(comparison), [*comparison.keys, *comparison.over])
