"""Random numbers that depend on nothing but the seed, what they are for, and where in the run they are drawn.

Nothing has to be saved to continue a run: step 1,000 draws the same noise whatever happened before it.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Generator


class Randomness:
    """Generators on one device, reseeded by position. A generator is valid until the next call of ``at``."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.seed = seed
        self._generator = Generator(device)

    def at(self, purpose: str, position: int) -> Generator:
        """The generator for that purpose (``"noise"``) at that step, epoch or batch."""
        digest = hashlib.blake2b(f"{self.seed}/{purpose}/{position}".encode(), digest_size=8).digest()
        return self._generator.manual_seed(int.from_bytes(digest, "big") >> 1)


def seed_everything(seed: int) -> None:
    """Seed torch's global generators, from which models draw their initial weights."""
    torch.manual_seed(seed)
