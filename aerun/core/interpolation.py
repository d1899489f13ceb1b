"""Interpolation between codes: points [S,N,D] from codes[N,D] to other codes[N,D]."""

from __future__ import annotations

import torch
from torch import Tensor


def linear(first: Tensor, last: Tensor, steps: int) -> Tensor:
    """first[N,D] and last[N,D] -> [S,N,D]: straight lines, both ends included."""
    weights = torch.linspace(0, 1, steps, device=first.device).view(-1, 1, 1)
    return first + weights * (last - first)


def spherical(first: Tensor, last: Tensor, steps: int) -> Tensor:
    """first[N,D] and last[N,D] -> [S,N,D]: directions along the great circle, with linearly interpolated lengths.

    For unit vectors u and v at angle w, the direction at t is (sin((1-t) w) u + sin(t w) v) / sin w: Shoemake 1985,
    "Animating Rotation with Quaternion Curves". Samples of a high-dimensional Gaussian lie near a sphere, which the
    straight line between two samples leaves. If the great circle is not unique (an angle of 0 or 180 degrees, or a code
    of zeros), the result is the straight line.
    """
    lengths = first.norm(dim=1, keepdim=True), last.norm(dim=1, keepdim=True)
    u, v = (code / length.clamp_min(1e-30) for code, length in zip((first, last), lengths, strict=True))
    # This formula for the angle is precise near 0 and near 180 degrees, where the arc cosine is not.
    angle = 2 * torch.atan2((u - v).norm(dim=1, keepdim=True), (u + v).norm(dim=1, keepdim=True))
    t = torch.linspace(0, 1, steps, device=first.device).view(-1, 1, 1)
    direction = (((1 - t) * angle).sin() * u + (t * angle).sin() * v) / angle.sin().clamp_min(1e-30)
    curved = direction * ((1 - t) * lengths[0] + t * lengths[1])
    curved[0], curved[-1] = first, last
    is_circle = (angle.sin() > 1e-4) & (lengths[0] > 0) & (lengths[1] > 0)
    return torch.where(is_circle, curved, linear(first, last, steps))
