"""Initialize the output bias so that an untrained net outputs the mean training image."""

from __future__ import annotations

import torch
from torch import Tensor

from aerun.core.autoencoder import Autoencoder
from aerun.core.nested import find_tensor
from aerun.dataset.data import CHUNK, as_float
from aerun.dataset.rows import Rows

MARGIN = 1e-3  # from the bounds of the activation, where the bias would be infinite or have no gradient


@torch.no_grad()
def start_at_mean(autoencoder: Autoencoder, targets: Tensor | Rows, output_activation: str) -> None:
    """Set the decoder's last bias to the mean of targets[N,...], before the output activation.

    It is the mean of each value or, if the layer has one bias (or several adjacent ones) per channel, of each channel.
    """
    biases = [find_tensor(module, "bias") for module in autoencoder.decoder.modules()]
    [*_, last] = [bias for bias in biases if bias is not None]
    total = torch.zeros(autoencoder.output_shape, dtype=torch.float64)
    for chunk in targets.split(CHUNK):
        total += as_float(chunk).cpu().double().sum(0)
    mean = autoencoder.standardise_target((total / len(targets)).float())
    if last.numel() != mean.numel():
        mean = mean.flatten(1).mean(1)
        mean = mean.repeat_interleave(last.numel() // len(mean))
    last.copy_(inverse(output_activation, mean.reshape(last.shape)))


def inverse(output_activation: str, value: Tensor) -> Tensor:
    """The input for which the activation outputs ``value``, clamped to the inside of its range."""
    if output_activation == "sigmoid":
        return value.clamp(MARGIN, 1 - MARGIN).logit()
    if output_activation == "tanh":
        return value.clamp(MARGIN - 1, 1 - MARGIN).atanh()
    if output_activation == "softplus":
        return value.clamp_min(MARGIN).expm1().log()
    return value.clamp_min(MARGIN) if output_activation == "relu" else value
