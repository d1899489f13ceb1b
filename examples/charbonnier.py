"""A loss: absolute error that is smooth at 0."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from aerun.contracts import Loss, Positive


@dataclass(frozen=True)
class Charbonnier(Loss):
    """The mean of sqrt(error^2 + epsilon^2) - epsilon: Charbonnier et al. 1994, "Two deterministic half-quadratic
    regularization algorithms for computed imaging".

    Squared error for errors far below ``epsilon``, absolute error far above: outliers weigh less than in squared error,
    so edges stay sharper.
    """

    epsilon: Positive

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """prediction[B,...], target[B,...] of one shape -> scalar."""
        if prediction.shape != target.shape:
            raise ValueError(f"prediction {list(prediction.shape)} against target {list(target.shape)}")
        return ((prediction - target).square() + self.epsilon**2).sqrt().mean() - self.epsilon

    def scale(self, values_per_image: int) -> float:
        """The loss is a mean over values, so a term in nats per image is divided by their number."""
        return 1 / values_per_image
