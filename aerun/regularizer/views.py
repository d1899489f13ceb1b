"""Penalties that compare the codes of two corruptions of an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from aerun.base.activation import at_least_float32
from aerun.contracts import NonNegative, Pass, Penalty, Regularizer, Terms

if TYPE_CHECKING:
    from torch import Tensor

EPSILON = 1e-5  # added to variances, as in batch normalization


@dataclass(frozen=True)
class Decorrelation(Regularizer):
    """Units agree on two corruptions of an image, and differ from each other: Barlow Twins.

    sum_i (1 - C_ii)^2 + ``off_diagonal`` sum_{i != j} C_ij^2, with C the correlations over the batch of units of the
    first code with units of the second: Zbontar, Jing, Misra, LeCun & Deny 2021 (arXiv:2103.03230), equations 1 and 2.
    The first code is that of the pass, the second is computed as in evaluation: from an image corrupted by ``views``, a
    noise, or by a second draw of the run's own noise. On feature maps, a unit is a channel, and every position counts.
    """

    weight: NonNegative
    off_diagonal: NonNegative
    views: Any = None
    two_views: ClassVar[bool] = True
    other_groups: ClassVar[Mapping[str, str]] = {"views": "noise"}
    schedulable = ("weight",)

    def check_settings(self, settings: Any) -> None:
        if (settings.noise if self.views is None else self.views).is_identity:
            raise ValueError(
                f"regularizer=decorrelation and {settings.name('noise')}: two corruptions of an image would be equal; "
                "use noise=gaussian, masking or another, or +noise@regularizer.decorrelation.views=photo"
            )

    def penalties(self, run: Pass) -> Terms:
        """Penalty ``decorrelation``."""
        assert run.second_view is not None
        first, second = (_standardized(run.gather(code)) for code in (run.code, run.encode(run.second_view)))
        correlations = first.T @ second / len(first)
        agreement = correlations.diagonal()
        others = correlations.square().sum() - agreement.square().sum()
        return [Penalty("decorrelation", (1 - agreement).square().sum() + self.off_diagonal * others, self.weight)]


def _standardized(code: Tensor) -> Tensor:
    """code[B,D] or [B,C,H,W] -> rows of units with mean 0 and variance 1 over the batch."""
    rows = at_least_float32(code).transpose(0, 1).flatten(1).T
    return (rows - rows.mean(0)) / (rows.var(0, correction=0) + EPSILON).sqrt()
