"""From one code to another: points [S,N,D] on the way between codes[N,D] and others."""

from __future__ import annotations

import torch
from torch import Tensor


def linear(first: Tensor, last: Tensor, steps: int) -> Tensor:
    """first[N,D] and last[N,D] -> [S,N,D]: the straight lines, both ends included."""
    weights = torch.linspace(0, 1, steps, device=first.device).view(-1, 1, 1)
    return first + weights * (last - first)


def spherical(first: Tensor, last: Tensor, steps: int) -> Tensor:
    """first[N,D] and last[N,D] -> [S,N,D]: directions along the great circle, lengths evenly from one to the other.

    With unit vectors u, v at the angle w the direction at t is (sin((1-t) w) u + sin(t w) v) / sin w: Shoemake 1985,
    "Animating Rotation with Quaternion Curves". Samples of a Gaussian of many dimensions lie near a sphere, which the
    straight line between two of them leaves. Where there is no one circle, at angles of 0 and of half a turn or from
    the origin, it is the straight line.
    """
    lengths = first.norm(dim=1, keepdim=True), last.norm(dim=1, keepdim=True)
    u, v = (code / length.clamp_min(1e-30) for code, length in zip((first, last), lengths, strict=True))
    # The angle by half-angle lengths: precise near 0 and near half a turn, where the arc cosine is not.
    angle = 2 * torch.atan2((u - v).norm(dim=1, keepdim=True), (u + v).norm(dim=1, keepdim=True))
    t = torch.linspace(0, 1, steps, device=first.device).view(-1, 1, 1)
    direction = (((1 - t) * angle).sin() * u + (t * angle).sin() * v) / angle.sin().clamp_min(1e-30)
    curved = direction * ((1 - t) * lengths[0] + t * lengths[1])
    curved[0], curved[-1] = first, last
    is_circle = (angle.sin() > 1e-4) & (lengths[0] > 0) & (lengths[1] > 0)
    return torch.where(is_circle, curved, linear(first, last, steps))
