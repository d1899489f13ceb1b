"""Transforms of torchvision.transforms.v2 by name, applied once to every image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aerun.base.seeding import restored_generator
from aerun.errors import ConfigError, nearest


def apply_transforms(images: Tensor, names: list[Any], key: str) -> Tensor:
    """Apply the transforms to images[N,C,H,W] one at a time; random ones draw new numbers for each image.

    The random numbers depend only on the order of the images. ConfigError for a name that torchvision does not have,
    for arguments that it rejects, and for results of different shapes.
    """
    if not names:
        return images
    if images.dim() != 4:
        raise ConfigError(f"{key}: transforms need images; the data are vectors")
    return Transforms(names, key)(images)


class Transforms:
    """Applies transforms to a data set chunk by chunk; the result does not depend on the chunk size."""

    def __init__(self, names: list[Any], key: str) -> None:
        self._names, self._key = names, key
        self._steps = [_build_transform(name, key) for name in names]
        self._state: Tensor | None = None
        self._shapes: set[tuple[int, ...]] = set()

    def __call__(self, images: Tensor) -> Tensor:
        named = f"{self._key}={self._names}"
        results = []
        with restored_generator():
            if self._state is None:
                torch.manual_seed(0)
            else:
                torch.set_rng_state(self._state)
            for image in images:
                try:
                    for step in self._steps:
                        image = step(image)
                except Exception as error:
                    raise ConfigError(f"{named}: fails on an image of {list(images.shape[1:])}: {error}") from error
                if not isinstance(image, Tensor) or image.dim() != 3:
                    raise ConfigError(f"{named}: must return an image [C,H,W]")
                results.append(image)
            self._state = torch.get_rng_state()
        self._shapes |= {tuple(result.shape) for result in results}
        if len(self._shapes) > 1:
            raise ConfigError(f"{named}: returns images of different shapes, {sorted(self._shapes)[:3]}")
        stacked = torch.stack(results)
        return stacked if stacked.dtype == torch.uint8 else stacked.float()


def _build_transform(name: Any, key: str) -> Any:
    from torchvision.transforms import v2

    if isinstance(name, dict) and len(name) == 1:
        [(name, arguments)] = name.items()
    else:
        arguments = {}
    allowed = {key: value for key, value in vars(v2).items() if isinstance(value, type)}
    if not isinstance(name, str) or name not in allowed:
        raise ConfigError(
            f"{key}: {name} is not a transform of torchvision.transforms.v2.{nearest(str(name), allowed)}"
        )
    try:
        return allowed[name](**(arguments or {}))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{key}: {name}({arguments}): {error}") from error
