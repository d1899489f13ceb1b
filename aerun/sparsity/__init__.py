"""Constraints on the code. Each applies the code's nonlinearity to the encoder's linear features, selects or
penalizes, and returns the code and its penalties.

Features are vectors [B,D] or maps [B,C,H,W]. A unit is one of the D features of a vector, or one channel of the maps,
which occurs at H*W positions of every image.

- ``selection``: keeps the largest values of each image, or of each unit.
- ``penalty``: L1 and KL penalties; no constraint.
- ``thresholds``: keeps what exceeds a threshold of the batch, of each unit, or of a gate: sparse dictionaries.
"""

from aerun.sparsity.penalty import KL, L1, NoSparsity
from aerun.sparsity.selection import Lifetime, TopK, TopKLifetime, keep_largest, keep_winners, largest_mask
from aerun.sparsity.thresholds import BatchTopK, Gated, JumpReLU, Matryoshka

__all__ = [
    "KL",
    "L1",
    "BatchTopK",
    "Gated",
    "JumpReLU",
    "Lifetime",
    "Matryoshka",
    "NoSparsity",
    "TopK",
    "TopKLifetime",
    "keep_largest",
    "keep_winners",
    "largest_mask",
]
