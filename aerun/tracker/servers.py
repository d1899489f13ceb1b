"""MLflow, Weights & Biases and Trackio. Their packages are extras, imported when a run is sent."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from aerun.contracts import NonNegative, TrackedRun
from aerun.tracker.remote import Remote
from aerun.tracker.rows import Row

DEFAULT_GROUP = "aerun"  # of runs that belong to no sweep
MAX_TEXT = 6000  # characters of an MLflow parameter
PARAMETERS_AT_ONCE = 100
COMPLETE = "aerun.settings_complete"  # a tag: the run has all its parameters
# Of MLflow's client. With its own 120 seconds and 7 retries an error takes many minutes; what fails is sent again.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


@dataclass(eq=False)
class MLflow(Remote):
    """Runs of an MLflow server, in the experiment of their sweep.

    ``uri``: of the server; null: as MLFLOW_TRACKING_URI says. ``experiment``: null: the sweep's name, or ``aerun``.
    """

    uri: str | None
    experiment: str | None
    wait_seconds: NonNegative

    service = "mlflow"
    rows_at_once = 500

    def connect(self, run: TrackedRun, key: str) -> None:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow.entities import Param, RunTag
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(tracking_uri=self.uri)
        experiment = self._experiment(self.experiment or run.sweep or DEFAULT_GROUP)
        known = self._client.search_runs([experiment], f"tags.`aerun.key` = '{key}'", max_results=1)
        if known:
            self._id = known[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
        else:
            tags = {"aerun.key": key, "aerun.folder": str(run.folder), "aerun.sweep": run.sweep or ""}
            self._id = self._client.create_run(experiment, run_name=run.name, tags=tags).info.run_id
        if known and COMPLETE in known[0].data.tags:
            return
        params = [Param(name, _text(value)[:MAX_TEXT]) for name, value in run.settings.items()]
        for first in range(0, len(params), PARAMETERS_AT_ONCE):
            self._client.log_batch(self._id, params=params[first : first + PARAMETERS_AT_ONCE])
        self._client.log_batch(self._id, tags=[RunTag(COMPLETE, "true")])

    def _experiment(self, name: str) -> str:
        """The id of an experiment, which is made if it does not exist; another run may do so at the same moment."""
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name))
            except MlflowException:
                found = self._client.get_experiment_by_name(name)
                if found is None:
                    raise
        return str(found.experiment_id)

    def send(self, rows: Sequence[Row]) -> None:
        """See Remote. The server ignores what it has: equal numbers of equal step and time."""
        from mlflow.entities import Metric

        metrics = [Metric(_allowed(row.name), row.value, int(row.time * 1000), row.step) for row in rows]
        for first in range(0, len(metrics), 1000):
            self._client.log_batch(self._id, metrics=metrics[first : first + 1000])

    def send_figure(self, path: Path, step: int) -> None:
        self._client.log_artifact(self._id, str(path), "figures")

    def disconnect(self, finished: bool) -> None:
        self._client.set_terminated(self._id, "FINISHED" if finished else "KILLED")


@dataclass(eq=False)
class WandB(Remote):
    """Runs of Weights & Biases, grouped by sweep.

    ``mode``: with ``offline`` everything stays in the folder ``wandb`` of the run, for ``wandb sync``; null: as
    WANDB_MODE says.
    """

    project: str
    entity: str | None
    mode: Literal["online", "offline"] | None
    wait_seconds: NonNegative

    service = "wandb"

    def connect(self, run: TrackedRun, key: str) -> None:
        import wandb

        self._wandb = wandb
        self._run: Any = wandb.init(
            project=self.project,
            entity=self.entity,
            group=run.sweep,
            name=run.name,
            id=key,
            resume="allow",
            dir=run.folder,
            config=dict(run.settings),
            mode=self.mode,
            reinit="create_new",
            settings=wandb.Settings(console="off", silent=True),
        )

    def send(self, rows: Sequence[Row]) -> None:
        self._run.log({row.name: row.value for row in rows}, step=rows[0].step)

    def send_figure(self, path: Path, step: int) -> None:
        self._run.log({f"figures/{path.stem}": self._wandb.Image(str(path))}, step=step)

    def disconnect(self, finished: bool) -> None:
        self._run.finish(exit_code=0 if finished else 1)


@dataclass(eq=False)
class Trackio(Remote):
    """Runs of Trackio on this machine or in a Space, grouped by sweep. ``space``: its id; null: on this machine."""

    project: str
    space: str | None
    wait_seconds: NonNegative

    service = "trackio"

    def connect(self, run: TrackedRun, key: str) -> None:
        import_module("matplotlib.figure")  # Trackio drops numbers while another thread is importing it
        import trackio

        self._trackio = trackio
        self._run: Any = trackio.init(
            project=self.project,
            name=f"{run.name}-{key[:6]}",  # by which it is continued: runs of other folders may have the same name
            group=run.sweep,
            space_id=self.space,
            config=dict(run.settings),
            resume="allow",
            embed=False,
        )

    def send(self, rows: Sequence[Row]) -> None:
        self._run.log({row.name: row.value for row in rows}, step=rows[0].step)

    def send_figure(self, path: Path, step: int) -> None:
        self._run.log({f"figures/{path.stem}": self._trackio.Image(str(path))}, step=step)

    def disconnect(self, finished: bool) -> None:
        self._run.finish()


def _text(value: bool | float | str) -> str:
    """A setting as it is typed: whole numbers without a point."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _allowed(name: str) -> str:
    """A name with the characters that MLflow allows."""
    return "".join(letter if letter.isalnum() or letter in "_-. /:" else "_" for letter in name)
