"""A small transformer that predicts each index of a sequence from those before it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDTH, HEADS, LAYERS, DROPOUT = 64, 4, 3, 0.1


class CausalTransformer(nn.Module):
    """Logits of each index given those before it.

    The input of step t is the embedding of index t-1 (of its own codebook) plus that of the step; every codebook has
    its own output layer.
    """

    books: Tensor

    def __init__(self, books: Tensor, entries: int) -> None:
        super().__init__()
        self.entries, self.length, count = entries, len(books), int(books.max()) + 1
        self.register_buffer("books", books, persistent=False)
        self.tokens = nn.Embedding(count * entries, WIDTH)
        nn.init.normal_(self.tokens.weight, std=0.5)
        self.start = nn.Parameter(torch.zeros(WIDTH))
        self.steps = nn.Parameter(torch.randn(self.length, WIDTH) * 0.5)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, DROPOUT, "gelu", batch_first=True, norm_first=True)
            for _ in range(LAYERS)
        )
        self.norm = nn.LayerNorm(WIDTH)
        self.heads = nn.ModuleList(nn.Linear(WIDTH, entries) for _ in range(count))

    def features(self, before: Tensor) -> Tensor:
        """The first indices before[N,t] -> what steps 0 to t know, [N,t+1,WIDTH]."""
        known = self.tokens(before + self.books[: before.shape[1]] * self.entries)
        hidden = torch.cat([self.start.expand(len(before), 1, -1), known], 1) + self.steps[: before.shape[1] + 1]
        mask = nn.Transformer.generate_square_subsequent_mask(hidden.shape[1], device=hidden.device)
        for layer in self.layers:
            hidden = layer(hidden, src_mask=mask, is_causal=True)
        return self.norm(hidden)

    def losses(self, sequences: Tensor) -> Tensor:
        """sequences[N,T] -> -log p of each index, [N,T], in nats."""
        hidden = self.features(sequences[:, :-1])
        found = hidden.new_empty(sequences.shape)
        for number, head in enumerate(self.heads):
            own = self.books == number
            logits = head(hidden[:, own])
            found[:, own] = nn.functional.cross_entropy(logits.mT, sequences[:, own], reduction="none")
        return found

    def next_logits(self, before: Tensor) -> Tensor:
        """The first indices before[N,t] -> logits [N,K] of the next one."""
        step = before.shape[1]
        logits: Tensor = self.heads[int(self.books[step])](self.features(before)[:, -1])
        return logits
