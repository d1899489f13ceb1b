"""Reconstruction errors. Each is also a negative log-likelihood up to a constant, which is what makes
``reconstruction + KL`` a bound: MSE summed over an image is that of N(reconstruction, 1/2), MAE that of a Laplace
distribution of scale 1, BCE that of a Bernoulli distribution.

``reduction`` is over the values of an image; the batch is always averaged. The mean over the batch of per-image
means is the mean over everything: both have the same gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class _Loss:
    reduction: Literal["mean", "sum"]

    takes_logits = False

    def scale(self, values_per_image: int) -> float:
        """What a quantity per image is multiplied by to stand beside this loss."""
        return 1.0 / values_per_image if self.reduction == "mean" else 1.0

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """prediction[B,...], target[B,...] of one shape -> scalar. Shapes never broadcast: ValueError."""
        if prediction.shape != target.shape:
            raise ValueError(f"prediction {tuple(prediction.shape)} against target {tuple(target.shape)}")
        # Under autocast the prediction is bfloat16; an error is not.
        error = self._mean(prediction if prediction.dtype == target.dtype else prediction.float(), target)
        return error if self.reduction == "mean" else error * target[0].numel()

    def _mean(self, prediction: Tensor, target: Tensor) -> Tensor:
        raise NotImplementedError


class MSE(_Loss):
    """Squared error."""

    def _mean(self, prediction: Tensor, target: Tensor) -> Tensor:
        from torch.nn.functional import mse_loss

        return mse_loss(prediction, target)


class MAE(_Loss):
    """Absolute error."""

    def _mean(self, prediction: Tensor, target: Tensor) -> Tensor:
        from torch.nn.functional import l1_loss

        return l1_loss(prediction, target)


class BCE(_Loss):
    """Binary cross-entropy, -target log p - (1-target) log(1-p) with p = sigmoid(prediction); targets in [0,1].

    The prediction is the decoder's linear output (logits). On grey targets the value has a floor above zero,
    the entropy of the targets themselves.
    """

    takes_logits = True

    def _mean(self, prediction: Tensor, target: Tensor) -> Tensor:
        from torch.nn.functional import binary_cross_entropy_with_logits

        return binary_cross_entropy_with_logits(prediction, target)
