"""TensorBoard's event files, in the run folder.

TensorBoard sorts tags by name, opens the first two groups and folds the others. So the numbers and the pictures that
decide between runs are in groups whose names start with a digit; everything else has the name that it has everywhere.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aerun.base.files import printable
from aerun.contracts import TrackedRun, Tracker

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor
    from torch.utils.tensorboard import SummaryWriter

FIRST, SECOND = "1_curves", "2_reconstructions"  # the groups that are open when the page opens
THIRD = "3_test"  # folded, but the HPARAMS tab has its metrics in the order of tags, and shows the first five
DECISIVE = ("mse", "loss")  # metrics in these groups, in addition to the one that is monitored
SHOWN_AS = {"loss": "total_loss"}  # after mse, by which runs with different losses and penalties compare
SAME = 1e-6  # relative difference up to which the loss is the MSE: shown once
GRIDS = "reconstructions"  # the group that becomes SECOND
CURVES = "curves/loss"  # a picture for each run: in FIRST, but in its own folded group for a run of a sweep
BASELINES = "^test_baseline/.*/mse$"


@dataclass(eq=False)
class TensorBoard(Tracker):
    """Event files for ``tensorboard --logdir FOLDER``. ``projector``: also write the files of its embedding projector.
    ``histograms``: also log the distribution of the codes during training."""

    projector: bool
    histograms: bool

    optional = False  # it writes to the run folder, like the run itself

    def open(self, run: TrackedRun) -> None:
        """Open the event files. TensorBoard drops what they contain from ``run.again_from`` on."""
        from torch.utils.tensorboard import SummaryWriter

        self._folder = run.folder
        self._writer: SummaryWriter = SummaryWriter(str(run.folder), max_queue=1000, purge_step=run.again_from)
        names = {name: SHOWN_AS.get(name, name) for name in (*DECISIVE, run.monitor)}
        self._decisive = {f"validation/{name}": f"{FIRST}/validation_{shown}" for name, shown in names.items()}
        self._decisive |= {f"test/{name}": f"{THIRD}/{shown}" for name, shown in names.items()}
        self._pictures = {} if run.sweep else {CURVES: f"{FIRST}/with_baselines"}
        self._tags: set[str] = set()
        self._charted = False
        self._add_settings(run)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        for tag, value in values.items():
            self._writer.add_scalar(tag, value, step)
            if tag in self._decisive and not _is_mse_again(tag, values):
                self._writer.add_scalar(self._decisive[tag], value, step)
        self._tags |= values.keys()
        if not self._charted and any(tag.startswith("validation/") for tag in values):
            self._add_charts([tag.removeprefix("validation/") for tag in values if tag.startswith("validation/")])

    def picture(self, tag: str, png: bytes, step: int) -> None:
        """Add a picture without compressing it again, as the writer's own method would."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        shown = self._pictures.get(tag) or (SECOND + tag[len(GRIDS) :] if tag.startswith(f"{GRIDS}/") else tag)
        width, height = struct.unpack(">II", png[16:24])  # of the header, as is the kind of color
        image = Summary.Image(height=height, width=width, colorspace=3 if png[25] & 2 else 1, encoded_image_string=png)
        self._add(Summary(value=[Summary.Value(tag=shown, image=image)]), step)

    def histogram(self, tag: str, values: Tensor, step: int) -> None:
        self._writer.add_histogram(tag, values.float().cpu(), step)

    def embedding(self, codes: np.ndarray, labels: list[str] | None, thumbnails: np.ndarray | None) -> None:
        from aerun.tracker.projector import write_embedding

        write_embedding(self._folder, codes, labels, thumbnails)

    def flush(self) -> None:
        self._writer.flush()
        for path in sorted(self._folder.glob("events.out.tfevents.*"))[-1:]:
            with path.open("rb") as file:
                os.fsync(file.fileno())

    def finish(self) -> None:
        """Mark the session as successful in the HPARAMS tab."""
        from torch.utils.tensorboard.summary import hparams

        self._add(hparams({}, {})[2])

    def close(self) -> None:
        self._writer.close()

    def _add(self, summary: Any, step: int | None = None) -> None:
        self._writer._get_file_writer().add_summary(summary, step)

    def _add_settings(self, run: TrackedRun) -> None:
        """Add options and typed keys for the HPARAMS tab, which shows the first five that differ: others follow from an
        option. Without a description of the experiment it has the union of all runs' keys; the usual helper would drop
        the keys that the last run lacks."""
        from torch.utils.tensorboard.summary import hparams

        # Truth values as text, because a key may have both: trainer.graph=auto,false. A column has one type.
        chosen = {key: value for key, value in run.settings.items() if "." not in key or key in run.typed}
        shown = {key: value if isinstance(value, float) else printable(_text(value)) for key, value in chosen.items()}
        self._add(hparams(shown, {})[1])

    def _add_charts(self, measured: list[str]) -> None:
        """Show training and validation of each term in one chart of the Custom Scalars tab, the loss first; the
        reconstruction error with the baselines, which are marks at the end of the run."""
        from torch.utils.tensorboard.summary import custom_scalars

        terms = [name for name in measured if f"train/{name}" in self._tags]
        charts = {name: ["Multiline", [f"^train/{name}$", f"^validation/{name}$"]] for name in terms}
        error = {"mse": ["Multiline", ["^validation/mse$", "^test/mse$", BASELINES]]} if "mse" in measured else {}
        self._add(custom_scalars({"training and validation": charts, "validation, test and baselines": error}))
        self._charted = True


def _is_mse_again(tag: str, values: Mapping[str, float]) -> bool:
    """Whether the tag is a loss that equals the squared error, without penalties."""
    part, _, name = tag.rpartition("/")
    mse = values.get(f"{part}/mse")
    return name == "loss" and mse is not None and math.isclose(values[tag], mse, rel_tol=SAME)


def _text(value: bool | str) -> str:
    return str(value).lower() if isinstance(value, bool) else value
