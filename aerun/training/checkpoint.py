"""Weights and training state in safetensors files: tensors, and JSON beside them. Nothing is pickled.

Every file carries a SHA-256 over all of its bytes. Three are kept: ``last``, the one before it, and ``best``.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as deserialise
from safetensors.torch import save as serialise
from torch import Tensor, nn
from torch.optim import Optimizer

from aerun.base.files import write_bytes
from aerun.errors import DataError, DivergedError
from aerun.training.observers import Observers
from aerun.training.progress import Progress

log = logging.getLogger(__name__)
LAST, PREVIOUS, BEST = "last.safetensors", "previous.safetensors", "best.safetensors"
MODEL, OPTIMIZER, CALLBACK = "model.", "optimizer.", "callback."
BLANK = "0" * 64
IMPLEMENTATION_FLAGS = ("capturable", "fused", "foreach")  # machine-specific, not restored
MIN_SECONDS_BETWEEN_CHECKPOINTS = 1.0  # epochs that end sooner after one share the next


class Checkpointer:
    """Saves one run's state in a folder, the one before last kept in case the last is damaged.

    A checkpoint is the point to which a killed run goes back, so whatever else it writes must be on disk first.
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
        self._best: tuple[dict[str, Tensor], Progress] | None = None  # of an epoch without a checkpoint of its own

    def wall_seconds(self, progress: Progress) -> float:
        """How long the run has taken, all its sessions together."""
        return progress.wall_seconds + time.monotonic() - self._started

    def due(self) -> bool:
        """Whether the time between checkpoints has passed."""
        return self._interval is not None and time.monotonic() - self._saved >= self._interval

    def epoch(self, progress: Progress, *, last: bool) -> bool:
        """An epoch has ended: whether it is to be saved now. If not, the best weights are remembered."""
        if last or self.due() or time.monotonic() - self._saved >= MIN_SECONDS_BETWEEN_CHECKPOINTS:
            return True
        if progress.best_epoch == progress.epoch:
            weights = {name: value.detach().clone() for name, value in self._model.state_dict().items()}
            self._best = weights, replace(progress)
        return False

    def save(self, progress: Progress) -> None:
        """Save as ``last``; before it, if an epoch since the last checkpoint was the best so far, that as ``best``."""
        if not all(bool(norm.isfinite()) for norm in torch._foreach_norm(list(self._model.parameters()))):
            raise DivergedError(
                f"epoch {progress.epoch}, step {progress.step}: the weights are not finite any more; "
                "lower optimizer.lr or set trainer.clip_norm, in a new run; what was saved before is kept"
            )
        self._saved = time.monotonic()
        progress.wall_seconds += self._saved - self._started
        self._started = self._saved
        # The best first: a run killed between the two computes that epoch again, and this file with it.
        if progress.best_epoch == progress.epoch and not progress.partial:
            save(self.folder / BEST, self._model, None, progress)
            self._best = None
        self.save_best()
        last, new = self.folder / LAST, self.folder / "new.safetensors"
        save(new, self._model, self._optimizer, progress, self._observers.state())
        if last.exists():
            last.replace(self.folder / PREVIOUS)
        new.replace(last)

    def save_best(self) -> None:
        """Save the best weights, if they are of an epoch without a checkpoint of its own."""
        if self._best is not None:
            save(self.folder / BEST, self._best[0], None, self._best[1])
            self._best = None

    def enter(self, optimizer: Optimizer) -> None:
        """From now on this optimizer's state is saved, and nothing is remembered of what came before."""
        self._optimizer, self._best = optimizer, None

    def keep(self, name: str) -> None:
        """Copy the best weights to a file of that name, unless it is there: a run that went back keeps the first."""
        if not (self.folder / name).exists():
            write_bytes(self.folder / name, (self.folder / BEST).read_bytes())

    def restore(self, enter: Callable[[Progress], Optimizer] | None = None) -> Progress | None:
        """Put model and optimizer where the newest whole checkpoint has them; None if there never was one.

        ``enter`` prepares the model for a checkpoint's stage, and gives the optimizer of that.
        A damaged file is named in a warning and passed over; DataError if no whole one is left.
        """
        paths = [path for path in (self.folder / LAST, self.folder / PREVIOUS) if path.exists()]
        for path in paths:
            try:
                tensors, about = read(path)
                progress = _progress(path, about)
                if enter is not None:
                    self.enter(enter(progress))
                _put(path, tensors, about, self._model, self._optimizer)
                self._observers.restore(_of(CALLBACK, tensors))
            except DataError as error:
                log.warning("%s", error)
                continue
            if path != paths[0]:
                log.warning("going on from %s, the checkpoint before it", path.name)
            self._check_best(progress)
            return progress
        if paths:
            raise DataError(f"{self.folder}: no whole checkpoint is left of {', '.join(p.name for p in paths)}")
        return None

    def _check_best(self, progress: Progress) -> None:
        """Make sure that the best weights are there before more is computed; DataError if they are lost."""
        if progress.best_epoch is None:
            return
        try:
            read(self.folder / BEST)
        except DataError as error:
            if progress.best_epoch != progress.epoch or progress.partial:
                raise DataError(f"{error}; it held the best weights, those of epoch {progress.best_epoch}") from error
            log.warning("%s; its weights are those of the last checkpoint, and are saved again", error)
            save(self.folder / BEST, self._model, None, progress)


class ReadOnlyCheckpoints(Checkpointer):
    """Restores, and saves nothing: for processes of a run other than the first."""

    def __init__(self, folder: Path, model: nn.Module, optimizer: Optimizer) -> None:
        super().__init__(folder, model, optimizer, None)

    def epoch(self, progress: Progress, *, last: bool) -> bool:
        return False

    def save(self, progress: Progress) -> None:
        """Nothing: the first process saves."""

    def save_best(self) -> None:
        """Nothing: the first process saves."""

    def _check_best(self, progress: Progress) -> None:
        """Nothing: the first process checks."""


def save(
    path: Path,
    model: nn.Module | Mapping[str, Tensor],
    optimizer: Optimizer | None,
    progress: Progress,
    observed: Mapping[str, Tensor] | None = None,
) -> None:
    """Write weights and, to continue from, the state of the optimizer and of observers (``observed``); the file
    appears whole or not at all."""
    weights = model.state_dict() if isinstance(model, nn.Module) else model
    tensors = {f"{MODEL}{name}": value for name, value in weights.items()}
    tensors |= {f"{CALLBACK}{name}": value for name, value in (observed or {}).items()}
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
    content = serialise(contiguous, metadata={"aerun": json.dumps(about), "sha256": BLANK})
    write_bytes(path, content.replace(BLANK.encode(), hashlib.sha256(content).hexdigest().encode(), 1))


def load_model(path: Path, model: nn.Module) -> Progress:
    """Put the weights of ``path`` into ``model``; DataError names a file that is damaged or of another model."""
    tensors, about = read(path)
    _put_weights(path, tensors, model)
    return _progress(path, about)


def load(path: Path, model: nn.Module, optimizer: Optimizer) -> Progress:
    """As load_model, and put the optimizer where it was."""
    tensors, about = read(path)
    progress = _progress(path, about)
    _put(path, tensors, about, model, optimizer)
    return progress


def _put(path: Path, tensors: dict[str, Tensor], about: dict[str, Any], model: nn.Module, optimizer: Optimizer) -> None:
    """Put model and optimizer where a checkpoint has them."""
    _put_weights(path, tensors, model)
    state: dict[int, dict[str, Any]] = {
        int(index): dict(values) for index, values in about["optimizer"]["state"].items()
    }
    for key, value in tensors.items():
        if key.startswith(OPTIMIZER):
            index, _, name = key.removeprefix(OPTIMIZER).partition(".")
            state.setdefault(int(index), {})[name] = value
    groups = [
        {**saved, **{key: built[key] for key in IMPLEMENTATION_FLAGS if key in built}}
        for saved, built in zip(about["optimizer"]["groups"], optimizer.param_groups, strict=True)
    ]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                # Saved in one order of memory, but some optimizers go through it side by side with the parameter's own.
                own = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False)
                values[name] = own.copy_(value)


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, Tensor) else value


def _progress(path: Path, about: dict[str, Any]) -> Progress:
    try:
        return Progress(**about["progress"])
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: is a checkpoint of another version of aerun ({error})") from error


def _put_weights(path: Path, tensors: dict[str, Tensor], model: nn.Module) -> None:
    try:
        model.load_state_dict(_of(MODEL, tensors))
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise DataError(f"{path}: holds the weights of another model ({reason})") from error


def _of(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin so, without that."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def observed(path: Path) -> dict[str, Tensor]:
    """The state of observers that a checkpoint keeps."""
    return _of(CALLBACK, read(path)[0])


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a checkpoint and what is said about them; DataError if a single byte is wrong."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    match = re.search(rb'"sha256":"([0-9a-f]{64})"', content)
    blank = content[: match.start(1)] + BLANK.encode() + content[match.end(1) :] if match else b""
    if match is None or hashlib.sha256(blank).hexdigest().encode() != match.group(1):
        raise DataError(f"{path}: is not a whole checkpoint of aerun (its checksum does not match)")
    try:
        length = int.from_bytes(content[:8], "little")
        about = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["aerun"])
        return deserialise(content), about
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: is not a checkpoint of aerun ({error})") from error
