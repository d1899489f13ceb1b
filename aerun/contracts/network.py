"""The contracts of what a code passes through: encoder and decoder, sparsity, latent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from aerun.contracts.part import CodePart, Part, default
from aerun.contracts.terms import Codec, Pass, Shape, Terms, TrainingData

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn


class Model(Part, Protocol):
    """Builds encoder and decoder. ``code_size``: units of the code, if a key sets them independently of the data.
    ``condition``: ``label`` if they also take the label of each image.

    ``linear_path``: ``pca`` if principal components are a fixed path around both networks.

    ``linear_code``: the encoder ends, and the decoder begins, with a linear layer that has a row for each unit.
    """

    code_size: int | None = default(None)
    output_activation: str = default("identity")
    output_bias: str = default("init")
    linear_path: str = default("none")
    tied: bool | None = default(None)
    condition: str = default("none")
    linear_code: ClassVar[bool] = False

    if TYPE_CHECKING:

        def build(self, input_shape: Shape, output_shape: Shape, parameters_per_code: int) -> Codec:
            """Both shapes are without the batch. ValueError for shapes that the model does not support."""

    def load_start(self, encoder: nn.Module, decoder: nn.Module) -> None:
        """Load weights that come from elsewhere, once, when a run begins; a run that is continued or opened reads them
        from its checkpoint. ValueError if they cannot be had."""
        return None

    def conditional(self, codec: Codec, classes: int) -> Codec:
        """What ``build`` returned, with a condition on labels below ``classes``; for ``condition=label``."""
        raise ValueError("this model has no condition")


class Sparsity(CodePart, Protocol):
    """Applies the code's nonlinearity to the encoder's linear features, then selects or penalizes.

    ``rowwise``: the rows of a minibatch are independent, and penalties are means over rows; otherwise every process of
    a run gets all rows. ``constrains_code``: it limits the code. ``fixes_activation``: the code's nonlinearity cannot
    be chosen. ``penalty``: the name of its penalty in the logs; the weight of the penalty is ``weight``.
    ``selects_in_training_only``: codes are denser in evaluation.
    """

    activation: str = default("identity")
    rowwise: ClassVar[bool] = False
    constrains_code: ClassVar[bool] = True
    fixes_activation: ClassVar[bool] = False
    selects_in_training_only: ClassVar[bool] = False
    penalty: ClassVar[str | None] = None

    @property
    def max_nonzeros(self) -> int | None:
        """The largest number of nonzero values in a vector code, or in a channel of feature maps; None if unknown."""
        return None

    if TYPE_CHECKING:

        def __call__(self, features: Tensor, training: bool) -> tuple[Tensor, Terms]:
            """features[B,D] or [B,C,H,W] -> code of the same shape, and terms that depend on the features alone."""

    def penalties(self, run: Pass) -> Terms:
        """Further terms that depend on the whole pass; means over the rows of the minibatch."""
        return []

    def linear(self) -> Sparsity:
        """A copy without a nonlinearity, for a latent that needs linear features."""
        return self

    def with_max_nonzeros(self, count: int) -> Sparsity:
        """A copy with another ``max_nonzeros``."""
        raise ValueError("has no number of nonzero values")


class Latent(CodePart, Protocol):
    """Maps the constrained features to the code: unchanged, to the nearest codebook entries, or to a sample.

    ``parameters_per_code``: features for each unit of the code, along dimension 1. ``rowwise``: as in ``Sparsity``.
    ``samples``: how many codes are drawn for each image; None for one (see ``Penalty.samples``).
    """

    parameters_per_code: int = 1
    rowwise: ClassVar[bool] = False
    samples: int | None = default(None)

    @property
    def constrains_code(self) -> bool:
        """Whether it limits the code. Then the features stay linear, and a sparsity that limits the code is
        rejected."""
        return self.parameters_per_code > 1

    def check_settings(self, settings: Any) -> None:
        if self.constrains_code and settings.sparsity.constrains_code:
            hint = f" (set by {settings.name('model')})" if _is_implied("latent", "model", settings) else ""
            raise ValueError(
                f"{settings.name('latent')} and {settings.name('sparsity')} both constrain the code: use sparsity=none "
                f"or latent=deterministic{hint}"
            )

    def draw(self, shape: Shape, generator: Generator) -> Tensor | None:
        """The random numbers of one stochastic pass for codes of that shape [B,...]; None if it is deterministic."""
        return None

    if TYPE_CHECKING:

        def __call__(self, features: Tensor, draw: Tensor | None) -> tuple[Tensor, Terms]:
            """features -> code[B,...] (or [B,k,...] for ``samples`` codes), and terms; deterministic without a draw.

            ``draw`` is what the method ``draw`` returned, and None in evaluation. A module reads ``self.training``.
            """

    def penalties(self, run: Pass) -> Terms:
        """Further terms that depend on the whole pass; means over the rows of the minibatch."""
        return []

    def for_data(self, data: TrainingData) -> Latent:
        """A copy that knows its training data; called before ``build``."""
        return self

    @property
    def codebooks(self) -> Tensor | None:
        """For a quantized code, the entries [S,G,K,d] of G codebooks with S stages each; None for other codes.

        The code consists of vectors of d channels, each the sum of one entry of each stage. The C / d vectors at each
        of P positions are numbered position by position, and shared out among the G codebooks in that order.
        """
        return None

    def indices(self, features: Tensor) -> Tensor:
        """For a quantized code, features[B,...] -> the numbers of its entries, [B,S,G,L] with L = C P / (d G)."""
        raise ValueError("this model's latent is not quantized: its code has no indices")

    def from_indices(self, indices: Tensor) -> Tensor:
        """The code[B,...] that has these ``indices``, to the last bit."""
        raise ValueError("this model's latent is not quantized: its code has no indices")

    def posterior(self, features: Tensor) -> tuple[Tensor, Tensor] | None:
        """Means and log-variances of a Gaussian posterior, each of the code's shape; None if there is none."""
        return None

    def log_prior(self, codes: Tensor) -> Tensor | None:
        """The log density [N] of the prior, in nats, for codes[N,...] of a Gaussian posterior; None if the prior is the
        standard normal."""
        return None

    def sample_prior(self, shape: Shape, generator: Generator) -> Tensor | None:
        """Codes of that shape [B,...] drawn from the prior; None if there is none."""
        return None


def _is_implied(group: str, by: str, settings: Any) -> bool:
    """Whether the option of ``group`` was set by the option that the user typed for ``by``."""
    return by in settings.typed and group not in settings.typed
