"""What observes a run: callbacks and trackers, and the views of the run that they receive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from aerun.contracts.data import Noise
from aerun.contracts.part import default
from aerun.contracts.terms import Metric
from aerun.contracts.training import Loss

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    from torch import Tensor
    from torch.optim import Optimizer as TorchOptimizer


class RunLog(Protocol):
    """The log of a run for observers: the files of the run folder, and the trackers."""

    @property
    def histograms(self) -> bool:
        """Whether a tracker shows the distribution of codes."""
        return False

    if TYPE_CHECKING:

        def scalars(self, values: Mapping[str, float], step: int) -> None:
            """Log each value under its tag at that step."""

        def picture(self, tag: str, pixels: np.ndarray, step: int) -> None:
            """Log a picture [H,W] or [H,W,3], uint8, in the trackers and as a PNG file in figures/, which it
            overwrites."""

        def histogram(self, tag: str, values: Tensor, step: int) -> None:
            """Log the distribution of the values."""

        def weights(self, name: str, tensors: Mapping[str, Tensor]) -> None:
            """Write the model's tensors to checkpoints/NAME.safetensors, for ``aerun.load(FOLDER, weights=NAME)``."""

        def logged(self) -> list[dict[str, Any]]:
            """The lines of metrics.jsonl of the current stage so far."""

        def flush(self) -> None:
            """Write everything that was logged to disk."""


@dataclass(frozen=True)
class RunView:
    """A run, or one of its stages, as observers see it: the model that trains, its data, and the log.

    ``progress`` counts completed epochs and steps; ``epochs`` and ``total_steps`` are planned. ``stage`` is the name of
    the stage, "" in a run without stages and in fine-tuning; ``stage_number`` is 0 without stages; ``is_last``: whether
    it is the last stage. ``part`` contains the images that are evaluated after epochs. ``folder`` is None for a run
    without a folder. ``seed`` is that of the run's random numbers.
    """

    autoencoder: Any
    data: Any
    noise: Noise
    loss: Loss
    optimizer: TorchOptimizer
    log: RunLog
    progress: Any
    part: Any
    epochs: int
    total_steps: int
    stage: str = ""
    stage_number: int = 0
    is_last: bool = True
    folder: Path | None = None
    seed: int = 0


class EpochEnd(NamedTuple):
    """The end of an epoch of the run, counted from 1.

    ``numbers``: by tag (``train/loss``, ``validation/mse``, ...). ``evaluated``: whether they include validation
    numbers. ``ended``: whether the training ends with this epoch. ``target_spread``: the variance of the evaluated
    targets over images, summed over values.
    """

    epoch: int
    step: int
    numbers: Mapping[str, float]
    evaluated: bool
    ended: bool
    target_spread: float


class Evaluate(Protocol):
    """The evaluation on one part of the data."""

    if TYPE_CHECKING:

        def __call__(self, autoencoder: Any) -> dict[str, float]:
            """Return the usual metrics of any autoencoder on that part."""

        def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
            """Yield inputs[B,...], corrupted as the model sees them, and targets[B,...]: equal in every epoch."""

        def given(self, autoencoder: Any) -> Iterator[tuple[Any, Tensor, Tensor]]:
            """``batches``, each after the model to encode it with: of a conditional autoencoder the one that has the
            labels of the batch, otherwise the autoencoder itself."""


class Observer:
    """Observes a run; every method is optional. Use your own observers with the group ``callback``.

    ``optional``: if it raises an error, it is removed with a warning and the run continues. ``metrics`` declares the
    numbers of ``measure``. With several processes, only rank 0 has observers.
    """

    optional: bool = False
    metrics: Sequence[Metric] = ()

    def check_settings(self, settings: Any) -> None:
        """ValueError, before anything is loaded, if it cannot observe this run. The message names both keys."""

    def unread_keys(self, settings: Any) -> Mapping[str, str]:
        """Keys that have no effect with these settings, each with the reason."""
        return {}

    def begin(self, run: RunView) -> None:
        """Called when training starts or is resumed: once for the run, or for each of its stages."""

    def step(self, step: int, values: Mapping[str, float] | None) -> None:
        """Called after update ``step`` of the run, counted from 1. ``values`` are the loss terms if they are logged,
        every ``trainer.log_every_steps``; otherwise None, so that nothing waits for the device."""

    def measure(self, autoencoder: Any, part: str, evaluate: Evaluate) -> Mapping[str, float]:
        """Return further numbers by name when the autoencoder is evaluated on a part of the data.

        The part is ``validation`` after epochs (``probe``, some training images, if there is no validation part), and
        ``test`` at the end. When a finished run is evaluated again, this is called without ``begin``.
        """
        return {}

    def should_stop(self, numbers: Mapping[str, float]) -> bool:
        """Whether to end the training (with stages: the stage) with this epoch. Called after each evaluation, with the
        numbers of the epoch by tag (``train/loss``, ``validation/psnr``, ...)."""
        return False

    def epoch(self, end: EpochEnd) -> None:
        """Called at the end of an epoch, before its checkpoint."""

    def saved(self, progress: Any) -> None:
        """Called after a checkpoint was written."""

    def end(self, step: int) -> None:
        """Called after training, when the model has its best weights; ``step`` is the last step plus one."""

    def state(self) -> dict[str, Tensor]:
        """Tensors that a resumed run needs; every checkpoint contains them."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restore what ``state`` returned. Called before ``begin``."""


@dataclass(frozen=True)
class TrackedRun:
    """The run that a tracker logs.

    ``settings``: by dotted key, as in tables of runs; ``typed``: the keys among them that the user typed. ``sweep``:
    the name of its sweep, or None. ``monitor``: the metric that chooses the best epoch. ``again_from``: in a resumed
    run, the first step that is logged again; None for a new run.
    """

    folder: Path
    settings: Mapping[str, bool | float | str]
    typed: frozenset[str] = frozenset()
    sweep: str | None = None
    monitor: str = "loss"
    again_from: int | None = None

    @property
    def name(self) -> str:
        """The name of the run folder."""
        return self.folder.name


class Tracker:
    """Shows runs elsewhere, such as on a server; every method is optional. It receives what the run logs.

    ``optional``: if it raises an error, it is removed with a warning and the run continues. ``reads_rows``: the run
    folder keeps every logged number in ``scalars.csv``. ``projector``: it takes the codes of test images.
    ``histograms``: it takes the distribution of the codes during training. With several processes, only rank 0 has
    trackers.
    """

    optional: bool = default(True)
    reads_rows: bool = default(False)
    projector: bool = default(False)
    histograms: bool = default(False)
    metrics: Sequence[Metric] = ()

    def check_settings(self, settings: Any) -> None:
        """ValueError, before anything is loaded, if it cannot be used."""

    def unread_keys(self, settings: Any) -> Mapping[str, str]:
        """Keys that have no effect with these settings, each with the reason."""
        return {}

    def open(self, run: TrackedRun) -> None:
        """Called before anything is logged."""

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Receive numbers by name (``train/loss``, ``validation/mse``, ``test/psnr``, ...), in the order of steps."""

    def picture(self, tag: str, png: bytes, step: int) -> None:
        """Receive a picture as the content of a PNG file. Called in another thread than the other methods."""

    def histogram(self, tag: str, values: Tensor, step: int) -> None:
        """Receive values whose distribution is to be shown."""

    def embedding(self, codes: np.ndarray, labels: list[str] | None, thumbnails: np.ndarray | None) -> None:
        """Receive the codes [N,D] of test images with labels and images, uint8 [N,C,H,W]. Called in another thread."""

    def flush(self) -> None:
        """Called before each checkpoint: what was received must be on disk afterwards."""

    def finish(self) -> None:
        """Called when everything is logged and the run has finished."""

    def close(self) -> None:
        """Called at the end, also after an error."""
