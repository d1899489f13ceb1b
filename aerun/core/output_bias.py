"""Where the output of a net begins: at the mean of the training images."""

from __future__ import annotations

import torch
from torch import Tensor

from aerun.core.autoencoder import Autoencoder
from aerun.dataset.data import CHUNK, as_float
from aerun.dataset.rows import Rows

MARGIN = 1e-3  # a bias at the very edge of the activation's range would be infinite, or could not be learned


@torch.no_grad()
def begin_at_mean(autoencoder: Autoencoder, targets: Tensor | Rows, output_activation: str) -> None:
    """Set the decoder's last bias so that an output of nothing else is the mean of targets[N,...]: of each value, or
    of each channel, where the layer has one bias a channel, or several next to each other."""
    biases = [getattr(module, "bias", None) for module in autoencoder.decoder.modules()]
    [*_, last] = [bias for bias in biases if isinstance(bias, Tensor)]
    total = torch.zeros(autoencoder.output_shape, dtype=torch.float64)
    for chunk in targets.split(CHUNK):
        total += as_float(chunk).cpu().double().sum(0)
    mean = autoencoder.standardise_target((total / len(targets)).float())
    if last.numel() != mean.numel():
        mean = mean.flatten(1).mean(1)
        mean = mean.repeat_interleave(last.numel() // len(mean))
    last.copy_(inverse(output_activation, mean.reshape(last.shape)))


def inverse(output_activation: str, value: Tensor) -> Tensor:
    """What that activation takes to ``value``, which is kept inside its range."""
    if output_activation == "sigmoid":
        return value.clamp(MARGIN, 1 - MARGIN).logit()
    if output_activation == "tanh":
        return value.clamp(MARGIN - 1, 1 - MARGIN).atanh()
    if output_activation == "softplus":
        return value.clamp_min(MARGIN).expm1().log()
    return value.clamp_min(MARGIN) if output_activation == "relu" else value
