"""What arithmetic of less than 32 bits changes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from aerun.base.precision import Precision, allow_tf32
from aerun.training.parts import SingleProcess
from aerun.training.step import gradients_of

if TYPE_CHECKING:
    from aerun.dataset.data import Batch
    from aerun.training.parts import Parts

TINY = 1e-30  # lower bound of denominators


def difference(parts: Parts, batch: Batch, precision: Precision) -> dict[str, float]:
    """What ``precision`` changes on one batch with the present weights, against float32, in evaluation mode: the
    loss's relative difference, and the Euclidean norm of the gradient's difference over the gradient's norm."""
    parts = replace(parts, ranks=SingleProcess(), shares=None)
    was_training = parts.autoencoder.training
    parts.autoencoder.eval()
    results = []
    draw = parts.autoencoder.draw(len(batch), torch.Generator(parts.device).manual_seed(parts.seed))
    kept = [parameter.grad for parameter in parts.autoencoder.parameters()]
    try:
        for each in ("float32", precision):
            allow_tf32(each == "tf32")
            update = gradients_of(parts, each, False, None, None, cached=True)(batch.inputs, batch.targets, draw)
            parameters = parts.autoencoder.parameters()
            gradient = torch.cat([p.grad.detach().flatten().double().cpu() for p in parameters if p.grad is not None])
            results.append((float(update.terms["loss"]), gradient))
    finally:
        parts.autoencoder.train(was_training)
        allow_tf32(precision == "tf32")
        for parameter, before in zip(parts.autoencoder.parameters(), kept, strict=True):
            parameter.grad = before
    (loss, exact), (other, changed) = results
    size = exact.norm().clamp_min(TINY)
    return {"loss": abs(other - loss) / max(abs(loss), TINY), "gradient": float((changed - exact).norm() / size)}
