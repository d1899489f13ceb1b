"""Where a run's numbers and pictures go: TensorBoard event files, metrics.jsonl, and PNG files.

Nothing else writes logs. Everything of one run is in its folder, without sub-runs.
"""

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

from aerun.base.files import write_bytes, write_text
from aerun.contracts import EpochEnd, Observer, RunView
from aerun.runs.folder import CHECKPOINTS, FIGURES, METRICS, read_metrics
from aerun.runs.projector import write_embedding
from aerun.training.checkpoint import save
from aerun.training.loop import SPEED
from aerun.training.progress import Progress

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

PNG_EFFORT = 2  # of 9: a third of the time of the usual 6, for files a few per cent larger


class NoLog:
    """Logs nothing: for processes of a run other than the first, and where no folder is written."""

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """No values."""

    def picture(self, tag: str, pixels: np.ndarray, step: int) -> None:
        """No picture."""

    def histogram(self, tag: str, values: Tensor, step: int) -> None:
        """No distribution."""

    def weights(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """No file."""

    def logged(self) -> list[dict[str, Any]]:
        """No lines."""
        return []

    def flush(self) -> None:
        """Nothing to write."""


class Tracker(Observer):
    """One run's logs; a context manager, so that files are closed whatever happens. ``open`` comes first.

    Pictures are compressed and written by a thread while training continues; ``flush`` waits for them, and raises what
    went wrong with them. ``events=False``: only PNG files are written, nothing is added to the logs.
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
        self._painter = ThreadPoolExecutor(1, "pictures")
        self._painting: list[Future[None]] = []

    def open(self, progress: Progress | None) -> None:
        """Start the logs, or continue them: what they have after the checkpoint of ``progress`` is dropped."""
        lines = read_metrics(self.folder) if (self.folder / METRICS).exists() else None
        epoch, step = (progress.epoch, progress.step) if progress is not None else (0, 0)
        if progress is not None or lines is not None:
            # What a partial epoch logged last has this step; it is logged again.
            again = progress is not None and progress.partial.get("last_step") == step
            self._purge_from = (step if again else step + 1) if step else 0
        kept = [line for line in lines or [] if line["epoch"] <= epoch]
        write_text(self.folder / METRICS, "".join(json.dumps(line) + "\n" for line in kept))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._painter.shutdown()
        if self._writer is not None:
            self._writer.close()
        if error is None:
            self._painted()

    def begin(self, run: RunView) -> None:
        """File what follows under the stage's name, if it has one; lines say its number."""
        self._progress = run.progress
        self._stage = {"stage": run.stage_number} if run.stage_number else {}
        self._section = f"{run.stage}/" if run.stage else ""
        partial = run.progress.partial
        if partial.get("last_step") == run.progress.step:
            self.scalars(partial["last_values"], run.progress.step)

    def leave_stage(self) -> None:
        """What follows is the whole run's."""
        self._stage, self._section = {}, ""

    def step(self, step: int, values: Mapping[str, float] | None) -> None:
        if values is not None:
            self.scalars(values, step)

    def epoch(self, end: EpochEnd) -> None:
        """Curves of everything but training terms, which ``step`` has logged; one line in metrics.jsonl."""
        curves = {tag: value for tag, value in end.numbers.items() if not tag.startswith("train/") or tag == SPEED}
        self.scalars(curves, end.step)
        named = {self._section + name: value for name, value in end.numbers.items()}
        line = {"epoch": end.epoch, "step": end.step, **self._stage, **named}
        with (self.folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    @property
    def _board(self) -> SummaryWriter:
        """TensorBoard's writer, opened when first needed."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.folder), purge_step=self._purge_from)
        return self._writer

    def flush(self) -> None:
        """Put everything logged so far on disk."""
        self._painted()
        if self._writer is not None:
            self._writer.flush()
        for path in (self.folder / METRICS, *sorted(self.folder.glob("events.out.tfevents.*"))[-1:]):
            if path.exists():
                with path.open("rb") as file:
                    os.fsync(file.fileno())

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Each value under its tag at that step."""
        if self._events:
            for tag, value in values.items():
                self._board.add_scalar(self._section + tag, value, step)
            if self._section:
                return
            self._tags |= values.keys()
            if not self._charted:
                self._charts([name for name in map(_in_validation, values) if f"train/{name}" in self._tags])

    def logged(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl of the present stage so far, by the names that its numbers had."""
        stage = self._stage.get("stage")
        return [
            {name.removeprefix(self._section): value for name, value in line.items()}
            for line in (read_metrics(self.folder) if self._events else [])
            if line.get("stage") == stage
        ]

    def picture(self, tag: str, pixels: np.ndarray, step: int) -> None:
        """A picture [H,W] or [H,W,3], uint8: in TensorBoard, and the latest as a PNG file under figures/."""
        if self._events:
            _ = self._board  # opened here: the thread only adds to it
        self._painting.append(self._painter.submit(self._paint, self._section + tag, pixels, step))

    def _painted(self) -> None:
        """Wait for the pictures that are being written; raises the first error of theirs."""
        painting, self._painting = self._painting, []
        for picture in painting:
            picture.result()

    def _paint(self, tag: str, pixels: np.ndarray, step: int) -> None:
        from PIL import Image
        from tensorboard.compat.proto.summary_pb2 import Summary

        path = self.folder / FIGURES / f"{tag.replace('/', '_')}.png"
        path.parent.mkdir(exist_ok=True)
        encoded = io.BytesIO()
        Image.fromarray(pixels).save(encoded, "PNG", compress_level=PNG_EFFORT)
        write_bytes(path, encoded.getvalue())
        if self._events:
            # add_image would compress it a second time.
            image = Summary.Image(
                height=pixels.shape[0],
                width=pixels.shape[1],
                colorspace=1 if pixels.ndim == 2 else 3,
                encoded_image_string=encoded.getvalue(),
            )
            self._board._get_file_writer().add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)

    def arrays(self, name: str, **arrays: np.ndarray) -> None:
        """A file of named arrays, whose bytes depend on nothing but the arrays."""
        encoded = io.BytesIO()
        np.savez_compressed(encoded, **arrays)  # type: ignore[arg-type]  # every member is dated 1980
        write_bytes(self.folder / name, encoded.getvalue())

    def weights(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep the model's tensors as checkpoints/NAME.safetensors, for ``aerun.load(FOLDER, weights=NAME)``."""
        save(self.folder / CHECKPOINTS / f"{name}.safetensors", tensors, None, self._progress)

    def histogram(self, tag: str, values: Tensor, step: int) -> None:
        """The distribution of all values."""
        if self._events:
            self._board.add_histogram(self._section + tag, values.float().cpu(), step)

    def embedding(self, codes: Tensor, labels: list[str] | None, thumbnails: Tensor | None) -> None:
        """Codes [N,D] for the projector, with a label and a thumbnail, uint8 [N,C,H,W], each."""
        if self._events:
            images = None if thumbnails is None else thumbnails.cpu().numpy()
            self._painting.append(
                self._painter.submit(write_embedding, self.folder, codes.cpu().numpy(), labels, images)
            )

    def hyperparameters(self, values: dict[str, bool | float | str]) -> None:
        """Settings for the HPARAMS tab. Only the session is described, not the experiment: TensorBoard then shows
        the union of all runs' keys, where the usual helper drops those that its last run did not have."""
        from torch.utils.tensorboard.summary import hparams

        self._board._get_file_writer().add_summary(hparams(values, {})[1])

    def _charts(self, names: Sequence[str | None]) -> None:
        """Training and validation of each of these terms in one chart of the Custom Scalars tab."""
        if names:
            from torch.utils.tensorboard.summary import custom_scalars

            lines = {str(name): ["Multiline", [f"^train/{name}$", f"^validation/{name}$"]] for name in names}
            self._board._get_file_writer().add_summary(custom_scalars({"training and validation": lines}))
            self._charted = True

    def finished(self) -> None:
        """Mark the session as ended well in the HPARAMS tab."""
        from torch.utils.tensorboard.summary import hparams

        self._board._get_file_writer().add_summary(hparams({}, {})[2])


def _in_validation(tag: str) -> str | None:
    group, _, name = tag.partition("/")
    return name if group == "validation" else None
