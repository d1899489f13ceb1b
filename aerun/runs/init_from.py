"""Initial weights of a run from the matching layers of a finished run."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from aerun.base.arguments import whole_number
from aerun.core.autoencoder import Autoencoder
from aerun.core.nested import has_linear_path, layers, tied_weight
from aerun.errors import ConfigError, DataError
from aerun.runs.folder import CHECKPOINTS, read_config, read_summary
from aerun.training.checkpoint import read
from aerun.training.checkpoint_files import BEST
from aerun.training.checkpoint_state import MODEL

log = logging.getLogger(__name__)
SIDES = ("encoder", "decoder")
LINEAR_PATHS = tuple(f"{side}.linear." for side in SIDES)
WHOLE_PARTS = (
    "sparsity",
    "latent",
    "regularizer",
    "condition",
)  # modules in some runs, copied completely or not at all


def copy_matching_layers(folder: Path, autoencoder: Autoencoder) -> None:
    """Copy the matching layers of a finished run's best weights, and log which layers were copied.

    Layers of the encoder and of the decoder match by their position, counted from the image, as long as their shapes
    are equal. From the first mismatch on, layers keep their initial weights. The weight of a tied layer is its mirror
    layer's, transposed. A sparsity, latent or condition with weights is copied if all of its shapes match. ConfigError
    if there is no such run, or nothing matches. A linear path remains that of this run's images.
    """
    tensors, has_path = _read_weights(folder)
    if has_path != has_linear_path(autoencoder):
        found, present = ("pca", "none") if has_path else ("none", "pca")
        raise ConfigError(f"init_from={folder} and model.linear_path={present}: that run has linear_path={found}")
    tensors = {key: value for key, value in tensors.items() if not (has_path and key.startswith(LINEAR_PATHS))}
    copied: list[str] = []
    initialized: list[str] = []
    for side in SIDES:
        trained = [name for name in layers(autoencoder) if not (has_path and f"{name}.".startswith(LINEAR_PATHS))]
        ours = _outside_in([name for name in trained if name.startswith(side)], side)
        theirs = _outside_in({key.rpartition(".")[0] for key in tensors if key.startswith(side)}, side)
        for place, name in enumerate(ours):
            ended = place >= len(theirs) or any(other.startswith(side) for other in initialized)
            fits = not ended and _copy_layer(autoencoder.get_submodule(name), _layer_tensors(tensors, theirs, place))
            (copied if fits else initialized).append(name)
    for part in WHOLE_PARTS:
        own = {name: value for name, value in autoencoder.state_dict().items() if name.startswith(f"{part}.")}
        fits = bool(own) and all(name in tensors and tensors[name].shape == value.shape for name, value in own.items())
        if fits and autoencoder.device.type != "meta":
            for name, value in own.items():
                value.copy_(tensors[name])
        if own:
            (copied if fits else initialized).append(part)
    if not copied:
        raise ConfigError(
            f"init_from={folder}: no layer of that run has the position and shape of a layer of this model"
        )
    if autoencoder.device.type == "meta":
        return  # only a check whether layers match
    log.info("from %s: %s; initialized: %s", folder, ", ".join(copied), ", ".join(initialized) or "nothing")


def _read_weights(folder: Path) -> tuple[dict[str, Tensor], bool]:
    """A finished run's best weights, by name, and whether its networks have a linear path."""
    try:
        model = read_config(folder)["model"]
        if read_summary(folder) is None:
            raise ConfigError(f"init_from={folder}: that run has not finished")
        tensors, _ = read(folder / CHECKPOINTS / BEST)
    except DataError as error:
        raise ConfigError(f"init_from={folder}: {error}") from error
    weights = {key.removeprefix(MODEL): value for key, value in tensors.items() if key.startswith(MODEL)}
    return weights, model.get("linear_path", "none") != "none"


def _outside_in(names: Collection[str], side: str) -> list[str]:
    """The layers of one side, sorted from the image to the code; numbers in names are compared as numbers."""

    def position(name: str) -> list[tuple[int, str]]:
        parts = ((whole_number(part), part) for part in name.split("."))
        return [(-1, part) if number is None else (number, "") for number, part in parts]

    return sorted(names, key=position, reverse=side == "decoder")


def _layer_tensors(tensors: Mapping[str, Tensor], names: Sequence[str], place: int) -> dict[str, Tensor]:
    """The tensors of another run's layer by name; the weight of a tied layer is computed from its mirror layer."""
    name = names[place]
    found = {key.rpartition(".")[2]: value for key, value in tensors.items() if key.rpartition(".")[0] == name}
    if "weight" not in found and name.startswith("decoder"):
        mirror = _outside_in({key.rpartition(".")[0] for key in tensors if key.startswith("encoder")}, "encoder")
        weight = tensors.get(f"{mirror[place]}.weight") if place < len(mirror) else None
        if weight is not None:
            found["weight"] = weight.t() if weight.dim() == 2 else weight
    return found


def _copy_layer(layer: nn.Module, new: Mapping[str, Tensor]) -> bool:
    """Copy a layer's tensors if all exist and have its shapes, and return whether they do; a tied layer gets only its
    bias."""
    own = {**dict(layer.named_parameters(recurse=False)), **dict(layer.named_buffers(recurse=False))}
    shapes: dict[str, torch.Size] = {name: value.shape for name, value in own.items()}
    weight = tied_weight(layer)
    if weight is not None:
        shapes["weight"] = weight.shape
    if any(name not in new or new[name].shape != shape for name, shape in shapes.items()):
        return False
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(new[name])
    return True
