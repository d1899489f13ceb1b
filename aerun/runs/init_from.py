"""The first weights of a run, from the layers of a finished one."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from aerun.core.autoencoder import Autoencoder
from aerun.core.nested import layers
from aerun.errors import ConfigError, DataError
from aerun.runs.folder import CHECKPOINTS, read_config, read_summary
from aerun.training.checkpoint import BEST, MODEL, read

log = logging.getLogger(__name__)
SIDES = ("encoder", "decoder")
PARTS = ("sparsity", "latent")  # modules, in some runs, that are taken over as a whole or not at all


def copy_matching_layers(folder: Path, autoencoder: Autoencoder) -> None:
    """Copy what corresponds of a finished run's best weights, and say in the log what did and what did not.

    The layers of either side correspond by their place, counted from the image; from the first whose shape is
    another, or that one side does not have, the rest stays as initialised. A tied layer gives what its mirror layer
    has, transposed. A sparsity or latent with weights is taken over where all of its shapes are the same. ConfigError
    where there is no such run, or nothing corresponds.
    """
    tensors = _weights(folder)
    taken: list[str] = []
    left: list[str] = []
    for side in SIDES:
        ours = _outside_in([name for name in layers(autoencoder) if name.startswith(side)], side)
        theirs = _outside_in({key.rpartition(".")[0] for key in tensors if key.startswith(side)}, side)
        for place, name in enumerate(ours):
            ended = place >= len(theirs) or any(other.startswith(side) for other in left)
            fits = not ended and _put(autoencoder.get_submodule(name), _layer(tensors, theirs, place))
            (taken if fits else left).append(name)
    for part in PARTS:
        own = {name: value for name, value in autoencoder.state_dict().items() if name.startswith(f"{part}.")}
        fits = bool(own) and all(name in tensors and tensors[name].shape == value.shape for name, value in own.items())
        if fits and autoencoder.device.type != "meta":
            for name, value in own.items():
                value.copy_(tensors[name])
        if own:
            (taken if fits else left).append(part)
    if not taken:
        raise ConfigError(f"init_from={folder}: no layer of that run has the place and shape of one here")
    if autoencoder.device.type == "meta":
        return  # it was only asked whether this can be
    log.info("from %s: %s; initialised: %s", folder, ", ".join(taken), ", ".join(left) or "nothing")


def _weights(folder: Path) -> dict[str, Tensor]:
    """A finished run's best weights, by name."""
    try:
        read_config(folder)
        if read_summary(folder) is None:
            raise ConfigError(f"init_from={folder}: that run has not finished")
        tensors, _ = read(folder / CHECKPOINTS / BEST)
    except DataError as error:
        raise ConfigError(f"init_from={folder}: {error}") from error
    return {key.removeprefix(MODEL): value for key, value in tensors.items() if key.startswith(MODEL)}


def _outside_in(names: Collection[str], side: str) -> list[str]:
    """The layers of a side from the image to the code: a name's numbers count as such."""

    def place(name: str) -> list[tuple[int, str]]:
        return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]

    return sorted(names, key=place, reverse=side == "decoder")


def _layer(tensors: Mapping[str, Tensor], names: Sequence[str], place: int) -> dict[str, Tensor]:
    """The weight, bias and so on of another run's layer; of a tied one the weight is made of its mirror layer's."""
    name = names[place]
    found = {key.rpartition(".")[2]: value for key, value in tensors.items() if key.rpartition(".")[0] == name}
    if "weight" not in found and name.startswith("decoder"):
        mirror = _outside_in({key.rpartition(".")[0] for key in tensors if key.startswith("encoder")}, "encoder")
        weight = tensors.get(f"{mirror[place]}.weight") if place < len(mirror) else None
        if weight is not None:
            found["weight"] = weight.t() if weight.dim() == 2 else weight
    return found


def _put(layer: nn.Module, new: Mapping[str, Tensor]) -> bool:
    """Copy a layer's parameters, if all are there and of its shape; a tied layer takes its bias alone."""
    own = {**dict(layer.named_parameters(recurse=False)), **dict(layer.named_buffers(recurse=False))}
    shapes: dict[str, torch.Size] = {name: value.shape for name, value in own.items()}
    if hasattr(layer, "untied"):
        assert isinstance(layer.weight, Tensor)
        shapes["weight"] = layer.weight.t().shape if layer.weight.dim() == 2 else layer.weight.shape
    if any(name not in new or new[name].shape != shape for name, shape in shapes.items()):
        return False
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(new[name])
    return True
