"""Reconstruction errors.

Summed over an image, MSE, MAE and BCE are negative log-likelihoods up to a constant, so that ``reconstruction + KL`` is
a bound: MSE of N(reconstruction, 1/2), MAE of a Laplace distribution with scale 1, BCE of a Bernoulli distribution.

``reduction`` is over the values of an image; the batch is always averaged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from aerun.base.activation import at_least_float32
from aerun.contracts import Loss, Moment, OpenProbability, Positive

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class _Loss(Loss):
    reduction: Literal["mean", "sum"]

    def scale(self, values_per_image: int) -> float:
        return 1.0 / values_per_image if self.reduction == "mean" else 1.0

    def check_settings(self, settings: Any) -> None:
        output = settings.model.output_activation
        if self.takes_logits and output not in ("identity", "sigmoid"):
            raise ValueError(
                f"model.output_activation={output} and {settings.name('loss')}: this loss takes logits, so the output "
                "is their sigmoid; use model.output_activation=sigmoid or identity"
            )
        if settings.dataset.normalize != "none" and (self.takes_logits or self.needs_unit_range):
            raise ValueError(
                f"dataset.normalize={settings.dataset.normalize} gives targets outside [0,1], which "
                f"{settings.name('loss')} requires"
            )

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """prediction[B,...], target[B,...] of the same shape -> scalar. ValueError for shapes that would broadcast."""
        if prediction.shape != target.shape:
            raise ValueError(f"prediction has shape {tuple(prediction.shape)}, target {tuple(target.shape)}")
        # Under autocast the prediction is bfloat16; the error is float32.
        error = self._mean(prediction if prediction.dtype == target.dtype else at_least_float32(prediction), target)
        return error if self.reduction == "mean" else error * target[0].numel()

    def _mean(self, prediction: Tensor, target: Tensor) -> Tensor:
        raise NotImplementedError

    def nats(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The error of each image, summed over its values: prediction[B,k,...], target[B,1,...] -> [B,k].

        With ``constant`` added for each value it is the negative log-likelihood of the distribution above.
        """
        if prediction[:, :1].shape != target.shape:
            raise ValueError(f"predictions have shape {tuple(prediction.shape)}, target {tuple(target.shape)}")
        return self._sums(prediction.to(target.dtype).flatten(2), target.flatten(2))

    def _sums(self, prediction: Tensor, target: Tensor) -> Tensor:
        raise NotImplementedError


class MSE(_Loss):
    """Squared error."""

    is_likelihood = True
    constant = 0.5 * math.log(math.pi)

    def _mean(self, prediction: Tensor, target: Tensor) -> Tensor:
        from torch.nn.functional import mse_loss

        return mse_loss(prediction, target)

    def _sums(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).square().sum(-1)


class MAE(_Loss):
    """Absolute error."""

    is_likelihood = True
    constant = math.log(2)

    def _mean(self, prediction: Tensor, target: Tensor) -> Tensor:
        from torch.nn.functional import l1_loss

        return l1_loss(prediction, target)

    def _sums(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).abs().sum(-1)


class BCE(_Loss):
    """Binary cross-entropy, -target log p - (1-target) log(1-p) with p = sigmoid(prediction); targets in [0,1].

    The prediction is the decoder's linear output (logits). For gray targets the minimum is above zero: it is the
    entropy of the targets.
    """

    is_likelihood = True
    takes_logits = True

    def _mean(self, prediction: Tensor, target: Tensor) -> Tensor:
        from torch.nn.functional import binary_cross_entropy_with_logits

        return binary_cross_entropy_with_logits(prediction, target)

    def _sums(self, prediction: Tensor, target: Tensor) -> Tensor:
        from torch.nn.functional import softplus

        # The same value, but the term -target * logit is computed as a matrix product.
        return softplus(prediction).sum(-1) - (prediction @ target.transpose(1, 2)).squeeze(-1)


@dataclass(frozen=True)
class MSEWithSSIM(_Loss):
    """Squared error + ``weight`` (1 - similarity), of images [C,H,W] in [0,1].

    ``measure``: ``ssim`` is the structural similarity in 11x11 windows, ``ms_ssim`` is that over as many scales as fit
    in the image (``aerun.base.ssim``). It preserves edges and contrast that squared error alone loses, at a slightly
    higher squared error.
    """

    weight: Positive
    measure: Literal["ssim", "ms_ssim"]

    needs_unit_range = True
    schedulable = ("weight",)

    def check_shape(self, shape: Sequence[int]) -> None:
        from aerun.base.ssim import check_size

        check_size(shape)

    def _mean(self, prediction: Tensor, target: Tensor) -> Tensor:
        from torch.nn.functional import mse_loss

        from aerun.base.ssim import ms_ssim, ssim

        similarity = ms_ssim if self.measure == "ms_ssim" else ssim
        return mse_loss(prediction, target) + self.weight * (1 - similarity(prediction, target).mean())


@dataclass(frozen=True)
class BCEThenMSE(_Loss):
    """Binary cross-entropy for the first share ``switch`` of a run's steps, squared error for the rest.

    Cross-entropy still has gradients when outputs saturate; squared error is the actual objective. Evaluation uses the
    squared error of sigmoid(prediction) throughout, so that epochs can be compared: there ``entropy_share`` is 0. In
    training it is a tensor, 1 or 0, that weights both errors. Without a validation part, the monitored training loss
    falls at the switch, because cross-entropy is at least twice the squared error (Pinsker's inequality); so the best
    epoch is in the second part.

    The optimizer's state is kept at the switch. Adam's averages forget the old gradients within about 1/(1 - beta2)
    steps. The gradients of squared error are smaller (for each logit that of cross-entropy, p - t, times 2 p (1-p),
    which is at most 1/2), so the old averages make the first steps shorter, not longer.
    """

    switch: OpenProbability
    entropy_share: Any = field(default=0.0, init=False)

    takes_logits = True
    constant = MSE.constant

    def schedules(self) -> Mapping[str, Callable[[Moment], float]]:
        return {"entropy_share": lambda at: float(at.progress < self.switch)}

    def _mean(self, prediction: Tensor, target: Tensor) -> Tensor:
        from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

        squares = mse_loss(prediction.sigmoid(), target)
        if isinstance(self.entropy_share, float):
            return squares
        entropy = binary_cross_entropy_with_logits(prediction, target)
        return self.entropy_share * entropy + (1 - self.entropy_share) * squares

    def _sums(self, prediction: Tensor, target: Tensor) -> Tensor:
        squares = (prediction.sigmoid() - target).square().sum(-1)
        if isinstance(self.entropy_share, float):
            return squares
        return self.entropy_share * BCE("sum")._sums(prediction, target) + (1 - self.entropy_share) * squares
