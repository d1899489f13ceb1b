"""Reconstruction errors. Each is also a negative log-likelihood up to a constant, which is what makes
``reconstruction + KL`` a bound: MSE summed over an image is that of N(reconstruction, 1/2), MAE that of a Laplace
distribution of scale 1, BCE that of a Bernoulli distribution.

``reduction`` is over the values of an image; the batch is always averaged. The mean over the batch of per-image
means is the mean over everything: both have the same gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from aerun.base.activation import at_least_float32
from aerun.config.schema import OpenProbability, Positive
from aerun.contracts import Loss

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
                f"dataset.normalize={settings.dataset.normalize} takes targets out of [0,1], which "
                f"{settings.name('loss')} needs"
            )

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """prediction[B,...], target[B,...] of one shape -> scalar. Shapes never broadcast: ValueError."""
        if prediction.shape != target.shape:
            raise ValueError(f"prediction {tuple(prediction.shape)} against target {tuple(target.shape)}")
        # Under autocast the prediction is bfloat16; an error is not.
        error = self._mean(prediction if prediction.dtype == target.dtype else at_least_float32(prediction), target)
        return error if self.reduction == "mean" else error * target[0].numel()

    def _mean(self, prediction: Tensor, target: Tensor) -> Tensor:
        raise NotImplementedError

    def nats(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The error of each image, summed over its values: prediction[B,k,...], target[B,1,...] -> [B,k].

        With ``constant`` for each value it is the negative log-likelihood of the distribution above.
        """
        if prediction[:, :1].shape != target.shape:
            raise ValueError(f"predictions {tuple(prediction.shape)} against target {tuple(target.shape)}")
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

    The prediction is the decoder's linear output (logits). On grey targets the value has a floor above zero,
    the entropy of the targets themselves.
    """

    is_likelihood = True
    takes_logits = True

    def _mean(self, prediction: Tensor, target: Tensor) -> Tensor:
        from torch.nn.functional import binary_cross_entropy_with_logits

        return binary_cross_entropy_with_logits(prediction, target)

    def _sums(self, prediction: Tensor, target: Tensor) -> Tensor:
        from torch.nn.functional import softplus

        # The same without its pass over all values for -target * logit: that is a product of matrices.
        return softplus(prediction).sum(-1) - (prediction @ target.transpose(1, 2)).squeeze(-1)


@dataclass(frozen=True)
class MSEWithSSIM(_Loss):
    """Squared error + ``weight`` (1 - similarity), of images [C,H,W] in [0,1].

    ``measure``: ``ssim`` is structural similarity in 11x11 windows, ``ms_ssim`` that over as many scales as the image
    holds (``aerun.base.ssim``). It keeps edges and contrasts that squared error alone gives up; the squared error ends
    a little higher for it.
    """

    weight: Positive
    measure: Literal["ssim", "ms_ssim"]

    needs_unit_range = True

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

    Cross-entropy moves a net whose outputs saturate; squared error is what is wanted in the end. Called as it stands,
    as in evaluation, it is the squared error of sigmoid(prediction), so that epochs compare; ``while_training`` is what
    is minimised. Without a validation part the monitored training loss falls at the switch: cross-entropy is at least
    twice the squared error (Pinsker's inequality), so the best epoch lies in the second part.

    Nothing is done to the optimizer's state at the switch. Adam's averages forget the old gradients within some
    1/(1 - beta2) steps, and as squared error has the smaller gradients (for each logit that of the cross-entropy,
    p - t, times 2 p (1-p), at most half of it), what is left of the averages makes its first steps shorter, not longer.
    """

    switch: OpenProbability

    takes_logits = True
    changes = True
    constant = MSE.constant

    def share(self, progress: float) -> float:
        """How much of the cross-entropy the training loss is, 1 or 0, after the share ``progress`` of the steps."""
        return float(progress < self.switch)

    def while_training(self, share: Tensor) -> _Loss:
        """What is minimised: cross-entropy where the scalar ``share`` is 1, squared error where it is 0.

        Both are computed, and the tensor chooses: it may be changed between replays of a recorded step.
        """
        return _Mixed(self.reduction, share)

    def _mean(self, prediction: Tensor, target: Tensor) -> Tensor:
        from torch.nn.functional import mse_loss

        return mse_loss(prediction.sigmoid(), target)

    def _sums(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction.sigmoid() - target).square().sum(-1)


@dataclass(frozen=True)
class _Mixed(_Loss):
    """share * cross-entropy + (1 - share) * squared error of the sigmoid, the share being 0 or 1, on the device."""

    of_entropy: Tensor

    takes_logits = True

    def _mean(self, prediction: Tensor, target: Tensor) -> Tensor:
        from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

        entropy = binary_cross_entropy_with_logits(prediction, target)
        return self.of_entropy * entropy + (1 - self.of_entropy) * mse_loss(prediction.sigmoid(), target)

    def _sums(self, prediction: Tensor, target: Tensor) -> Tensor:
        errors = (prediction.sigmoid() - target).square().sum(-1)
        return self.of_entropy * BCE("sum")._sums(prediction, target) + (1 - self.of_entropy) * errors
