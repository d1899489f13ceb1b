"""What a new model starts from, other than random weights: statistics of the training images, or files.

A run that is continued, or opened again, reads its weights from a checkpoint instead.
"""

from __future__ import annotations

import torch
from torch import Tensor

from aerun.config.settings import Settings
from aerun.core.autoencoder import Autoencoder, Standardize
from aerun.core.output_bias import start_at_mean
from aerun.dataset.data import CHUNK
from aerun.dataset.rows import Rows
from aerun.errors import ConfigError
from aerun.metrics.baselines import as_rows, mean_of, principal_components
from aerun.training.build import output_activation
from aerun.training.parts import Parts

SMALLEST = 1e-6  # standard deviation of a component, as a share of the largest, below which it is not divided by


def set_start(settings: Settings, parts: Parts) -> None:
    """Set the weights that the model takes from elsewhere, and those that its keys derive from the training images.

    ConfigError if they cannot be had, and for too few images.
    """
    try:
        settings.model.load_start(parts.autoencoder.encoder, parts.autoencoder.decoder)
    except ValueError as error:
        raise ConfigError(f"{settings.name('model')}: {error}") from error
    targets = parts.data.train.targets.cpu()
    if settings.model.linear_path == "pca":
        start_at_components(parts.autoencoder, targets)
    elif settings.model.output_bias == "mean":
        start_at_mean(parts.autoencoder, targets, output_activation(settings))


@torch.no_grad()
def start_at_components(autoencoder: Autoencoder, targets: Tensor | Rows) -> None:
    """Fill the linear path of encoder and decoder with the principal components of targets[N,...].

    ConfigError if there are fewer components than units of the code, or if they take too long to compute.
    """
    from aerun.model.linear_path import Affine, LinearPath, set_components

    encoder, decoder = autoencoder.encoder, autoencoder.decoder
    assert isinstance(encoder, LinearPath) and isinstance(decoder, LinearPath)
    [size] = autoencoder.code_shape
    mean = mean_of(targets)
    components = principal_components(targets, mean, size)
    found = 0 if components is None else components.shape[1]
    if components is None or found < size:
        why = "too slow for images of this size" if components is None else f"the training images have {found}"
        raise ConfigError(f"model.linear_path=pca: needs model.code_size={size} principal components ({why})")
    squares = sum(((as_rows(chunk) - mean) @ components).square().sum(0) for chunk in targets.split(CHUNK))
    deviations = (torch.as_tensor(squares) / len(targets)).sqrt()
    deviations[deviations <= SMALLEST * deviations.max()] = 1
    scales = [
        Affine(*_flat(scale, autoencoder.output_shape))
        for scale in (autoencoder.standardise_input, autoencoder.standardise_target)
    ]
    set_components(encoder, decoder, components, mean, deviations, scales)


def _flat(scale: Standardize, shape: tuple[int, ...]) -> list[Tensor]:
    """Mean and standard deviation of every value [P]; 0 and 1 without statistics."""
    zero, one = torch.zeros(()), torch.ones(())
    values = (zero if scale.mean is None else scale.mean, one if scale.deviation is None else scale.deviation)
    return [value.cpu().double().expand(shape).flatten() for value in values]
