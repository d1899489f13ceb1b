"""Parts of one's own, as a user writes them: nothing of aerun is imported."""

from __future__ import annotations

from torch import Generator, Tensor


class SoftThreshold:
    """A sparsity: values within ``width`` of zero become zero, the others move towards it."""

    constrains_code = True

    def __init__(self, width: float) -> None:
        self.width = width

    def __call__(self, features: Tensor, training: bool) -> tuple[Tensor, list[object]]:
        return features.sign() * (features.abs() - self.width).clamp_min(0), []


class Darkening:
    """A noise: each image times a number drawn from [1 - amount, 1]."""

    is_identity = False

    def __init__(self, amount: float) -> None:
        self.amount = amount

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        shape = (len(images), *[1] * (images.dim() - 1))
        drawn = images.new_empty(shape).uniform_(1 - self.amount, 1, generator=generator)
        return images * drawn


class QuarticLoss:
    """A loss: the mean fourth power of the error."""

    takes_logits = False

    def scale(self, values_per_image: int) -> float:
        return 1 / values_per_image

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).pow(4).mean()
