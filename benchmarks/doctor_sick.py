"""Parts that make a run sick in one way that no key of ours can: data, a loss and models with the usual mistakes.

They are named by ``_target_`` with ``trusted_packages=[benchmarks]``. Nothing here is to be used otherwise.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aerun.dataset.idx import FashionMNISTMini
from aerun.loss import MSE
from aerun.model import FullyConnected

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from aerun.dataset.data import Arrays, Data, Split
    from aerun.model.spec import Codec, Shape


@dataclass(frozen=True, kw_only=True)
class Shuffled(FashionMNISTMini):
    """Inputs in one order, targets in another."""

    def load(self, device: torch.device) -> Data:
        return _with_targets(super().load(device), lambda targets, order: targets[order])


@dataclass(frozen=True, kw_only=True)
class Averaged(FashionMNISTMini):
    """Each target is the mean of all of them."""

    def load(self, device: torch.device) -> Data:
        from aerun.dataset.data import as_float

        return _with_targets(
            super().load(device),
            lambda targets, order: as_float(targets).mean(0, keepdim=True).repeat(len(targets), 1, 1, 1),
        )


def _with_targets(data: Data, change: object) -> Data:
    import torch

    def changed(split: Split, seed: int) -> Split:
        order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
        return dataclasses.replace(split, targets=change(split.targets, order))  # type: ignore[operator]

    assert data.validation is not None
    train, validation, test = (changed(part, i) for i, part in enumerate((data.train, data.validation, data.test)))
    return dataclasses.replace(data, train=train, validation=validation, test=test)


@dataclass(frozen=True, kw_only=True)
class Standardised(FashionMNISTMini):
    """Images of mean 0 and deviation 1 as they come, which no sigmoid reaches."""

    def read(self) -> Arrays:
        arrays = super().read()
        train, test = ((np.asarray(images) / 255.0 - 0.286) / 0.353 for images in (arrays.train, arrays.test))
        return dataclasses.replace(arrays, train=train.astype(np.float32), test=test.astype(np.float32))


@dataclass(frozen=True)
class Broadcasting(MSE):
    """[B,1,P] less [B,P], squared, and the mean of it: every output against every target.

    Written out, since all those differences of a thousand images would take gigabytes.
    """

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        y, x = prediction.flatten(1), target.flatten(1)
        return (y.square().mean(0) - 2 * y.mean(0) * x.mean(0) + x.square().mean(0)).mean()


@dataclass(frozen=True, kw_only=True)
class SigmoidAtTheEnd(FullyConnected):
    """A decoder that ends in a sigmoid, for a loss that takes logits."""

    def build(self, input_shape: Shape, output_shape: Shape, parameters_per_code: int) -> Codec:
        from torch import nn

        codec = super().build(input_shape, output_shape, parameters_per_code)
        return codec._replace(decoder=nn.Sequential(codec.decoder, nn.Sigmoid()), cuts=None)


@dataclass(frozen=True, kw_only=True)
class Deaf(FullyConnected):
    """The decoder's weights are 0 and stay so: it gives its bias whatever the code."""

    def build(self, input_shape: Shape, output_shape: Shape, parameters_per_code: int) -> Codec:
        codec = super().build(input_shape, output_shape, parameters_per_code)
        weight = codec.decoder[0].weight  # type: ignore[index]
        weight.data.zero_()
        weight.requires_grad_(False)
        return codec


@dataclass(frozen=True, kw_only=True)
class Bright(FullyConnected):
    """The output's biases are so high that a sigmoid gives 1 for every pixel, and passes no gradient back."""

    def build(self, input_shape: Shape, output_shape: Shape, parameters_per_code: int) -> Codec:
        codec = super().build(input_shape, output_shape, parameters_per_code)
        bias = codec.decoder[-2].bias  # type: ignore[index]
        bias.data.fill_(100.0)
        return codec


@dataclass(frozen=True, kw_only=True)
class Dead(FullyConnected):
    """The code's biases are so low that a ReLU lets nothing through."""

    def build(self, input_shape: Shape, output_shape: Shape, parameters_per_code: int) -> Codec:
        codec = super().build(input_shape, output_shape, parameters_per_code)
        codec.encoder[-1].bias.data.fill_(-100.0)  # type: ignore[index]
        return codec
