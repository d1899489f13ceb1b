"""What a network learned: weights that can be shown as images."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from aerun.core.autoencoder import Autoencoder
from aerun.core.nested import find_tensor
from aerun.model.modules import TiedLinear


class Features(NamedTuple):
    """``images`` [N,C,H,W] of N units, and the ``use`` of each [N], if known."""

    name: str
    images: Tensor
    use: Tensor | None


def find_features(autoencoder: Autoencoder, codes: Tensor) -> list[Features]:
    """``dictionary`` and ``first_layer``, each if it consists of images. ``codes`` [N,*code_shape] are of some images.

    - ``dictionary``: if the decoder ends in a linear layer, the image that each input of that layer adds. Its ``use``
      is how much the input adds to the images of ``codes``: its mean absolute value times the norm of its image.
    - ``first_layer``: the weights of the encoder's first layer, unless tied weights make them the dictionary.
    """
    found = []
    last = [module for module in autoencoder.decoder.modules() if find_tensor(module, "bias") is not None][-1]
    if isinstance(last, nn.Linear | TiedLinear) and len(autoencoder.output_shape) == 3:
        columns = (last.weight if isinstance(last, TiedLinear) else last.weight.T).detach()
        use = _mean_inputs(autoencoder, last, codes) * columns.norm(dim=1)
        found.append(Features("dictionary", columns.reshape(-1, *autoencoder.output_shape), use))
    weights = (find_tensor(module, "weight") for module in autoencoder.encoder.modules())
    weight = next((weight for weight in weights if weight is not None), None)
    if weight is None or len(autoencoder.input_shape) != 3:
        return found
    if not (isinstance(last, TiedLinear) and last.weight.data_ptr() == weight.data_ptr()):
        images = weight.detach() if weight.dim() == 4 else weight.detach().reshape(-1, *autoencoder.input_shape)
        # With one layer on each side, the units of both layers are those of the code.
        is_code = (
            found and found[0].use is not None and len(weight) == len(found[0].use) == math.prod(autoencoder.code_shape)
        )
        found.append(Features("first_layer", images, found[0].use if is_code else None))
    return found


def _mean_inputs(autoencoder: Autoencoder, layer: nn.Module, codes: Tensor) -> Tensor:
    """The mean absolute value of each input of a decoder layer."""
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].float().abs().sum(0)))
    try:
        autoencoder.decode(codes)
    finally:
        hook.remove()
    return torch.stack(seen).sum(0) / len(codes)
