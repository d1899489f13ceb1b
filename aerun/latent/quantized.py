"""Quantized latents: the code consists of entries of codebooks, so that their numbers are the code in bits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from aerun.contracts import Count, Decay, Latent, Metric, NonNegative, Positive, Range, Shape

MEASURES = (
    Metric("perplexity", "entries", higher_is_better=True),
    Metric("code_usage", higher_is_better=True),
    Metric("bits", "bits per image"),
)
MAX_ENTRIES = 65_536


@dataclass(frozen=True)
class _Quantized(Latent):
    """The common part: what is declared, and which codes can be cut into vectors."""

    rowwise: ClassVar[bool] = False
    constrains_code: ClassVar[bool] = True
    metrics = MEASURES
    vector_key: ClassVar[str] = "latent.dimension"

    @property
    def channels(self) -> int:
        """Channels of a vector."""
        raise NotImplementedError

    def check_settings(self, settings: Any) -> None:
        super().check_settings(settings)
        if settings.model.code_size is not None:
            self.check_code((settings.model.code_size,))

    def check_code(self, code_shape: Shape) -> None:
        size = code_shape[0]
        if size % self.channels:
            fitting = [str(count) for count in range(1, size + 1) if size % count == 0]
            raise ValueError(
                f"{self.vector_key}: vectors of {self.channels} channels do not divide the {size} channels of a code; "
                f"possible are {', '.join(fitting)}"
            )


@dataclass(frozen=True)
class _Codebooks(_Quantized):
    """The keys of latents with codebooks."""

    entries: Annotated[int, Range(2, MAX_ENTRIES)]
    dimension: Count
    shared: bool
    update: Literal["ema", "gradient"]
    decay: Decay
    commitment: NonNegative
    restart: NonNegative
    restart_every: Annotated[int, Range(1, 1_000_000_000)]

    @property
    def channels(self) -> int:
        return self.dimension

    def _build(self, code_shape: Shape, stages: int, cosine: bool) -> Any:
        from aerun.latent.quantizer import VectorQuantizer

        return VectorQuantizer(
            code_shape,
            self.dimension,
            self.entries,
            shared=self.shared,
            stages=stages,
            learned=self.update == "gradient",
            cosine=cosine,
            decay=self.decay,
            commitment=self.commitment,
            restart=self.restart,
            restart_every=self.restart_every,
        )


@dataclass(frozen=True)
class VQ(_Codebooks):
    """VQ-VAE: each vector z of ``dimension`` channels becomes the nearest entry e_k of a codebook.

    van den Oord, Vinyals & Kavukcuoglu 2017, "Neural Discrete Representation Learning" (arXiv:1711.00937), equation 2.
    A vector code has an index for each of its D / ``dimension`` vectors, maps one for each of C / ``dimension`` vectors
    at each position. Each of these has its own codebook, or all vectors of a code have a ``shared`` one. The decoder's
    gradient passes straight through to z. Penalties (equation 3, means over values): ``commitment`` |z - e_k|^2 moves
    z, and with ``update: gradient`` the same term ``codebook``, of weight 1, moves e_k. With ``update: ema`` entries
    are moving averages (appendix A.1): n_k vectors of a minibatch, whose sum is s_k, move N_k to n_k and m_k to s_k by
    1 - ``decay``, and e_k = m_k / N_k. Entries start as vectors of the first minibatch. Every ``restart_every`` steps
    those with N_k below the share ``restart`` of its mean become vectors of the minibatch (Dhariwal et al. 2020,
    "Jukebox", arXiv:2005.00341, section 3.1); ``restart`` 0: never. With ``distance: cosine``, z and e_k have length 1
    (Yu et al. 2021, arXiv:2110.04627, section 3.2).
    """

    distance: Literal["euclidean", "cosine"]

    def build(self, code_shape: Shape) -> Any:
        return self._build(code_shape, stages=1, cosine=self.distance == "cosine")


@dataclass(frozen=True)
class ResidualVQ(_Codebooks):
    """A sum of ``stages`` entries: each stage quantizes what the stages before it left, as ``VQ`` does.

    r_1 = z, k_s = the nearest entry to r_s in the codebook of stage s, r_{s+1} = r_s - e(k_s), code = sum_s e(k_s):
    Zeghidour et al. 2021, "SoundStream" (arXiv:2107.03312), algorithm 1; Lee et al. 2022 (arXiv:2203.01941), equation
    3. The ``commitment`` is the mean over stages of |r_s - e(k_s)|^2.
    """

    stages: Annotated[int, Range(1, 64)]

    def build(self, code_shape: Shape) -> Any:
        return self._build(code_shape, stages=self.stages, cosine=False)


@dataclass(frozen=True)
class FSQ(_Quantized):
    """Finite scalar quantization: channel i of a vector is rounded to one of ``levels[i]`` values in [-1,1].

    Mentzer et al. 2023, "Finite Scalar Quantization: VQ-VAE Made Simple" (arXiv:2309.15505), section 3.1 and appendix
    A: with L levels, h = (L - 1) 1.001 / 2 and o = 1/2 if L is even, otherwise 0, the code is round(h tanh(z +
    artanh(o / h)) - o) / floor(L / 2), and the gradient that without rounding. (The appendix prints tan in place of
    artanh, with which 0 is not mapped to 0.) The index of a vector is its place in the grid of prod(levels) entries.
    There is no penalty and no codebook to learn.
    """

    levels: list[Annotated[int, Range(2, MAX_ENTRIES)]]
    vector_key: ClassVar[str] = "latent.levels"

    @property
    def channels(self) -> int:
        return len(self.levels)

    def check_settings(self, settings: Any) -> None:
        entries = math.prod(self.levels)
        if not self.levels or entries > MAX_ENTRIES:
            raise ValueError(f"latent.levels={self.levels}: their product must be from 2 to {MAX_ENTRIES}")
        super().check_settings(settings)

    def build(self, code_shape: Shape) -> Any:
        from aerun.latent.quantizer import FiniteScalarQuantizer

        return FiniteScalarQuantizer(code_shape, self.levels)


@dataclass(frozen=True)
class LFQ(_Quantized):
    """Lookup-free quantization: every value of the code is a bit, sign(z); ``dimension`` bits are an index.

    Yu et al. 2023, "Language Model Beats Diffusion" (arXiv:2310.05737), section 3.1. The gradient passes straight
    through. Penalties: ``commitment`` |z - sign(z)|^2, a mean over values, and ``code_entropy``, E H(q(k|z)) -
    ``diversity`` H(E q(k|z)) in nats per vector (equation 5), where q(k|z) is the softmax of 2 z c_k / ``temperature``
    over the 2^dimension corners c_k, the expectation is over the minibatch, and its weight is ``entropy``.
    """

    dimension: Annotated[int, Range(1, 12)]
    commitment: NonNegative
    entropy: NonNegative
    diversity: NonNegative
    temperature: Positive

    @property
    def channels(self) -> int:
        return self.dimension

    def build(self, code_shape: Shape) -> Any:
        from aerun.latent.quantizer import LookupFreeQuantizer

        return LookupFreeQuantizer(
            code_shape,
            self.dimension,
            commitment=self.commitment,
            entropy=self.entropy,
            diversity=self.diversity,
            temperature=self.temperature,
        )
