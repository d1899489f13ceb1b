"""Numbers of parts that change during training, as a function of the step's number alone.

So a resumed run has the same values. Training uses copies of the parts in which a tensor without dimensions, on the
device, stands for each number. It is set before the step; a recorded step reads it at every replay.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from aerun.contracts import Loss, Moment, Noise
from aerun.training.parts import Parts

Curve = Callable[[Moment], float]


class Scheduled:
    """The scheduled numbers of ``parts``; the autoencoder gets the copies of its parts that training uses.

    ``changes``: whether there are any. ``loss``: the loss that is minimized. ``logged``: tensors of scheduled keys.
    ``total_steps``: planned steps, None for no planned end; the first has the number ``begun``.
    """

    def __init__(self, parts: Parts, total_steps: int | None, steps_per_epoch: int, begun: int = 0) -> None:
        self._total, self._steps_per_epoch, self._begun = total_steps, steps_per_epoch, begun
        self._noise, self._noise_curves = parts.noise, _curves("noise", parts.noise, parts)
        self._curves: list[tuple[Tensor, Curve]] = []
        self._values: list[float | None] = []
        self.logged: dict[str, Tensor] = {}
        autoencoder = parts.autoencoder
        self.loss: Loss = self._schedule("loss", parts.loss, parts)
        self.changes = False
        owners = {"sparsity": autoencoder.sparsity, "latent": autoencoder.latent}
        owners |= {f"regularizer.{name}": part for name, part in autoencoder.regularizers.items()}
        copies = {path.rpartition(".")[2]: (part, self._schedule(path, part, parts)) for path, part in owners.items()}
        autoencoder.while_training = {name: used for name, (part, used) in copies.items() if used is not part}
        for name in self._noise_curves:
            self.logged[f"noise.{name}"] = self._add(torch.float32, self._noise_curves[name], parts.device)
        self._values = [None] * len(self._curves)
        self.changes = bool(self._curves)

    def set(self, number: int) -> None:
        """Set all values for step ``number``."""
        at = self._moment(number)
        for index, (tensor, curve) in enumerate(self._curves):
            value = curve(at)
            if value != self._values[index]:
                self._values[index] = value
                tensor.fill_(value)

    def noise_at(self, number: int) -> Noise:
        """The noise of step ``number``. It is not recorded, so its values are numbers."""
        if not self._noise_curves:
            return self._noise
        at = self._moment(number)
        return with_values(self._noise, {name: curve(at) for name, curve in self._noise_curves.items()})

    def _moment(self, number: int) -> Moment:
        return Moment(number - self._begun, self._total, self._steps_per_epoch)

    def _schedule(self, path: str, part: Any, parts: Parts) -> Any:
        """A copy of the part with a tensor for each scheduled value, or the part itself without any."""
        tensors = {}
        for name, curve in _curves(path, part, parts).items():
            is_whole = isinstance(getattr(part, name), int)
            tensors[name] = self._add(torch.int64 if is_whole else torch.float32, curve, parts.device)
            if name in part.schedulable:
                self.logged[f"{path}.{name}"] = tensors[name]
        return with_values(part, tensors) if tensors else part

    def _add(self, dtype: torch.dtype, curve: Curve, device: torch.device) -> Tensor:
        tensor = torch.zeros((), dtype=dtype, device=device)
        self._curves.append((tensor, curve))
        return tensor


def _curves(path: str, part: Any, parts: Parts) -> dict[str, Curve]:
    """The values of the part that change: those that it changes itself, and those of keys with a schedule."""
    curves = dict(part.schedules())
    for schedule in parts.schedules:
        owner, _, name = schedule.key.rpartition(".")
        # In the first stages of a training, the sparsity and the latent are others.
        if owner == path and name in part.schedulable:
            curves[name] = partial(_value, schedule, getattr(part, name))
    return curves


def _value(schedule: Any, final: float, at: Moment) -> float:
    value: float = schedule.value(at, final)
    return round(value) if isinstance(final, int) else value


def with_values(part: Any, values: Mapping[str, Any]) -> Any:
    """A copy of the part with other values of some attributes. A module and its copy share weights and buffers."""
    changed = copy.copy(part)
    for name, value in values.items():
        object.__setattr__(changed, name, value)
    return changed
