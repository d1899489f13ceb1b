"""A regularizer: reconstructions whose neighboring pixels differ little."""

from __future__ import annotations

from dataclasses import dataclass

from aerun.contracts import NonNegative, Pass, Penalty, Regularizer, Terms


@dataclass(frozen=True)
class TotalVariation(Regularizer):
    """The mean absolute difference of horizontal and vertical neighbors: Rudin, Osher & Fatemi 1992, "Nonlinear total
    variation based noise removal algorithms", in its anisotropic form.

    It needs only the prediction. ``run`` also has the inputs, the code, the encoder and the decoder; what a method
    ``draw`` returns, such as random directions, arrives as ``run.draw``.
    """

    weight: NonNegative

    def penalties(self, run: Pass) -> Terms:
        """Penalty ``total_variation`` of predictions [B,C,H,W]."""
        images = run.prediction
        across = (images[..., 1:] - images[..., :-1]).abs().mean()
        down = (images[..., 1:, :] - images[..., :-1, :]).abs().mean()
        return [Penalty("total_variation", across + down, self.weight)]
