"""The log of a run: metrics.jsonl, PNG files and arrays in the run folder, and the trackers that show the run."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import io
import json
import logging
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from torch import Tensor

from aerun.base.files import make_subfolder, open_to_write, printable, write_bytes, write_text
from aerun.config.deferred import built
from aerun.config.settings import Settings
from aerun.contracts import EpochEnd, Observer, RunView, TrackedRun, Tracker
from aerun.errors import AerunError, ConfigError
from aerun.runs.folder import CHECKPOINTS, FIGURES, METRICS
from aerun.runs.folder_metrics import read_metrics
from aerun.tracker.rows import RowFile
from aerun.training.checkpoint import save
from aerun.training.loop import SPEED
from aerun.training.progress import Progress

log = logging.getLogger(__name__)
PNG_COMPRESSION = 2  # of 9: takes a third of the time of the default 6; files are a few percent larger


def check_folder_name(folder: Path) -> None:
    """ConfigError for a folder that TensorBoard cannot write to, because its name has bytes that are not UTF-8."""
    if printable(str(folder)) != str(folder):
        raise ConfigError(
            f"{folder}: TensorBoard writes only to folders whose names are UTF-8; choose another (hydra.run.dir=DIR, "
            "in Python out=DIR)"
        )


def own_trackers(settings: Settings) -> dict[str, Tracker]:
    """Copies of the configured trackers: trackers have state, and settings must not change."""
    return {name: copy.deepcopy(built(tracker)) for name, tracker in settings.tracker.items()}


class NoLog:
    """Logs nothing: for ranks other than rank 0, and for runs without a folder."""

    histograms = False

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Ignore the values."""

    def picture(self, tag: str, pixels: np.ndarray, step: int) -> None:
        """Ignore the picture."""

    def histogram(self, tag: str, values: Tensor, step: int) -> None:
        """Ignore the values."""

    def weights(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Write no file."""

    def logged(self) -> list[dict[str, Any]]:
        """No lines were logged."""
        return []

    def flush(self) -> None:
        """Do nothing: there are no files."""


class FolderLog(Observer):
    """The log of one run, as a context manager that closes the files. Call ``open`` before logging numbers.

    ``trackers`` by name receive what is logged; an optional one that raises an error is removed with a warning.
    A thread compresses and writes pictures while training continues; ``flush`` waits for it and raises its errors.
    """

    def __init__(self, folder: Path, trackers: Mapping[str, Tracker] | None = None) -> None:
        self.folder = folder
        self._trackers = dict(trackers or {})
        self._is_open = False
        self._rows: RowFile | None = None
        self._stage: dict[str, int] = {}
        self._section = ""
        self._picture_thread = ThreadPoolExecutor(1, "pictures")
        self._pending: list[Future[None]] = []

    @property
    def histograms(self) -> bool:
        """Whether a tracker shows the distribution of codes."""
        return any(tracker.histograms for tracker in self._trackers.values())

    @property
    def projector(self) -> bool:
        """Whether a tracker takes the codes of test images."""
        return any(tracker.projector for tracker in self._trackers.values())

    def open(self, progress: Progress | None, run: TrackedRun | None = None) -> None:
        """Start new logs, or continue existing ones and drop what was logged after the checkpoint of ``progress``.

        ``run`` describes the run to the trackers.
        """
        lines = read_metrics(self.folder) if (self.folder / METRICS).exists() else None
        epoch, step = (progress.epoch, progress.step) if progress is not None else (0, 0)
        again_from = None
        if progress is not None or lines is not None:
            # The last values of a partial epoch have this step, and are logged again.
            is_repeated = progress is not None and progress.partial.get("last_step") == step
            again_from = (step if is_repeated else step + 1) if step else 0
        kept = [line for line in lines or [] if line["epoch"] <= epoch]
        write_text(self.folder / METRICS, "".join(json.dumps(line) + "\n" for line in kept))
        self._open_trackers(dataclasses.replace(run or TrackedRun(self.folder, {}), again_from=again_from))

    def append(self, run: TrackedRun, step: int) -> None:
        """Continue the logs of a finished run, to which nothing was logged after that step."""
        self._open_trackers(dataclasses.replace(run, again_from=step + 1))

    def _open_trackers(self, run: TrackedRun) -> None:
        if any(tracker.reads_rows for tracker in self._trackers.values()):
            self._rows = RowFile(self.folder, run.again_from)
        self._is_open = True
        self._send("open", lambda tracker: tracker.open(run))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._picture_thread.shutdown()
        if self._rows is not None and error is None:
            self._rows.write()
        if self._is_open:  # otherwise an error came first
            self._send("close", lambda tracker: tracker.close())
        if error is None:
            self._wait_for_pictures()

    def _send(self, event: str, call: Callable[[Tracker], None]) -> None:
        """Call each tracker; remove an optional one that raises an error."""
        for name, tracker in list(self._trackers.items()):
            try:
                call(tracker)
            except Exception as error:
                if not tracker.optional or isinstance(error, AerunError):
                    raise
                text = f"tracker={name}: {type(error).__name__} in {event}: {' '.join(str(error).split())}"
                log.warning("%s; it is removed, and the run continues without it", text)
                self._trackers.pop(name, None)
                if event != "close":
                    with contextlib.suppress(Exception):
                        tracker.close()

    def begin(self, run: RunView) -> None:
        """Log what follows under the name of the stage, if it has one, with its number in metrics.jsonl."""
        self._progress = run.progress
        self._stage = {"stage": run.stage_number} if run.stage_number else {}
        self._section = f"{run.stage}/" if run.stage else ""
        partial = run.progress.partial
        if partial.get("last_step") == run.progress.step:
            self.scalars(partial["last_values"], run.progress.step)

    def leave_stage(self) -> None:
        """Log what follows as the whole run's."""
        self._stage, self._section = {}, ""

    def step(self, step: int, values: Mapping[str, float] | None) -> None:
        if values is not None:
            self.scalars(values, step)

    def epoch(self, end: EpochEnd) -> None:
        """Log all numbers as curves, except training terms, which ``step`` has logged, and add a line to
        metrics.jsonl."""
        curves = {tag: value for tag, value in end.numbers.items() if not tag.startswith("train/") or tag == SPEED}
        self.scalars(curves, end.step)
        named = {self._section + name: value for name, value in end.numbers.items()}
        line = {"epoch": end.epoch, "step": end.step, **self._stage, **named}
        with open_to_write(self.folder / METRICS, "a") as file:
            file.write(json.dumps(line) + "\n")

    def flush(self) -> None:
        """Write everything logged so far to disk."""
        self._wait_for_pictures()
        if self._rows is not None:
            self._rows.write()
        self._send("flush", lambda tracker: tracker.flush())
        path = self.folder / METRICS
        if path.exists():
            with path.open("rb") as file:
                os.fsync(file.fileno())

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Log each value under its tag at that step."""
        named = {self._section + tag: value for tag, value in values.items()}
        if self._rows is not None:
            self._rows.add(named, step)
        self._send("scalars", lambda tracker: tracker.scalars(named, step))

    def logged(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl of the current stage, without the stage's prefix."""
        stage = self._stage.get("stage")
        return [
            {name.removeprefix(self._section): value for name, value in line.items()}
            for line in read_metrics(self.folder)
            if line.get("stage") == stage
        ]

    def picture(self, tag: str, pixels: np.ndarray, step: int) -> None:
        """Log a picture [H,W] or [H,W,3], uint8, in the trackers and as a PNG file in figures/, which it overwrites."""
        self._pending.append(self._picture_thread.submit(self._write_picture, self._section + tag, pixels, step))

    def _wait_for_pictures(self) -> None:
        """Wait until all pictures are written; raise the first error."""
        pending, self._pending = self._pending, []
        for picture in pending:
            picture.result()

    def _write_picture(self, tag: str, pixels: np.ndarray, step: int) -> None:
        from PIL import Image

        path = make_subfolder(self.folder, FIGURES) / f"{tag.replace('/', '_')}.png"
        encoded = io.BytesIO()
        Image.fromarray(pixels).save(encoded, "PNG", compress_level=PNG_COMPRESSION)
        png = encoded.getvalue()
        write_bytes(path, png)
        self._send("picture", lambda tracker: tracker.picture(tag, png, step))

    def arrays(self, name: str, **arrays: np.ndarray) -> None:
        """Write a file of named arrays. Equal arrays give equal bytes."""
        encoded = io.BytesIO()
        np.savez_compressed(encoded, **arrays)  # type: ignore[arg-type]  # NumPy dates every member 1980
        write_bytes(self.folder / name, encoded.getvalue())

    def weights(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Write the model's tensors to checkpoints/NAME.safetensors, for ``aerun.load(FOLDER, weights=NAME)``."""
        save(self.folder / CHECKPOINTS / f"{name}.safetensors", tensors, None, self._progress)

    def histogram(self, tag: str, values: Tensor, step: int) -> None:
        """Log the distribution of the values."""
        named = self._section + tag
        self._send("histogram", lambda tracker: tracker.histogram(named, values, step))

    def embedding(self, codes: Tensor, labels: list[str] | None, thumbnails: Tensor | None) -> None:
        """Hand codes [N,D] to the trackers, each with a label and a thumbnail, uint8 [N,C,H,W]."""
        images = None if thumbnails is None else thumbnails.cpu().numpy()
        numbers = codes.cpu().numpy()
        wanting = [tracker for tracker in self._trackers.values() if tracker.projector]
        for tracker in wanting:
            self._pending.append(self._picture_thread.submit(tracker.embedding, numbers, labels, images))

    def mark_finished(self) -> None:
        """Tell the trackers that everything is logged."""
        self._wait_for_pictures()
        if self._rows is not None:
            self._rows.write()
        self._send("finish", lambda tracker: tracker.finish())
