"""torchvision.transforms.v2 by name, applied to every image once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aerun.errors import ConfigError
from aerun.spec import nearest


def apply_transforms(images: Tensor, names: list[Any], key: str) -> Tensor:
    """images[N,C,H,W] through the transforms, one image at a time, random ones drawn afresh for each.

    The draws depend on nothing but the order of the images. ConfigError for a name that torchvision does not
    have, for arguments that it refuses, and for results of different shapes.
    """
    if not names:
        return images
    if images.dim() != 4:
        raise ConfigError(f"{key}: transforms are for images, the data are vectors")
    steps = [_transform(name, key) for name in names]
    results = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for image in images:
            try:
                for step in steps:
                    image = step(image)
            except Exception as error:
                raise ConfigError(f"{key}={names}: fails on an image of {list(images.shape[1:])}: {error}") from error
            if not isinstance(image, Tensor) or image.dim() != 3:
                raise ConfigError(f"{key}={names}: must give an image [C,H,W]")
            results.append(image)
    shapes = {tuple(result.shape) for result in results}
    if len(shapes) > 1:
        raise ConfigError(f"{key}={names}: gives images of different shapes, {sorted(shapes)[:3]}")
    stacked = torch.stack(results)
    return stacked if stacked.dtype == torch.uint8 else stacked.float()


def _transform(name: Any, key: str) -> Any:
    from torchvision.transforms import v2

    if isinstance(name, dict) and len(name) == 1:
        [(name, arguments)] = name.items()
    else:
        arguments = {}
    allowed = (
        [entry for entry in v2.__all__ if isinstance(getattr(v2, entry), type)]
        if hasattr(v2, "__all__")
        else [entry for entry in dir(v2) if isinstance(getattr(v2, entry), type)]
    )
    if not isinstance(name, str) or name not in allowed:
        raise ConfigError(
            f"{key}: {name} is not a transform of torchvision.transforms.v2.{nearest(str(name), allowed)}"
        )
    try:
        return getattr(v2, name)(**(arguments or {}))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{key}: {name}({arguments}): {error}") from error
