"""What a network learned, as weights that can be shown."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from aerun.core.autoencoder import Autoencoder
from aerun.model.modules import TiedLinear


class Features(NamedTuple):
    """``images`` [N,C,H,W] of N units, and how much each is used [N], where that is known."""

    name: str
    images: Tensor
    use: Tensor | None


def features(autoencoder: Autoencoder, codes: Tensor) -> list[Features]:
    """``dictionary`` and ``first_layer``, each where it is images; for codes [N,*code_shape] of some images.

    The dictionary is there if the decoder ends in a linear layer: the image that each of that layer's inputs adds. Its
    ``use`` is what the input adds to the images of ``codes``: its mean absolute value times the norm of its image. The
    first layer are the encoder's weights, those that find what is there; left out where they are the dictionary's.
    """
    found = []
    last = [module for module in autoencoder.decoder.modules() if isinstance(getattr(module, "bias", None), Tensor)][-1]
    if isinstance(last, nn.Linear | TiedLinear) and len(autoencoder.output_shape) == 3:
        columns = (last.weight if isinstance(last, TiedLinear) else last.weight.T).detach()
        use = _mean_inputs(autoencoder, last, codes) * columns.norm(dim=1)
        found.append(Features("dictionary", columns.reshape(-1, *autoencoder.output_shape), use))
    layers = (module for module in autoencoder.encoder.modules() if isinstance(getattr(module, "weight", None), Tensor))
    first = next(layers, None)
    if first is None or len(autoencoder.input_shape) != 3:
        return found
    weight = first.weight
    assert isinstance(weight, Tensor)
    if not (isinstance(last, TiedLinear) and last.weight.data_ptr() == weight.data_ptr()):
        images = weight.detach() if weight.dim() == 4 else weight.detach().reshape(-1, *autoencoder.input_shape)
        # One layer each side: the units of both are the code's.
        shared = (
            found and found[0].use is not None and len(weight) == len(found[0].use) == math.prod(autoencoder.code_shape)
        )
        found.append(Features("first_layer", images, found[0].use if shared else None))
    return found


def _mean_inputs(autoencoder: Autoencoder, layer: nn.Module, codes: Tensor) -> Tensor:
    """The mean absolute value of each of a decoder layer's inputs."""
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].float().abs().sum(0)))
    try:
        autoencoder.decode(codes)
    finally:
        hook.remove()
    return torch.stack(seen).sum(0) / len(codes)
