"""The module of ``aux_k``, which counts the steps since each unit was last active."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aerun.contracts import Pass, Penalty, Regularizer, Terms


class AuxK(nn.Module, Regularizer):
    """See ``aux_k.AuxK``. ``idle``: steps since each unit was last active, in any image of the whole minibatch."""

    schedulable = ("weight",)

    idle: Tensor

    def __init__(self, k: int, after_steps: int, weight: float, units: int) -> None:
        super().__init__()
        self.k, self.after_steps, self.weight = k, after_steps, weight
        self.register_buffer("idle", torch.zeros(units))

    def penalties(self, run: Pass) -> Terms:
        if self.training:
            active = (run.gather(run.code.detach()) != 0).transpose(0, 1).flatten(1).any(1)
            self.idle.add_(1).masked_fill_(active, 0)
        dead = (self.idle >= self.after_steps).view(-1, *[1] * (run.code.dim() - 2))
        dtype = run.targets.dtype
        code = _keep_largest(run.features.relu().where(dead, 0).to(dtype), self.k)
        change = run.decoder(code) - run.decoder(torch.zeros_like(code[:1]))
        errors = (run.residual.detach() - change).square().flatten(1).sum(1)
        return [Penalty("aux_k", errors.mean() * run.loss.scale(run.targets[0].numel()), self.weight)]


def _keep_largest(values: Tensor, k: int) -> Tensor:
    """values[B,...] with only the k largest of each row; the others are zero."""
    rows = values.flatten(1)
    kept, places = rows.topk(min(k, rows.shape[1]), dim=1)
    return rows.new_zeros(rows.shape).scatter(1, places, kept).view(values.shape)
