"""The loss terms of an epoch, kept on the device and brought to the host once per logging interval."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from aerun.core.autoencoder import Autoencoder
from aerun.errors import DivergedError
from aerun.training.parts import Parts, Update
from aerun.training.step import gradient_norm


class History:
    """Terms of one epoch, from its start or from the ``state`` of an earlier part of it."""

    def __init__(self, parts: Parts, epoch: int, state: dict[str, Any]) -> None:
        self._parts, self._epoch = parts, epoch
        self._names: list[str] = list(state.get("names", []))
        self._rows: list[list[float]] = [list(row) for row in state.get("rows", [])]
        self._sizes: list[int] = list(state.get("sizes", []))
        self._logged: int = state.get("logged", 0)
        self._last: tuple[int, dict[str, float]] = (state.get("last_step", -1), state.get("last_values", {}))
        self._pending: list[Tensor] = []  # all terms of a step, then all of the next
        self._moves: list[float] = list(state.get("moves", []))
        self._moving: list[Tensor] = []

    @property
    def steps(self) -> int:
        """How many steps the epoch has taken."""
        return len(self._sizes)

    def add(self, terms: dict[str, Tensor], images: int) -> None:
        """Take the terms of one step over so many images, without waiting for them."""
        self._names = list(terms)
        self._pending.extend(terms.values())
        self._sizes.append(images)

    def moved(self, before: list[Tensor]) -> None:
        """Take how far a step has moved the weights from where they were ``before``, without waiting for it."""
        self._moving.append(relative_change(before, weights(self._parts.autoencoder)))

    def state(self, step: int) -> dict[str, Any]:
        """All that is needed to go on with this epoch after ``step`` updates of the run, as JSON values."""
        self._bring(step)
        terms = {"names": self._names, "rows": self._rows, "sizes": self._sizes, "logged": self._logged}
        terms["moves"] = self._moves
        return {**terms, "last_step": self._last[0], "last_values": self._last[1]}

    def flush(self, step: int, last: Update) -> dict[str, float]:
        """What is logged after ``step`` updates of the run: the mean terms since the last flush, and numbers of the
        last update.

        Raises DivergedError at the first term that is not finite.
        """
        self._bring(step)
        means = _means(self._rows[self._logged :], self._sizes[self._logged :])
        self._logged = len(self._rows)
        values = {f"train/{name}": mean for name, mean in zip(self._names, means, strict=True)}
        values["train/gradient_norm"] = gradient_norm(self._parts) if last.norm is None else float(last.norm)
        values["train/learning_rate"] = float(self._parts.optimizer.param_groups[0]["lr"])
        values["train/active_units"] = float(self._parts.ranks.total((last.code != 0).sum())) / self._sizes[-1]
        self._last = (step, values)
        return values

    def means(self) -> dict[str, float]:
        """Each term's mean over the epoch's images; ``update_ratio``, the largest relative change of the weights by
        one step, of those looked at (the first few of a training, and those that are logged); ``loss_roughness``, the
        mean absolute change of the loss from step to step over its mean."""
        result = dict(zip(self._names, _means(self._rows, self._sizes), strict=True))
        if self._moves:
            result["update_ratio"] = max(self._moves)
        losses = [row[self._names.index("loss")] for row in self._rows]
        if len(losses) > 1 and (scale := abs(math.fsum(losses))):
            changes = math.fsum(abs(after - before) for before, after in pairwise(losses))
            result["loss_roughness"] = changes / (len(losses) - 1) / (scale / len(losses))
        return result

    def _bring(self, step: int) -> None:
        """Wait for the pending terms; DivergedError at the first that is not finite."""
        if not self._pending:
            return
        terms = torch.stack(self._pending).view(-1, len(self._names))
        rows: list[list[float]] = self._parts.ranks.total(terms).tolist()
        self._pending.clear()
        for offset, row in enumerate(rows):
            # The total comes first but says least: name the part of it that went wrong.
            for name, value in reversed(list(zip(self._names, row, strict=True))):
                if not math.isfinite(value):
                    rate = float(self._parts.optimizer.param_groups[0]["lr"])
                    norm = gradient_norm(self._parts)
                    raise DivergedError(
                        f"epoch {self._epoch}, step {step - len(rows) + offset + 1}: {name} is {value} "
                        f"(gradient norm {norm:g}, learning rate {rate:g}). "
                        "Lower optimizer.lr or set trainer.clip_norm, in a new run; what was saved before is kept"
                    )
        self._rows += rows
        if self._moving:
            self._moves += torch.stack(self._moving).tolist()
            self._moving.clear()


def weights(autoencoder: Autoencoder) -> list[Tensor]:
    """The matrices and kernels that are trained."""
    return [p.detach() for p in autoencoder.parameters() if p.requires_grad and p.dim() > 1]


def relative_change(before: list[Tensor], after: list[Tensor]) -> Tensor:
    """Euclidean norm of the change over that of what was before, all tensors together."""
    change = torch._foreach_norm(torch._foreach_sub(after, before))
    return torch.stack(change).norm() / torch.stack(torch._foreach_norm(before)).norm().clamp_min(1e-30)


def _means(rows: list[list[float]], sizes: list[int]) -> list[float]:
    total = sum(sizes)
    columns = zip(*rows, strict=True)
    return [math.fsum(value * size for value, size in zip(column, sizes, strict=True)) / total for column in columns]
