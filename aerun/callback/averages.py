"""Averages of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aerun.contracts import Decay, Evaluate, Metric, Observer, RunView

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(eq=False)
class EMA(Observer):
    """An exponential average of the trained weights, evaluated together with the weights themselves.

    After update n, counted from 0, average += (1 - d) (weight - average) with d = min(decay, (1 + n) / (10 + n)):
    Polyak & Juditsky 1992. The lower decay at the start quickly forgets the random initial weights. In a run with
    stages, each stage has its own average. At the end of the run it is saved as ``checkpoints/ema.safetensors``.
    """

    decay: Decay

    metrics = (
        Metric("ema/loss"),
        Metric("ema/mse"),
        Metric("ema/psnr", "dB", higher_is_better=True),
    )

    def __post_init__(self) -> None:
        self._average: dict[str, Tensor] = {}

    def begin(self, run: RunView) -> None:
        """Start from the current weights, or continue from the restored average."""
        self._run, self._first = run, run.progress.stage_step
        weights = {name: value for name, value in run.autoencoder.named_parameters() if value.requires_grad}
        if run.progress.step == self._first or self._average.keys() != weights.keys():
            self._average = {name: value.detach().clone() for name, value in weights.items()}
        self._average = {name: self._average[name].to(value.device) for name, value in weights.items()}
        self._averages, self._weights = list(self._average.values()), list(weights.values())

    def step(self, step: int, values: Mapping[str, float] | None) -> None:
        import torch

        number = step - 1 - self._first
        decay = min(self.decay, (1 + number) / (10 + number))
        with torch.no_grad():
            torch._foreach_lerp_(self._averages, self._weights, 1 - decay)

    def measure(self, autoencoder: Any, part: str, evaluate: Evaluate) -> Mapping[str, float]:
        """Loss, MSE and PSNR of the averaged weights, which the model has during the evaluation."""
        import torch

        weights = dict(autoencoder.named_parameters())
        if not self._average.keys() <= weights.keys():
            return {}
        kept = {name: weights[name].detach().clone() for name in self._average}
        with torch.no_grad():
            try:
                for name, average in self._average.items():
                    weights[name].copy_(average)
                found = evaluate(autoencoder)
            finally:
                for name, value in kept.items():
                    weights[name].copy_(value)
        names = [metric.name.removeprefix("ema/") for metric in self.metrics]
        return {f"ema/{name}": found[name] for name in names if name in found}

    def end(self, step: int) -> None:
        self._run.log.weights("ema", {**self._run.autoencoder.state_dict(), **self._average})

    def state(self) -> dict[str, Tensor]:
        return dict(self._average)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self._average = dict(state)
