"""Weights and training state in safetensors files: tensors, and JSON in the header. Nothing is pickled.

Every file contains a SHA-256 of all its bytes. While a run trains it keeps three files: ``last``, ``previous`` and
``best``; of a finished run see ``Checkpointing.keep``.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as deserialize
from safetensors.torch import save as serialize
from torch import Tensor, nn
from torch.optim import Optimizer

from aerun.base.bounded import parse_json
from aerun.base.files import write_bytes
from aerun.errors import DataError, DivergedError
from aerun.training.checkpoint_files import BEST, BLANK, LAST, PREVIOUS, read_intact, removable, with_checksum
from aerun.training.checkpoint_schema import check_header
from aerun.training.checkpoint_state import (
    CALLBACK,
    MODEL,
    OPTIMIZER,
    misfits,
    restore_state,
    restore_weights,
    with_prefix,
)
from aerun.training.observers import Observers
from aerun.training.progress import Progress

log = logging.getLogger(__name__)
MAX_SHARE_OF_TIME = 0.01  # that checkpoints after epochs take: epochs that end too soon have none of their own


class Checkpointer:
    """Saves the state of one run in a folder. The previous checkpoint is kept in case the last one is damaged.

    A killed run continues from its last checkpoint, so everything else that it has written must be on disk before.
    """

    def __init__(
        self,
        folder: Path,
        model: nn.Module,
        optimizer: Optimizer,
        every_minutes: float | None,
        observers: Observers | None = None,
    ) -> None:
        self.folder, self._model, self._optimizer = folder, model, optimizer
        self._observers = observers or Observers()
        self._interval = None if every_minutes is None else every_minutes * 60
        self._saved = self._started = time.monotonic()
        self._pause = 0.0  # seconds from the last checkpoint to the next after an epoch
        self._best: tuple[dict[str, Tensor], Progress] | None = None  # of an epoch without its own checkpoint

    def wall_seconds(self, progress: Progress) -> float:
        """How long the run has taken, summed over all its sessions."""
        return progress.wall_seconds + time.monotonic() - self._started

    def due(self) -> bool:
        """Whether the interval between checkpoints has passed."""
        return self._interval is not None and time.monotonic() - self._saved >= self._interval

    def epoch(self, progress: Progress, *, last: bool) -> bool:
        """Return whether to save after this epoch. If not, keep the weights in memory if they are the best so far."""
        if last or self.due() or time.monotonic() - self._saved >= self._pause:
            return True
        if progress.best_epoch == progress.epoch:
            weights = {name: value.detach().clone() for name, value in self._model.state_dict().items()}
            self._best = weights, replace(progress)
        return False

    def save(self, progress: Progress) -> None:
        """Save as ``last``. Before that, save ``best`` if an epoch since the last checkpoint is the best so far.

        DivergedError for weights that are not finite.
        """
        if not all(bool(norm.isfinite()) for norm in torch._foreach_norm(list(self._model.parameters()))):
            raise DivergedError(
                f"epoch {progress.epoch}, step {progress.step}: the weights are no longer finite; "
                "earlier checkpoints are kept; try a lower optimizer.lr"
            )
        self._saved = time.monotonic()
        progress.wall_seconds += self._saved - self._started
        self._started = self._saved
        # ``best`` first: a run that is killed between the two computes this epoch again, and writes both files.
        if progress.best_epoch == progress.epoch and not progress.partial:
            save(self.folder / BEST, self._model, None, progress)
            self._best = None
        self.save_best()
        last, new = self.folder / LAST, self.folder / "new.safetensors"
        save(new, self._model, self._optimizer, progress, self._observers.state())
        if last.exists():
            last.replace(self.folder / PREVIOUS)
        new.replace(last)
        self._pause = (time.monotonic() - self._saved) / MAX_SHARE_OF_TIME

    def save_best(self) -> None:
        """Save the best weights if they are from an epoch without its own checkpoint."""
        if self._best is not None:
            save(self.folder / BEST, self._best[0], None, self._best[1])
            self._best = None

    def start_stage(self, optimizer: Optimizer) -> None:
        """Save this optimizer's state from now on, and forget the best weights of the stage before."""
        self._optimizer, self._best = optimizer, None

    def keep(self, name: str) -> None:
        """Copy the best weights to a file of that name, unless it exists: a resumed run keeps the existing file."""
        if not (self.folder / name).exists():
            write_bytes(self.folder / name, (self.folder / BEST).read_bytes())

    def finish(self, keep: str) -> None:
        """Remove the checkpoints that a finished run does not keep. Nothing else may be needed from them."""
        for path in removable(self.folder, keep):
            path.unlink(missing_ok=True)

    def restore(self, prepare_stage: Callable[[Progress], Optimizer] | None = None) -> Progress | None:
        """Restore model, optimizer and observers from the newest intact checkpoint; None if there are no checkpoints.

        ``prepare_stage`` prepares the model for the checkpoint's stage and returns the stage's optimizer.
        A damaged file is skipped with a warning. DataError if no intact file is left.
        """
        paths = [path for path in (self.folder / LAST, self.folder / PREVIOUS) if path.exists()]
        for path in paths:
            try:
                tensors, about = read(path)
                progress = Progress(**about["progress"])
                with misfits(path):
                    if prepare_stage is not None:
                        self.start_stage(prepare_stage(progress))
                    restore_state(path, tensors, about, self._model, self._optimizer)
                self._observers.restore(with_prefix(CALLBACK, tensors))
            except DataError as error:
                log.warning("%s", error)
                continue
            if path != paths[0]:
                log.warning("resuming from %s, the checkpoint before it", path.name)
            self._check_best(progress)
            return progress
        if paths:
            raise DataError(f"{self.folder}: no intact checkpoint is left of {', '.join(p.name for p in paths)}")
        return None

    def _check_best(self, progress: Progress) -> None:
        """Check before training continues that the best weights can be read. DataError if they are lost."""
        if progress.best_epoch is None:
            return
        try:
            read(self.folder / BEST)
        except DataError as error:
            if progress.best_epoch != progress.epoch or progress.partial:
                raise DataError(f"{error}; it contained the best weights, of epoch {progress.best_epoch}") from error
            log.warning("%s; it is written again from the last checkpoint, which has the same weights", error)
            save(self.folder / BEST, self._model, None, progress)


class ReadOnlyCheckpoints(Checkpointer):
    """Restores, but saves nothing: for ranks other than rank 0."""

    def __init__(self, folder: Path, model: nn.Module, optimizer: Optimizer) -> None:
        super().__init__(folder, model, optimizer, None)

    def epoch(self, progress: Progress, *, last: bool) -> bool:
        return False

    def save(self, progress: Progress) -> None:
        """Do nothing: rank 0 saves."""

    def save_best(self) -> None:
        """Do nothing: rank 0 saves."""

    def _check_best(self, progress: Progress) -> None:
        """Do nothing: rank 0 checks."""


def save(
    path: Path,
    model: nn.Module | Mapping[str, Tensor],
    optimizer: Optimizer | None,
    progress: Progress,
    callback_state: Mapping[str, Tensor] | None = None,
) -> None:
    """Write weights and, for resuming, the state of the optimizer and of callbacks. The file is written atomically."""
    weights = model.state_dict() if isinstance(model, nn.Module) else model
    tensors = {f"{MODEL}{name}": value for name, value in weights.items()}
    tensors |= {f"{CALLBACK}{name}": value for name, value in (callback_state or {}).items()}
    state = optimizer.state_dict() if optimizer is not None else {"state": {}, "param_groups": []}
    scalars: dict[str, dict[str, Any]] = {}
    for index, values in state["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{OPTIMIZER}{index}.{name}"] = value
            else:
                scalars.setdefault(str(index), {})[name] = value
    groups = [{key: _plain(value) for key, value in group.items()} for group in state["param_groups"]]
    about = {"progress": asdict(progress), "optimizer": {"groups": groups, "state": scalars}}
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = serialize(contiguous, metadata={"aerun": json.dumps(about), "sha256": BLANK})
    write_bytes(path, with_checksum(content))


def load_model(path: Path, model: nn.Module) -> Progress:
    """Load the weights of ``path`` into ``model``. DataError for a file that is damaged or from another model."""
    tensors, about = read(path)
    restore_weights(path, tensors, model)
    return Progress(**about["progress"])


def load(path: Path, model: nn.Module, optimizer: Optimizer) -> Progress:
    """Like ``load_model``, and restore the optimizer too."""
    tensors, about = read(path)
    with misfits(path):
        restore_state(path, tensors, about, model, optimizer)
    return Progress(**about["progress"])


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, Tensor) else value


def read_callback_state(path: Path) -> dict[str, Tensor]:
    """The state of callbacks in a checkpoint."""
    return with_prefix(CALLBACK, read(path)[0])


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a checkpoint and the JSON of its header. DataError if a single byte is wrong."""
    content = read_intact(path)
    try:
        length = int.from_bytes(content[:8], "little")
        about = parse_json(parse_json(content[8 : 8 + length])["__metadata__"]["aerun"])
        check_header(about)
        return deserialize(content), about
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: is not a checkpoint of this version of aerun ({error})") from error
