"""A metric: how many dimensions the codes fill."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from aerun.contracts import Evaluate, Metric, Observer


class EffectiveRank(Observer):
    """exp(-sum p_i log p_i) with p_i the i-th share of the singular values of the centered codes: Roy & Vetterli 2007,
    "The effective rank".

    From 1, where all codes lie on a line, to the code's size, where they spread evenly. Codes of a higher effective
    rank tend to serve other tasks better (Garrido et al. 2023, "RankMe", arXiv:2210.02885).
    """

    metrics = (Metric("effective_rank", "dimensions", higher_is_better=True),)

    def measure(self, autoencoder: Any, part: str, evaluate: Evaluate) -> Mapping[str, float]:
        """Of the validation images after each epoch, of the test images at the end."""
        batches = evaluate.given(autoencoder)
        codes = torch.cat([model.encode(inputs).flatten(1) for model, inputs, _ in batches]).double()
        values = torch.linalg.svdvals(codes - codes.mean(0))
        share = values / values.sum().clamp_min(1e-12)
        entropy = -torch.special.xlogy(share, share).sum()
        return {"effective_rank": float(entropy.exp())}
