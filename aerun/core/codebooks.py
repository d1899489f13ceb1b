"""Codes that are near those of a quantized latent."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from aerun.contracts import Shape


def nearest_entries(codes: Tensor, codebooks: Tensor, code_shape: Shape) -> Tensor:
    """codes[N,*code_shape] -> codes of the entries of codebooks[S,G,K,d] (see ``aerun.contracts.Latent.codebooks``): in
    each stage the one nearest to what the stages before it left. Computed in float64."""
    stages, groups, _, dimension = codebooks.shape
    positions = math.prod(code_shape[1:])
    vectors = codes.double().reshape(len(codes), -1, dimension, positions).transpose(2, 3)
    left = vectors.reshape(len(codes), groups, -1, dimension)
    found = torch.zeros_like(left)
    for stage in range(stages):
        entries = codebooks[stage].to(left)
        numbers = torch.cdist(left.transpose(0, 1).flatten(1, 2), entries).argmin(-1)  # [G,N*L]
        chosen = entries.gather(1, numbers.unsqueeze(-1).expand(-1, -1, dimension))
        chosen = chosen.unflatten(1, (len(codes), -1)).transpose(0, 1)
        found, left = found + chosen, left - chosen
    return found.reshape(vectors.shape).transpose(2, 3).reshape(codes.shape).to(codes.dtype)


def sample_frequencies(known: Tensor, count: int, seed: int = 0) -> Tensor:
    """``count`` new indices [N,...] that are independent of each other, each as frequent as it is in ``known`` [M,...]
    at that place. More of the same seed begin with the same ones."""
    flat = known.flatten(1)
    rows = torch.from_numpy(np.random.default_rng(seed).integers(0, len(flat), (count, flat.shape[1])))
    return flat.gather(0, rows).view(count, *known.shape[1:])
