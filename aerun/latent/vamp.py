"""A latent whose prior is learned: the mixture of the posteriors of pseudo-inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from aerun.contracts import Latent, NonNegative, Range, Shape, TrainingData
from aerun.latent.gaussian import _GaussianPosterior

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class VampPrior(_GaussianPosterior):
    """A Gaussian posterior with the prior p(z) = 1/K sum_k q(z|u_k), of K = ``components`` pseudo-inputs u_k.

    Tomczak & Welling 2018, "VAE with a VampPrior" (arXiv:1705.07120), equation 9. The pseudo-inputs are weights, as
    large as the encoder's inputs, and pass through the encoder in every step. The penalty ``kl`` is the estimate log
    q(z|x) - log p(z) from the sample, in nats per image, scaled as in ``Gaussian``. Here they start uniform in [0,1].
    """

    components: Annotated[int, Range(1, 100_000)]
    beta: NonNegative

    schedulable = ("beta",)

    def check_settings(self, settings: Any) -> None:
        super().check_settings(settings)
        if settings.model.condition != "none":
            raise ValueError(
                f"{settings.name('latent')} and model.condition={settings.model.condition}: pseudo-inputs have no "
                "labels; use latent=gaussian"
            )

    def for_data(self, data: TrainingData) -> Latent:
        return _Sized(self.components, self.beta, data.input_shape)

    def __call__(self, features: Tensor, draw: Tensor | None) -> Any:
        raise NotImplementedError("for_data and build come first")


@dataclass(frozen=True)
class _Sized(VampPrior):
    """With the shape of the encoder's inputs."""

    input_shape: Shape

    def build(self, code_shape: Shape) -> Any:
        from aerun.latent.vamp_prior import PseudoInputs

        return PseudoInputs(self.components, self.beta, self.input_shape, code_shape)
