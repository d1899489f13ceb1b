"""The loss terms of an epoch, kept on the device and copied to the host once per logging interval."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from aerun.core.autoencoder import Autoencoder
from aerun.training.divergence import divergence
from aerun.training.parts import Parts, Update
from aerun.training.step import gradient_norm


class History:
    """The terms of one epoch, from its start or continued from a saved ``state``."""

    def __init__(self, parts: Parts, epoch: int, state: dict[str, Any]) -> None:
        self._parts, self._epoch = parts, epoch
        self._names: list[str] = list(state.get("names", []))
        self._rows: list[list[float]] = [list(row) for row in state.get("rows", [])]
        self._sizes: list[int] = list(state.get("sizes", []))
        self._logged: int = state.get("logged", 0)
        self._last: tuple[int, dict[str, float]] = (state.get("last_step", -1), state.get("last_values", {}))
        self._pending: list[Tensor] = []  # all terms of a step, then all of the next
        self._changes: list[float] = list(state.get("moves", []))
        self._pending_changes: list[Tensor] = []

    @property
    def steps(self) -> int:
        """How many steps of the epoch are done."""
        return len(self._sizes)

    @property
    def changes(self) -> list[float]:
        """The relative changes of the weights in the recorded steps that were copied to the host."""
        return self._changes

    def add(self, terms: dict[str, Tensor], images: int) -> None:
        """Add the terms of one step over ``images`` images, without waiting for the device."""
        self._names = list(terms)
        self._pending.extend(terms.values())
        self._sizes.append(images)

    def add_weight_change(self, before: list[Tensor]) -> None:
        """Add the relative change of the weights in one step, from ``before`` it, without waiting for the device."""
        self._pending_changes.append(relative_change(before, weights(self._parts.autoencoder)))

    def state(self, step: int) -> dict[str, Any]:
        """The state from which this epoch can be continued after ``step`` updates of the run, as JSON values."""
        self._fetch(step)
        terms = {"names": self._names, "rows": self._rows, "sizes": self._sizes, "logged": self._logged}
        terms["moves"] = self._changes
        return {**terms, "last_step": self._last[0], "last_values": self._last[1]}

    def flush(self, step: int, last: Update) -> dict[str, float]:
        """The values to log after ``step`` updates of the run: mean terms since the last flush, and the gradient norm,
        learning rate and active units of the last update.

        DivergedError for the first term that is not finite.
        """
        self._fetch(step)
        means = _means(self._rows[self._logged :], self._sizes[self._logged :])
        self._logged = len(self._rows)
        values = {f"train/{name}": mean for name, mean in zip(self._names, means, strict=True)}
        values["train/gradient_norm"] = gradient_norm(self._parts) if last.norm is None else float(last.norm)
        values["train/learning_rate"] = float(self._parts.optimizer.param_groups[0]["lr"])
        values["train/active_units"] = float(self._parts.ranks.total((last.code != 0).sum())) / self._sizes[-1]
        self._last = (step, values)
        return values

    def means(self) -> dict[str, float]:
        """The mean of each term over the epoch's images; ``update_ratio``, the largest relative change of the weights
        in one of the recorded steps (the first few of a training, and those that are logged); ``loss_roughness``, the
        mean absolute change of the loss between steps divided by its mean."""
        result = dict(zip(self._names, _means(self._rows, self._sizes), strict=True))
        if self._changes:
            result["update_ratio"] = max(self._changes)
        losses = [row[self._names.index("loss")] for row in self._rows]
        if len(losses) > 1 and (scale := abs(math.fsum(losses))):
            changes = math.fsum(abs(after - before) for before, after in pairwise(losses))
            result["loss_roughness"] = changes / (len(losses) - 1) / (scale / len(losses))
        return result

    def _fetch(self, step: int) -> None:
        """Copy the pending terms to the host. DivergedError for the first term that is not finite."""
        if not self._pending:
            return
        if self._pending_changes:
            changes = torch.stack(self._pending_changes).tolist()
            self._changes += [change for change in changes if math.isfinite(change)]
            self._pending_changes.clear()
        terms = torch.stack(self._pending).view(-1, len(self._names))
        rows: list[list[float]] = self._parts.ranks.total(terms).tolist()
        self._pending.clear()
        for offset, row in enumerate(rows):
            # Report a part of the loss rather than the total, which comes first but says least.
            for name, value in reversed(list(zip(self._names, row, strict=True))):
                if not math.isfinite(value):
                    rate = float(self._parts.optimizer.param_groups[0]["lr"])
                    number = step - len(rows) + offset + 1
                    norm = gradient_norm(self._parts)
                    what = f"epoch {self._epoch}, step {number}: {name} is {value} "
                    what += f"(gradient norm {norm:g}, learning rate {rate:g})"
                    raise divergence(self._parts, what, number - 1, self._changes)
        self._rows += rows


def weights(autoencoder: Autoencoder) -> list[Tensor]:
    """The trained matrices and kernels; biases and other vectors are left out."""
    return [p.detach() for p in autoencoder.parameters() if p.requires_grad and p.dim() > 1]


def relative_change(before: list[Tensor], after: list[Tensor]) -> Tensor:
    """Euclidean norm of the change divided by that of ``before``, over all tensors together; not finite if ``before``
    is 0."""
    change = torch._foreach_norm(torch._foreach_sub(after, before))
    return torch.stack(change).norm() / torch.stack(torch._foreach_norm(before)).norm()


def _means(rows: list[list[float]], sizes: list[int]) -> list[float]:
    total = sum(sizes)
    columns = zip(*rows, strict=True)
    return [math.fsum(value * size for value, size in zip(column, sizes, strict=True)) / total for column in columns]
