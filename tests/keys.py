"""Default keys of data sets in tests."""

from __future__ import annotations

import copy
import functools
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

# The keys shared by all data sets, at their simplest values.
PLAIN: dict[str, Any] = {
    "validation": 0,
    "train_limit": None,
    "split_seed": 0,
    "normalize": "none",
    "input_transform": [],
    "target_transform": [],
    "memory_limit": None,
}


def own_modules(shape: Sequence[int]) -> dict[str, Any]:
    """The nodes of model=modules: an encoder and a decoder of torch's own layers, for images of that shape."""
    size = math.prod(shape)

    def sequential(*layers: dict[str, Any]) -> dict[str, Any]:
        return {"_target_": "torch.nn.Sequential", "_args_": list(layers)}

    def layer(name: str, *args: Any, **keys: Any) -> dict[str, Any]:
        return {"_target_": f"torch.nn.{name}", **({"_args_": list(args)} if args else {}), **keys}

    down = layer("Linear", in_features=size, out_features=12), layer("GELU"), layer("Linear", 12, 8)
    up = layer("LazyLinear", 12), layer("GELU"), layer("Linear", 12, size), layer("Unflatten", 1, list(shape))
    return {"encoder": sequential(layer("Flatten"), *down), "decoder": sequential(*up)}


def needed(option: str, shape: Sequence[int] = (1, 28, 28)) -> list[str]:
    """Overrides for the values that a model needs to be given."""
    if option == "pretrained":  # a small network, with a layer for every latent
        return ["model.network=torchvision:shufflenet_v2_x0_5", "model.side=32", "model.code_size=16"]
    if option != "modules":
        return []
    written = {key: json.dumps(node).replace('"', "") for key, node in own_modules(shape).items()}
    return [f"++model.{key}={node}" for key, node in written.items()]


class Options:
    """Configurations with one option in several groups, from nodes that are composed once each.

    Composition takes as long as a training of a few steps. An option's keys do not depend on those of other groups, but
    for a sparsity's activation, which is the model's; ``tests/test_options.py`` compares with a whole composition.
    """

    def __init__(self, compose: Callable[[Sequence[str]], dict[str, Any]], words: Sequence[str]) -> None:
        self._model = functools.cache(lambda name: compose([*words, f"model={name}", *needed(name)]))
        self._node = functools.cache(lambda group, *more: compose([*words, *more])[group])

    def config(self, model: str, **options: str) -> dict[str, Any]:
        """The configuration of ``model`` with these options, each in the place of that of its group."""
        config: dict[str, Any] = copy.deepcopy(self._model(model))
        for group, option in options.items():
            words = [f"{group}={option}", *FITTING.get(option, [])]
            if group == "sparsity":
                words.append(f"++model.code_activation={config['model'].get('code_activation', 'identity')}")
            config[group] = copy.deepcopy(self._node(group, *words))
        return config


# Overrides for codes of any number of channels.
FITTING = {
    "vq": ["latent.dimension=1", "latent.entries=8"],
    "residual_vq": ["latent.dimension=1", "latent.entries=8"],
    "fsq": ["latent.levels=[5]"],
    "lfq": ["latent.dimension=1"],
}
