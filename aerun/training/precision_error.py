"""The error of arithmetic with less than 32 bits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from aerun.base.precision import Precision, allow_tf32
from aerun.core.autoencoder import LABELS, SECOND_VIEW
from aerun.dataset.data import as_float
from aerun.training.parts import SingleProcess
from aerun.training.step import make_gradients

if TYPE_CHECKING:
    from aerun.dataset.data import Batch
    from aerun.training.parts import Parts

MIN_DENOMINATOR = 1e-30


def measure_precision_error(parts: Parts, batch: Batch, precision: Precision) -> dict[str, float]:
    """The error of ``precision`` on one batch with the current weights, relative to float32, in evaluation mode.

    ``loss``: relative difference of the loss. ``gradient``: Euclidean norm of the difference of the gradients divided
    by the norm of the gradient.
    """
    parts = replace(parts, ranks=SingleProcess(), shares=None)
    was_training = parts.autoencoder.training
    parts.autoencoder.eval()
    results = []
    extras = parts.autoencoder.draw_extras(
        len(batch), lambda name: torch.Generator(parts.device).manual_seed(parts.seed)
    )
    if parts.autoencoder.two_views:
        extras[SECOND_VIEW] = as_float(batch.inputs)
    if parts.autoencoder.condition is not None and batch.labels is not None:
        extras[LABELS] = batch.labels
    kept = [parameter.grad for parameter in parts.autoencoder.parameters()]
    try:
        for each in ("float32", precision):
            allow_tf32(each == "tf32")
            update = make_gradients(parts, each, False, None, None, cached=True)(batch.inputs, batch.targets, extras)
            parameters = parts.autoencoder.parameters()
            gradient = torch.cat([p.grad.detach().flatten().double().cpu() for p in parameters if p.grad is not None])
            results.append((float(update.terms["loss"]), gradient))
    finally:
        parts.autoencoder.train(was_training)
        allow_tf32(precision == "tf32")
        for parameter, before in zip(parts.autoencoder.parameters(), kept, strict=True):
            parameter.grad = before
    (loss, exact), (other, changed) = results
    size = exact.norm().clamp_min(MIN_DENOMINATOR)
    return {
        "loss": abs(other - loss) / max(abs(loss), MIN_DENOMINATOR),
        "gradient": float((changed - exact).norm() / size),
    }
