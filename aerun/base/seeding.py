"""Random numbers that depend only on the seed, their purpose, and their position in the run.

No random state is saved to resume a run: step 1,000 draws the same noise whatever happened before it.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator

import torch
from torch import Generator

_global_generators = threading.RLock()


class Randomness:
    """A generator on one device, reseeded by purpose and position; valid until the next call of ``at``."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.seed = seed
        self._generator = Generator(device)

    def at(self, purpose: str, position: int) -> Generator:
        """Return the generator for a purpose (``"noise"``) at a step, epoch or batch."""
        digest = hashlib.blake2b(f"{self.seed}/{purpose}/{position}".encode(), digest_size=8).digest()
        return self._generator.manual_seed(int.from_bytes(digest, "big") >> 1)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """A block that draws from torch's global generators, seeded here, while no other block of aerun does.

    Layers take their first weights from these generators, which all threads of a process share.
    """
    with _global_generators:
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def restored_generator() -> Iterator[None]:
    """A block after which torch's global generator on the CPU is as before, while no other block of aerun uses it."""
    with _global_generators, torch.random.fork_rng(devices=[]):
        yield
