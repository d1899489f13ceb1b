"""Writes a run's numbers and pictures: TensorBoard event files, metrics.jsonl, and PNG files, all in the run folder."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from torch import Tensor

from aerun.base.files import make_subfolder, open_to_write, printable, write_bytes, write_text
from aerun.contracts import EpochEnd, Observer, RunView
from aerun.errors import ConfigError
from aerun.runs.folder import CHECKPOINTS, FIGURES, METRICS
from aerun.runs.folder_metrics import read_metrics
from aerun.runs.projector import write_embedding
from aerun.training.checkpoint import save
from aerun.training.loop import SPEED
from aerun.training.progress import Progress

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

PNG_COMPRESSION = 2  # of 9: takes a third of the time of the default 6; files are a few percent larger


def check_folder_name(folder: Path) -> None:
    """ConfigError for a folder that TensorBoard cannot write to, because its name has bytes that are not UTF-8."""
    if printable(str(folder)) != str(folder):
        raise ConfigError(
            f"{folder}: TensorBoard writes only to folders whose names are UTF-8; choose another (hydra.run.dir=DIR, "
            "in Python out=DIR)"
        )


class NoLog:
    """Logs nothing: for ranks other than rank 0, and for runs without a folder."""

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


class Tracker(Observer):
    """The logs of one run, as a context manager that closes the files. Call ``open`` before logging.

    A thread compresses and writes pictures while training continues; ``flush`` waits for it and raises its errors.
    ``events=False``: write PNG files only, and add nothing to the logs.
    """

    def __init__(self, folder: Path, *, events: bool = True) -> None:
        self.folder = folder
        self._purge_from: int | None = None
        self._events = events
        self._writer: SummaryWriter | None = None
        self._tags: set[str] = set()
        self._stage: dict[str, int] = {}
        self._section = ""
        self._charted = False
        self._picture_thread = ThreadPoolExecutor(1, "pictures")
        self._pending: list[Future[None]] = []

    def open(self, progress: Progress | None) -> None:
        """Start new logs, or continue existing ones and drop what was logged after the checkpoint of ``progress``."""
        lines = read_metrics(self.folder) if (self.folder / METRICS).exists() else None
        epoch, step = (progress.epoch, progress.step) if progress is not None else (0, 0)
        if progress is not None or lines is not None:
            # The last values of a partial epoch have this step, and are logged again.
            is_repeated = progress is not None and progress.partial.get("last_step") == step
            self._purge_from = (step if is_repeated else step + 1) if step else 0
        kept = [line for line in lines or [] if line["epoch"] <= epoch]
        write_text(self.folder / METRICS, "".join(json.dumps(line) + "\n" for line in kept))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._picture_thread.shutdown()
        if self._writer is not None:
            self._writer.close()
        if error is None:
            self._wait_for_pictures()

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

    @property
    def _board(self) -> SummaryWriter:
        """TensorBoard's writer, opened on first use."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.folder), purge_step=self._purge_from)
        return self._writer

    def flush(self) -> None:
        """Write everything logged so far to disk."""
        self._wait_for_pictures()
        if self._writer is not None:
            self._writer.flush()
        for path in (self.folder / METRICS, *sorted(self.folder.glob("events.out.tfevents.*"))[-1:]):
            if path.exists():
                with path.open("rb") as file:
                    os.fsync(file.fileno())

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Log each value under its tag at that step."""
        if self._events:
            for tag, value in values.items():
                self._board.add_scalar(self._section + tag, value, step)
            if self._section:
                return
            self._tags |= values.keys()
            if not self._charted:
                self._add_charts([name for name in map(_validation_term, values) if f"train/{name}" in self._tags])

    def logged(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl of the current stage, without the stage's prefix."""
        stage = self._stage.get("stage")
        return [
            {name.removeprefix(self._section): value for name, value in line.items()}
            for line in (read_metrics(self.folder) if self._events else [])
            if line.get("stage") == stage
        ]

    def picture(self, tag: str, pixels: np.ndarray, step: int) -> None:
        """Log a picture [H,W] or [H,W,3], uint8, in TensorBoard and as a PNG file in figures/, which it overwrites."""
        if self._events:
            _ = self._board  # opened in this thread; the other one only adds to it
        self._pending.append(self._picture_thread.submit(self._write_picture, self._section + tag, pixels, step))

    def _wait_for_pictures(self) -> None:
        """Wait until all pictures are written; raise the first error."""
        pending, self._pending = self._pending, []
        for picture in pending:
            picture.result()

    def _write_picture(self, tag: str, pixels: np.ndarray, step: int) -> None:
        from PIL import Image
        from tensorboard.compat.proto.summary_pb2 import Summary

        path = make_subfolder(self.folder, FIGURES) / f"{tag.replace('/', '_')}.png"
        encoded = io.BytesIO()
        Image.fromarray(pixels).save(encoded, "PNG", compress_level=PNG_COMPRESSION)
        write_bytes(path, encoded.getvalue())
        if self._events:
            # add_image would compress the picture a second time.
            image = Summary.Image(
                height=pixels.shape[0],
                width=pixels.shape[1],
                colorspace=1 if pixels.ndim == 2 else 3,
                encoded_image_string=encoded.getvalue(),
            )
            self._board._get_file_writer().add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)

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
        if self._events:
            self._board.add_histogram(self._section + tag, values.float().cpu(), step)

    def embedding(self, codes: Tensor, labels: list[str] | None, thumbnails: Tensor | None) -> None:
        """Write codes [N,D] for the projector, each with a label and a thumbnail, uint8 [N,C,H,W]."""
        if self._events:
            images = None if thumbnails is None else thumbnails.cpu().numpy()
            self._pending.append(
                self._picture_thread.submit(write_embedding, self.folder, codes.cpu().numpy(), labels, images)
            )

    def hyperparameters(self, values: dict[str, bool | float | str]) -> None:
        """Log settings for the HPARAMS tab. Without a description of the experiment TensorBoard shows the union of all
        runs' keys; the usual helper would drop the keys that the last run lacks."""
        from torch.utils.tensorboard.summary import hparams

        # Truth values as text, because a key may have both: trainer.graph=auto,false. A column has one type.
        shown = {
            key: value if isinstance(value, float) else printable(_as_text(value)) for key, value in values.items()
        }
        self._board._get_file_writer().add_summary(hparams(shown, {})[1])

    def _add_charts(self, names: Sequence[str | None]) -> None:
        """Show training and validation of each term in one chart of the Custom Scalars tab."""
        if names:
            from torch.utils.tensorboard.summary import custom_scalars

            lines = {str(name): ["Multiline", [f"^train/{name}$", f"^validation/{name}$"]] for name in names}
            self._board._get_file_writer().add_summary(custom_scalars({"training and validation": lines}))
            self._charted = True

    def mark_finished(self) -> None:
        """Mark the session as successful in the HPARAMS tab."""
        from torch.utils.tensorboard.summary import hparams

        self._board._get_file_writer().add_summary(hparams({}, {})[2])


def _as_text(value: bool | str) -> str:
    return str(value).lower() if isinstance(value, bool) else value


def _validation_term(tag: str) -> str | None:
    """The name of a validation loss term; None for other tags."""
    group, _, name = tag.partition("/")
    return name if group == "validation" else None
