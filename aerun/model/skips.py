"""Modules whose data take more than one way. This file imports torch; models import it only when they are built."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Climb(nn.Module):
    """Down, halving the size each time, and up again, with what was at each size on the way down put beside."""

    def __init__(self, down: Sequence[nn.Module], up: Sequence[nn.Module], merge: Sequence[nn.Module]) -> None:
        super().__init__()
        self.down, self.up, self.merge = nn.ModuleList(down), nn.ModuleList(up), nn.ModuleList(merge)

    def forward(self, x: Tensor) -> Tensor:
        """x[B,C,H,W] -> the same shape; H and W are multiples of 2 to the number of steps."""
        levels = [x]
        for step in self.down:
            levels.append(step(levels[-1]))
        x = levels.pop()
        for up, merge in zip(reversed(self.up), reversed(self.merge), strict=True):
            x = merge(torch.cat([up(x), levels.pop()], 1))
        return x


class Beside(nn.Module):
    """images[B,C,H,W] -> ``channels`` features of ``net``, the images themselves, and the features that are left.

    The net sees images whose sides are multiples of ``multiple``: their last rows and columns are repeated.
    """

    def __init__(self, net: nn.Module, channels: int, multiple: int) -> None:
        super().__init__()
        self.net, self.channels, self.multiple = net, channels, multiple

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        below, right = -height % self.multiple, -width % self.multiple
        padded = F.pad(images, (0, right, 0, below), mode="replicate") if below or right else images
        features = self.net(padded)[..., :height, :width]
        return torch.cat([features[:, : self.channels], images, features[:, self.channels :]], 1)


class AddedToInput(nn.Module):
    """code[B,channels+C,H,W] -> ``across`` of its last C channels plus ``change`` of the others."""

    def __init__(self, across: nn.Module, change: nn.Module, channels: int) -> None:
        super().__init__()
        self.across, self.change, self.channels = across, change, channels

    def forward(self, code: Tensor) -> Tensor:
        added: Tensor = self.across(code[:, self.channels :]) + self.change(code[:, : self.channels])
        return added
