"""A latent with weights of its own: every feature vector becomes the nearest vector of a codebook."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, one_hot

from aerun.contracts import Count, Decay, Diagnostic, Latent, Metric, NonNegative, Penalty, Shape, Terms


class VectorQuantizer(nn.Module, Latent):
    """VQ-VAE: van den Oord, Vinyals & Kavukcuoglu 2017, "Neural Discrete Representation Learning" (arXiv:1711.00937).

    Each vector z of ``dimension`` channels becomes its nearest codebook entry e_k (equation 2). The decoder's gradient
    passes straight through to z; the penalty |z - e_k|^2, a mean over values with the weight ``commitment``, keeps z
    close to its entry (equation 3). Entries are moving averages (appendix A.1): n_k vectors of a minibatch, whose sum
    is s_k, move N_k to n_k and m_k to s_k by 1 - ``decay``, and e_k = m_k / N_k. Entries that have less than the share
    ``restart`` of the average N_k, and at first all that were not used, become the vectors that were quantized worst.
    """

    rowwise = False  # the whole minibatch moves the codebook, also where several processes share it
    constrains_code = True
    metrics = (Metric("perplexity", "entries", higher_is_better=True),)

    codebook: Tensor
    counts: Tensor

    def __init__(
        self, entries: Count, dimension: Count, decay: Decay, commitment: NonNegative, restart: NonNegative
    ) -> None:
        super().__init__()
        self.dimension, self.decay, self.commitment, self.restart = dimension, decay, commitment, restart
        # Buffers are saved with the weights, resumed, and taken over by init_from. The optimizer does not see them.
        self.register_buffer("codebook", torch.randn(entries, dimension))
        self.register_buffer("counts", torch.zeros(entries))

    def check_code(self, code_shape: Shape) -> None:
        if code_shape[0] % self.dimension:
            raise ValueError(
                f"latent.dimension={self.dimension}: does not divide the {code_shape[0]} channels of a code"
            )

    def forward(self, features: Tensor, draw: Tensor | None) -> tuple[Tensor, Terms]:
        """features[B,C,...] -> code of the same shape; C is a multiple of ``dimension``."""
        channels_last = features.to(self.codebook.dtype).unflatten(1, (-1, self.dimension)).movedim(2, -1)
        vectors = channels_last.reshape(-1, self.dimension)
        squares = vectors.square().sum(1, keepdim=True), self.codebook.square().sum(1)
        errors, nearest = (squares[0] - 2 * vectors @ self.codebook.T + squares[1]).detach().min(1)
        entries, used = self.codebook[nearest], one_hot(nearest, len(self.codebook)).to(vectors.dtype)
        if self.training:
            self._update(vectors.detach(), used, errors)
        straight_through = entries + (vectors - vectors.detach())  # the entry exactly, with the gradient of the vector
        share = used.mean(0)
        perplexity = (-torch.special.xlogy(share, share).sum()).exp()
        code = straight_through.view(channels_last.shape).movedim(-1, 2).flatten(1, 2)
        return code, [
            Penalty("commitment", mse_loss(vectors, entries), self.commitment),
            Diagnostic("perplexity", perplexity),
        ]

    @torch.no_grad()
    def _update(self, vectors: Tensor, used: Tensor, errors: Tensor) -> None:
        """Move the averages by a minibatch. With m_k = N_k e_k an entry moves by (1 - decay) (s_k - n_k e_k) / N_k."""
        numbers, sums = used.sum(0), used.T @ vectors
        self.counts.lerp_(numbers, 1 - self.decay)
        moves = (1 - self.decay) * (sums - numbers.unsqueeze(1) * self.codebook)
        self.codebook += moves / self.counts.clamp_min(1e-12).unsqueeze(1)
        mean = self.counts.mean()
        idle = self.counts <= self.restart * mean
        worst = vectors[errors.topk(min(len(errors), len(idle))).indices]
        replacement = worst[(idle.cumsum(0) - 1) % len(worst)]  # another one for each idle entry
        self.codebook.copy_(replacement.where(idle.unsqueeze(1), self.codebook))
        self.counts.copy_(mean.where(idle, self.counts))
