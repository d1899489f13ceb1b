"""Random numbers that depend only on the seed, their purpose, and their position in the run.

No random state is saved to resume a run: step 1,000 draws the same noise whatever happened before it.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Generator


class Randomness:
    """A generator on one device, reseeded by purpose and position; valid until the next call of ``at``."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.seed = seed
        self._generator = Generator(device)

    def at(self, purpose: str, position: int) -> Generator:
        """Return the generator for a purpose (``"noise"``) at a step, epoch or batch."""
        digest = hashlib.blake2b(f"{self.seed}/{purpose}/{position}".encode(), digest_size=8).digest()
        return self._generator.manual_seed(int.from_bytes(digest, "big") >> 1)


def seed_everything(seed: int) -> None:
    """Seed torch's global generators, which initialize the weights of models."""
    torch.manual_seed(seed)
