"""The modules of the quantized latents: torch is imported here, and not while a configuration is parsed.

Features are cut into vectors of ``dimension`` channels. A code of C channels at P positions (1 for a vector code) has
H = C / dimension vectors at each position. They belong to G codebooks, which are numbered together with their heads: G
= H if each of the H has its own, G = 1 if all share one. So each codebook has L = H P / G vectors of an image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, mse_loss, normalize, softplus

from aerun.base.activation import at_least_float32
from aerun.contracts import Diagnostic, Latent, Penalty, Shape, Terms

ENTRIES_PER_BLOCK = 512  # compared with all vectors at once
GOLDEN = (5**0.5 - 1) / 2
SMALLEST = 1e-30  # of a share, whose logarithm has a gradient


class Quantizer(nn.Module, Latent):
    """What all quantizers share: how a code is cut into vectors, and the indices of an image, [S,G,L] for S stages."""

    rowwise = False  # perplexity and codebooks are those of the whole minibatch
    constrains_code = True

    def __init__(self, code_shape: Shape, dimension: int, shared: bool) -> None:
        super().__init__()
        self.code_shape, self.dimension = code_shape, dimension
        heads, positions = code_shape[0] // dimension, math.prod(code_shape[1:])
        self.heads, self.positions = heads, positions
        self.groups, self.length = (1, heads * positions) if shared else (heads, positions)

    @property
    def codebooks(self) -> Tensor:
        raise NotImplementedError

    def split(self, features: Tensor) -> Tensor:
        """features[B,C,...] -> vectors[G,B*L,dimension], in at least float32."""
        cut = at_least_float32(features).reshape(-1, self.heads, self.dimension, self.positions).movedim(2, -1)
        return cut.reshape(-1, self.groups, self.length, self.dimension).movedim(1, 0).flatten(1, 2)

    def join(self, vectors: Tensor) -> Tensor:
        """The inverse of ``split``."""
        cut = vectors.reshape(self.groups, -1, self.length, self.dimension).movedim(0, 1)
        cut = cut.reshape(-1, self.heads, self.positions, self.dimension).movedim(-1, 2)
        return cut.reshape(-1, *self.code_shape)

    def indices(self, features: Tensor) -> Tensor:
        """features[B,C,...] -> the number of each vector's entry, [B,S,G,L]."""
        with full_precision(features):
            numbers = self.numbers(self.split(features))
        stages = len(numbers)
        return numbers.reshape(stages, self.groups, -1, self.length).permute(2, 0, 1, 3)

    def from_indices(self, indices: Tensor) -> Tensor:
        """indices[B,S,G,L] -> code[B,*code_shape], the very one that has them."""
        codebooks = self.codebooks
        numbers = indices.permute(1, 2, 0, 3).flatten(2)
        return self.join(add_up([lookup(entries, k) for entries, k in zip(codebooks, numbers, strict=True)]))

    def numbers(self, vectors: Tensor) -> Tensor:
        """vectors[G,N,dimension] -> the number of each one's entry in each stage, [S,G,N]."""
        raise NotImplementedError


class VectorQuantizer(Quantizer):
    """See ``aerun.latent.VQ`` and ``aerun.latent.ResidualVQ``."""

    counts: Tensor
    steps: Tensor

    def __init__(
        self,
        code_shape: Shape,
        dimension: int,
        entries: int,
        *,
        shared: bool,
        stages: int,
        learned: bool,
        cosine: bool,
        decay: float,
        commitment: float,
        restart: float,
        restart_every: int,
    ) -> None:
        super().__init__(code_shape, dimension, shared)
        self.learned, self.cosine, self.decay, self.commitment = learned, cosine, decay, commitment
        self.restart, self.restart_every = restart, restart_every
        codebook = self._scaled(torch.randn(stages, self.groups, entries, dimension))
        if learned:
            self.codebook = nn.Parameter(codebook)
        else:  # the optimizer does not see a buffer, which is saved like a weight
            self.register_buffer("codebook", codebook)
        self.register_buffer("counts", torch.zeros(stages, self.groups, entries))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    @property
    def codebooks(self) -> Tensor:
        """The entries [S,G,K,dimension]: a code is the sum of one entry of each stage."""
        return self._scaled(at_least_float32(self.codebook))

    def forward(self, features: Tensor, draw: Tensor | None) -> tuple[Tensor, Terms]:
        """features[B,C,...] -> code of the same shape; C is a multiple of ``dimension``."""
        with full_precision(features):
            vectors = self._scaled(self.split(features))
            left, found = vectors, list[Tensor]()
            errors, codebook_errors, perplexities = list[Tensor](), list[Tensor](), list[Tensor]()
            for stage in range(len(self.codebook)):
                if self.training:
                    self._start(stage, left.detach())
                # A copy, because the entries change below, and gradients need them as they were.
                codebook = self._scaled(at_least_float32(self.codebook[stage]).clone())
                numbers = nearest(left.detach(), codebook.detach())
                entries = lookup(codebook, numbers)
                used = one_hot(numbers, codebook.shape[1], left.dtype)
                errors.append(mse_loss(left, entries.detach()))
                codebook_errors.append(mse_loss(entries, left.detach()))
                perplexities.append(perplexity(used.mean(1)))
                if self.training:
                    self._update(stage, left.detach(), used)
                found.append(entries.detach())
                left = left - entries.detach()
            if self.training:
                self.steps += 1
            code = self.join(straight_through(add_up(found), vectors))
        terms: Terms = [Penalty("commitment", torch.stack(errors).mean(), self.commitment)]
        if self.learned:
            terms.append(Penalty("codebook", torch.stack(codebook_errors).mean(), 1.0))
        return code, [*terms, Diagnostic("perplexity", torch.stack(perplexities).mean())]

    def numbers(self, vectors: Tensor) -> Tensor:
        left, found = self._scaled(vectors), list[Tensor]()
        for codebook in self.codebooks:
            found.append(nearest(left, codebook))
            left = left - lookup(codebook, found[-1])
        return torch.stack(found)

    def _scaled(self, vectors: Tensor) -> Tensor:
        """Vectors of length 1 for the cosine distance, otherwise unchanged."""
        return normalize(vectors, dim=-1) if self.cosine else vectors

    @torch.no_grad()
    def _start(self, stage: int, vectors: Tensor) -> None:
        """In the first step, make entries of the minibatch's vectors; if it has fewer, others remain, unused."""
        codebook, counts, count = self.codebook[stage], self.counts[stage], vectors.shape[1]
        rank = torch.arange(codebook.shape[1], device=vectors.device).expand(counts.shape)
        is_new = (self.steps == 0) & (rank < count)
        chosen = lookup(vectors, self._places(rank, count)).to(codebook.dtype)
        codebook.copy_(chosen.where(is_new.unsqueeze(-1), codebook))
        share = count / codebook.shape[1]
        counts.copy_((is_new.to(counts.dtype) * share).where(self.steps == 0, counts))

    @torch.no_grad()
    def _update(self, stage: int, vectors: Tensor, used: Tensor) -> None:
        """Move the averages by a minibatch, and replace entries that are hardly used.

        vectors[G,N,d], used[G,N,K]. With m_k = N_k e_k an entry moves by (1 - decay) (s_k - n_k e_k) / N_k.
        """
        codebook, counts = self.codebook[stage], self.counts[stage]
        numbers = used.sum(1)
        counts.lerp_(numbers.to(counts.dtype), 1 - self.decay)
        if not self.learned:
            away = used.mT @ vectors - numbers.unsqueeze(-1) * codebook
            codebook += (1 - self.decay) * away / counts.clamp_min(1e-12).unsqueeze(-1)
            codebook.copy_(self._scaled(codebook))
        mean = counts.mean(1, keepdim=True)
        is_due = (self.steps + 1) % self.restart_every == 0
        is_idle = (counts < self.restart * mean) & is_due
        chosen = lookup(vectors, self._places(is_idle.cumsum(1) - 1, vectors.shape[1]))
        codebook.copy_(chosen.to(codebook.dtype).where(is_idle.unsqueeze(-1), codebook))
        counts.copy_(mean.where(is_idle, counts))

    def _places(self, rank: Tensor, count: int) -> Tensor:
        """Vectors of a minibatch, others for each rank below ``count`` and each step, spread evenly.

        Rows of a minibatch are in random order, so these are random vectors without a generator.
        """
        stride = next(n for n in range(max(1, round(GOLDEN * count)), 2 * count + 2) if math.gcd(n, count) == 1)
        return (rank.clamp_min(0) * stride + self.steps * round(GOLDEN**2 * count)) % count


class FiniteScalarQuantizer(Quantizer):
    """See ``aerun.latent.FSQ``."""

    levels: Tensor

    def __init__(self, code_shape: Shape, levels: list[int]) -> None:
        super().__init__(code_shape, len(levels), shared=False)
        self.entries = math.prod(levels)
        self.register_buffer("levels", torch.tensor(levels), persistent=False)

    @property
    def codebooks(self) -> Tensor:
        """The grid, [1,G,K,dimension]; the first value changes fastest."""
        numbers = torch.arange(self.entries, device=self.levels.device)
        steps = numbers.unsqueeze(1) // self._basis() % self.levels
        half = self.levels // 2
        return ((steps - half).to(torch.get_default_dtype()) / half).expand(1, self.groups, -1, -1)

    def forward(self, features: Tensor, draw: Tensor | None) -> tuple[Tensor, Terms]:
        """features[B,C,...] -> code of the same shape, in [-1,1]."""
        with full_precision(features):
            bounded = self._bound(self.split(features))
            rounded = bounded.detach().round()
            used = one_hot(self._number(rounded), self.entries, bounded.dtype).mean(1)
            code = self.join(straight_through(rounded, bounded) / (self.levels // 2))
        return code, [Diagnostic("perplexity", perplexity(used))]

    def numbers(self, vectors: Tensor) -> Tensor:
        return self._number(self._bound(vectors).round()).unsqueeze(0)

    def _bound(self, vectors: Tensor) -> Tensor:
        """Values that round to each of the levels, from -L // 2 on."""
        levels = self.levels.to(vectors.dtype)
        half, offset = (levels - 1) * (1 + 1e-3) / 2, (levels + 1) % 2 / 2
        return (vectors + (offset / half).atanh()).tanh() * half - offset

    def _number(self, rounded: Tensor) -> Tensor:
        return ((rounded.long() + self.levels // 2) * self._basis()).sum(-1)

    def _basis(self) -> Tensor:
        return self.levels.cumprod(0) // self.levels


class LookupFreeQuantizer(Quantizer):
    """See ``aerun.latent.LFQ``."""

    signs: Tensor

    def __init__(
        self,
        code_shape: Shape,
        dimension: int,
        *,
        commitment: float,
        entropy: float,
        diversity: float,
        temperature: float,
    ) -> None:
        super().__init__(code_shape, dimension, shared=False)
        self.commitment, self.entropy, self.diversity, self.temperature = commitment, entropy, diversity, temperature
        numbers = torch.arange(2**dimension).unsqueeze(1)
        signs = (numbers // 2 ** torch.arange(dimension) % 2 * 2 - 1).float()
        self.register_buffer("signs", signs, persistent=False)

    @property
    def codebooks(self) -> Tensor:
        """All corners of the cube, [1,G,2**dimension,dimension]; the first value changes fastest."""
        return at_least_float32(self.signs).expand(1, self.groups, -1, -1)

    def forward(self, features: Tensor, draw: Tensor | None) -> tuple[Tensor, Terms]:
        """features[B,C,...] -> code of the same shape, of -1 and 1."""
        with full_precision(features):
            vectors = self.split(features)
            corners = at_least_float32((vectors.detach() > 0).to(vectors.dtype) * 2 - 1)
            logits = 4 / self.temperature * vectors
            # The bits are independent: an image's entropy is a sum, and its distribution over corners a product.
            each = (softplus(logits) - logits * logits.sigmoid()).sum(-1).mean()
            on, off = logsigmoid(logits), logsigmoid(-logits)
            is_on = (at_least_float32(self.signs) > 0).to(on.dtype)
            shares = (on @ is_on.T + off @ (1 - is_on).T).exp().mean(1)
            together = -(shares * shares.clamp_min(SMALLEST).log()).sum(-1).mean()
            used = one_hot(self._number(vectors), len(self.signs), vectors.dtype).mean(1)
            code = self.join(straight_through(corners, vectors))
        return code, [
            Penalty("commitment", mse_loss(vectors, corners), self.commitment),
            Penalty("code_entropy", each - self.diversity * together, self.entropy),
            Diagnostic("perplexity", perplexity(used)),
        ]

    def numbers(self, vectors: Tensor) -> Tensor:
        return self._number(vectors).unsqueeze(0)

    def _number(self, vectors: Tensor) -> Tensor:
        return ((vectors > 0) * 2 ** torch.arange(self.dimension, device=vectors.device)).sum(-1)


def full_precision(features: Tensor) -> AbstractContextManager[object]:
    """Without autocast: in bfloat16 the nearest entry is another one."""
    device = features.device.type
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


def nearest(vectors: Tensor, codebook: Tensor) -> Tensor:
    """vectors[G,N,d], codebook[G,K,d] -> the numbers [G,N] of the entries at the least Euclidean distance."""
    best, numbers = None, None
    for start, block in _blocks(codebook):
        nearness, place = torch.baddbmm(-0.5 * block.square().sum(-1).unsqueeze(1), vectors, block.mT).max(-1)
        if best is None or numbers is None:
            best, numbers = nearness, place
        else:
            numbers = (place + start).where(nearness > best, numbers)
            best = torch.maximum(best, nearness)
    assert numbers is not None
    return numbers


def _blocks(codebook: Tensor) -> Iterator[tuple[int, Tensor]]:
    for start in range(0, codebook.shape[1], ENTRIES_PER_BLOCK):
        yield start, codebook[:, start : start + ENTRIES_PER_BLOCK]


def lookup(codebook: Tensor, numbers: Tensor) -> Tensor:
    """codebook[G,K,d], numbers[G,N] -> their entries [G,N,d]."""
    return codebook.gather(1, numbers.unsqueeze(-1).expand(-1, -1, codebook.shape[-1]))


def one_hot(numbers: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    """numbers[G,N] -> [G,N,count], 1 at each number. A matrix product with it adds in the same order every time."""
    return (numbers.unsqueeze(-1) == torch.arange(count, device=numbers.device)).to(dtype)


def perplexity(shares: Tensor) -> Tensor:
    """exp of the entropy of shares[G,K], mean over G."""
    return (-torch.special.xlogy(shares, shares).sum(-1)).exp().mean()


def straight_through(values: Tensor, vectors: Tensor) -> Tensor:
    """Exactly ``values``, with the gradient of ``vectors``: Bengio, Leonard & Courville 2013 (arXiv:1308.3432)."""
    return values.detach() + (vectors - vectors.detach())


def add_up(parts: list[Tensor]) -> Tensor:
    """The sum, always in the same order."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
