"""Where a run's numbers and pictures go: TensorBoard event files, metrics.jsonl, and PNG files.

Nothing else writes logs. Everything of one run lies in its folder, without sub-runs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch.utils.tensorboard import SummaryWriter

Scalar = bool | int | float | str


class Tracker:
    """One run's logs; use as a context manager, so that files are closed whatever happens."""

    def __init__(self, folder: Path, log_events: bool = True) -> None:
        self.folder = folder
        self.log_events = log_events
        self._writer: SummaryWriter | None = None
        self._metrics = (folder / "metrics.jsonl").open("a", encoding="utf-8")

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, *_: object) -> None:
        self._metrics.close()
        if self._writer is not None:
            self._writer.close()

    @property
    def writer(self) -> SummaryWriter:
        """TensorBoard's writer, opened when first needed."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.folder))
        return self._writer

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Each value under its tag at that step."""
        for tag, value in values.items():
            self.writer.add_scalar(tag, value, step)

    def metrics(self, **line: Any) -> None:
        """Append one line to metrics.jsonl."""
        self._metrics.write(json.dumps(line) + "\n")
        self._metrics.flush()

    def grid(self, tag: str, pixels: np.ndarray, step: int) -> None:
        """A picture [H,W] or [H,W,3], uint8."""
        self.writer.add_image(tag, pixels, step, dataformats="HW" if pixels.ndim == 2 else "HWC")

    def figure(self, tag: str, figure: Figure, step: int) -> None:
        """A matplotlib figure, as a PNG file under figures/ and as a picture; the figure is closed."""
        from aerun.figures import save_figure

        self.picture(tag, save_figure(figure), step)

    def picture(self, tag: str, pixels: np.ndarray, step: int) -> None:
        """As ``grid``, and as a PNG file under figures/."""
        from PIL import Image

        path = self.folder / "figures" / f"{tag.replace('/', '_')}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
        self.grid(tag, pixels, step)

    def histogram(self, tag: str, values: Tensor, step: int) -> None:
        """The distribution of all values."""
        self.writer.add_histogram(tag, values.float().cpu(), step)

    def embedding(self, codes: Tensor, labels: list[str] | None, sprites: Tensor | None, step: int) -> None:
        """Codes [N,D] for the projector, with a label and a thumbnail [N,C,H,W] in [0,1] each."""
        self.writer.add_embedding(
            codes.cpu(),
            metadata=labels,
            label_img=None if sprites is None else sprites.cpu(),
            global_step=step,
            tag="code",
        )

    def hyperparameters(self, values: dict[str, Scalar]) -> None:
        """Settings for the HPARAMS tab. Only the session is described, not the experiment: TensorBoard then shows
        the union of all runs' keys, where the usual helper drops those that its last run did not have."""
        from torch.utils.tensorboard.summary import hparams

        _, start, _ = hparams(values, {})
        self.writer._get_file_writer().add_summary(start)

    def finished(self) -> None:
        """Mark the session as ended well in the HPARAMS tab."""
        from torch.utils.tensorboard.summary import hparams

        self.writer._get_file_writer().add_summary(hparams({}, {})[2])
