"""A tracker: one line of a common file for each finished run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aerun.contracts import TrackedRun, Tracker


@dataclass(eq=False)
class SharedTable(Tracker):
    """Appends the name, the sweep, the typed settings and ``metric`` of every finished run to ``file``."""

    file: str
    metric: str

    def open(self, run: TrackedRun) -> None:
        typed = {key: run.settings[key] for key in sorted(run.typed) if key in run.settings}
        self.line = {"run": run.name, "sweep": run.sweep, **typed}

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        if self.metric in values:
            self.line[self.metric] = values[self.metric]  # the last one counts

    def finish(self) -> None:
        with Path(self.file).open("a") as file:
            file.write(json.dumps(self.line) + "\n")
