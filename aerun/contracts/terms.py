"""What parts return, and what a penalty receives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

Shape = tuple[int, ...]


class Penalty(NamedTuple):
    """One named term that is added to the reconstruction error.

    ``value`` is the unweighted scalar, which is logged, so that runs with different weights can be compared.
    ``per_image``: the value is in nats per image, and is divided by the number of values of an image if the
    reconstruction error is. ``samples`` [B,k]: if k codes are drawn for each image, the values whose mean it is.
    """

    name: str
    value: Tensor
    weight: float
    per_image: bool = False
    samples: Tensor | None = None


class Diagnostic(NamedTuple):
    """One named scalar that is logged with the loss terms but is not part of the loss."""

    name: str
    value: Tensor


Terms = list[Penalty | Diagnostic]


class Shapes(NamedTuple):
    """The shapes of one pass, each with the batch: inputs[B,...], code[B,...], outputs[B,...]."""

    inputs: Shape
    code: Shape
    outputs: Shape


class Pass(NamedTuple):
    """One pass through an autoencoder, with everything that a penalty may need.

    inputs[B,*input_shape] as the encoder sees them, features (the encoder's linear output), code, logits (the decoder's
    linear output), prediction (after the output activation, to be compared with ``targets``), residual (targets -
    prediction), the two networks, and the run's ``loss``. ``encode``: inputs -> code, as in evaluation, with gradients.
    ``gather``: rows of this process -> the rows of the whole minibatch; with one process, its argument. Of a
    regularizer also what its ``draw`` returned, and the ``second_view`` of the inputs that it asked for.
    """

    inputs: Tensor
    features: Tensor
    code: Tensor
    logits: Tensor
    prediction: Tensor
    targets: Tensor
    encoder: nn.Module
    decoder: nn.Module
    encode: Callable[[Tensor], Tensor]
    loss: Any
    output_activation: Callable[[Tensor], Tensor]
    gather: Callable[[Tensor], Tensor]
    draw: Tensor | None = None
    second_view: Tensor | None = None

    @property
    def residual(self) -> Tensor:
        """targets - prediction, in the shape of the targets."""
        return self.targets - self.prediction

    def error(self, code: Tensor) -> Tensor:
        """The reconstruction error of another code of the same images: a scalar, in the units of the loss."""
        logits = self.decoder(code.to(self.targets.dtype))
        error: Tensor = self.loss(logits if self.loss.takes_logits else self.output_activation(logits), self.targets)
        return error


class TrainingData(NamedTuple):
    """What a latent may know of the training data: the shape of one input of the encoder, and the number of images."""

    input_shape: Shape
    images: int


class Factors(NamedTuple):
    """The true factors of variation of images: values [N,F], whole numbers from 0, the name of each factor, and whether
    its values have an order."""

    values: np.ndarray
    names: tuple[str, ...]
    ordered: tuple[bool, ...]


class Moment(NamedTuple):
    """A step of a training, or of one of its stages: its number from 0, the planned number of steps (None: no planned
    end), and the steps of an epoch."""

    step: int
    total_steps: int | None
    steps_per_epoch: int

    @property
    def progress(self) -> float:
        """The share of the planned steps that are done, from 0 to below 1; 0 without a planned end."""
        return self.step / self.total_steps if self.total_steps else 0.0

    def share_of(self, epochs: float | None) -> float:
        """The share of the first ``epochs`` that is done, from 0 to 1; None: of all steps, 1 in the last one."""
        if epochs is None:
            return min(1.0, self.step / max(1, (self.total_steps or 1) - 1))
        return min(1.0, self.step / (epochs * self.steps_per_epoch))

    def share_of_cycle(self, cycles: int, ramp: float) -> float:
        """With equal ``cycles`` over all steps: the share of the current one's first part ``ramp``, from 0 to 1."""
        position: float = self.progress * cycles % 1
        return min(1.0, position / ramp)


class Codec(NamedTuple):
    """An encoder and a decoder, both without a final activation.

    - encoder(images[B,*input_shape]) -> features, with ``parameters_per_code`` times the units of the code along
      dimension 1.
    - decoder(code[B,*code_shape]) -> [B,*output_shape]; the autoencoder applies the output activation, so that a loss
      can use the logits.
    - ``cuts``: for sequential encoders and decoders, the boundaries between layer pairs, outermost first. For each
      (end, start), encoder[:end] and decoder[start:] form an autoencoder. None if there are no pairs.
    - ``condition``: of a conditional model, labels[B] -> two tensors [B,...], which encoder and decoder take as their
      second argument (see ``aerun.model.conditional``).
    - ``any_size``: both take images of any height and width, and map distant parts of an image independently.
    """

    encoder: nn.Module
    decoder: nn.Module
    code_shape: Shape
    cuts: tuple[tuple[int, int], ...] | None = None
    condition: nn.Module | None = None
    any_size: bool = False


@dataclass(frozen=True)
class Metric:
    """A number that runs report: its name, its unit ("" if it has none), and which direction is better."""

    name: str
    unit: str = ""
    higher_is_better: bool = False
