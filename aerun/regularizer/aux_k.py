"""Units that are never active learn to reconstruct what the others leave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aerun.contracts import Count, Metric, NonNegative, Pass, Regularizer, Shape, Terms


@dataclass(frozen=True)
class AuxK(Regularizer):
    """Dead units reconstruct the residual: Gao et al. 2024, "Scaling and evaluating sparse autoencoders"
    (arXiv:2406.04093), appendix A.2.

    L_aux = |e - W z|^2, with e the reconstruction's residual, as a constant, and z the ``k`` largest of an image's
    features, after a ReLU, among units that no minibatch has activated for ``after_steps`` steps. It is added with
    ``weight`` (1/32 in the paper), as a squared error at the scale of the run's loss. For decoders with hidden layers
    W z is decoder(z) - decoder(0). A unit of feature maps is a channel.
    """

    k: Count
    after_steps: Count
    weight: NonNegative
    schedulable = ("weight",)
    metrics = (Metric("aux_k"),)

    def check_settings(self, settings: Any) -> None:
        if settings.model.condition != "none":
            raise ValueError(
                f"regularizer=aux_k and model.condition={settings.model.condition}: what a unit adds would depend on "
                "the label; use one or the other"
            )
        if settings.latent.constrains_code:
            raise ValueError(
                f"regularizer=aux_k and {settings.name('latent')}: units die where features become zero, which they do "
                "not with this latent"
            )

    def penalties(self, run: Pass) -> Terms:
        raise NotImplementedError("build(code_shape) returns the module that computes penalties")

    def build(self, code_shape: Shape) -> Any:
        from aerun.regularizer.aux_k_module import AuxK

        return AuxK(self.k, self.after_steps, self.weight, code_shape[0])
