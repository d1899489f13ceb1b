"""A cosine transform of blocks as a fixed linear path around both networks of a fully convolutional model."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aerun.model.modules import WEIGHTED

# Of red, green and blue: brightness, and two differences of colors, orthonormal.
COLORS = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]], dtype=torch.float64)
BODY = 0.1  # so much of the body's output counts: otherwise its first steps would be larger than what it is to learn
COLOR_SHARE = 2.0  # a difference of colors counts as a frequency so many times higher


class FromBlocks(nn.Module):
    """images[B,channels,H,W] -> body(images) / 10 + path(images), a value of each map for each block.

    Blocks are ``side`` x ``side`` pixels. The body begins at zero, as do further parameters of a code. Images whose
    sides are no multiples of ``side`` are padded with their last pixels.
    """

    def __init__(self, body: nn.Module, channels: int, maps: int, side: int, parameters_per_code: int) -> None:
        super().__init__()
        self.body, self.side = _starting_at_zero(body), side
        self.path = nn.Conv2d(channels, maps * parameters_per_code, side, side).requires_grad_(False)
        transform = cosine_transform(channels, maps, side)
        with torch.no_grad():
            self.path.weight.zero_()[: len(transform)] = transform.view(-1, channels, side, side)
            self.path.bias.zero_()  # type: ignore[union-attr]

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        if height % self.side or width % self.side:
            images = F.pad(images, (0, -width % self.side, 0, -height % self.side), mode="replicate")
        features: Tensor = BODY * self.body(images) + self.path(images)
        return features


class ToBlocks(nn.Module):
    """code[B,maps,h,w] -> body(code) / 10 + path(code): images, cut to ``size`` [H,W] unless that is None."""

    def __init__(self, body: nn.Module, channels: int, maps: int, side: int, size: tuple[int, int] | None) -> None:
        super().__init__()
        self.body, self.side, self.size = _starting_at_zero(body), side, size
        blocks = nn.Conv2d(maps, channels * side**2, 1).requires_grad_(False)
        transform = cosine_transform(channels, maps, side)
        with torch.no_grad():
            blocks.weight.zero_()[:, : len(transform), 0, 0] = transform.T
            blocks.bias.zero_()  # type: ignore[union-attr]
        self.path = nn.Sequential(blocks, nn.PixelShuffle(side))

    def forward(self, code: Tensor) -> Tensor:
        images: Tensor = BODY * self.body(code) + self.path(code)
        return images if self.size is None else images[:, :, : self.size[0], : self.size[1]]


def _starting_at_zero(body: nn.Module) -> nn.Module:
    """The network with its last layer at zero."""
    [*_, last] = [layer for layer in body.modules() if isinstance(layer, WEIGHTED)]
    nn.init.zeros_(last.weight)
    if last.bias is not None:
        nn.init.zeros_(last.bias)
    return body


def cosine_transform(channels: int, maps: int, side: int) -> Tensor:
    """The ``maps`` lowest frequencies of the orthonormal DCT-II of blocks [channels, side, side], one in each row; all
    of them, if there are fewer.

    Of three channels the transform takes brightness and two differences of colors; of another number, each by itself.
    """
    place, frequency = torch.arange(side, dtype=torch.float64) + 0.5, torch.arange(side, dtype=torch.float64)
    waves = torch.cos(math.pi / side * frequency[:, None] * place) * math.sqrt(2 / side)
    waves[0] /= math.sqrt(2)
    mixed = COLORS / COLORS.norm(dim=1, keepdim=True) if channels == 3 else torch.eye(channels, dtype=torch.float64)
    height = (frequency[:, None] ** 2 + frequency**2).sqrt() + 1
    weights = torch.ones(channels, dtype=torch.float64)
    if channels == 3:
        weights[1:] = COLOR_SHARE
    rank = (weights[:, None, None] * height).flatten().argsort(stable=True)[:maps]
    whole = torch.einsum("ca,ux,vy->cuvaxy", mixed, waves, waves).reshape(channels * side**2, -1)
    return whole[rank].float()
