"""Penalties on derivatives. Evaluation computes them as training does, with other random numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aerun.base.activation import at_least_float32
from aerun.contracts import Count, NonNegative, Pass, Penalty, Regularizer, Shape, Shapes, Terms
from aerun.regularizer.norms import half_square

if TYPE_CHECKING:
    from torch import Generator, Tensor

UNITS_AT_ONCE = 32  # of an exact Jacobian


@dataclass(frozen=True)
class Contractive(Regularizer):
    """The squared Frobenius norm of the code's Jacobian, |d code / d input|_F^2, mean over the batch.

    Contractive autoencoders: Rifai, Vincent, Muller, Glorot & Bengio 2011 (ICML), equation 6. The derivative is that of
    the deterministic code, as in evaluation, for any depth. It is estimated from ``projections`` random vectors v ~
    N(0, I), |J|_F^2 = E |J^T v|^2 (Hutchinson 1989), or exact with ``projections=null``, at one derivative for each
    value of the code. The weight is on the scale of errors summed over an image.
    """

    weight: NonNegative
    projections: Count | None

    schedulable = ("weight",)

    def draw(self, shapes: Shapes, generator: Generator) -> Tensor | None:
        """Standard normal numbers [B,projections,*code]."""
        return _projections(self.projections, shapes.code, generator)

    def penalties(self, run: Pass) -> Terms:
        """Penalty ``contraction``."""
        norms = squared_jacobian(run.encode, run.inputs, run.draw)
        return [Penalty("contraction", norms.mean(), self.weight, per_image=True)]


@dataclass(frozen=True)
class RaeGradient(Regularizer):
    """RAE-GP: half the code's squared length, and the squared Frobenius norm of the decoder's Jacobian at the code.

    ``code_weight`` |z|^2 / 2 + ``gradient_weight`` |d decoder(z) / d z|_F^2, means over the batch: Ghosh, Sajjadi,
    Vergari, Black & Scholkopf 2020, "From variational to deterministic autoencoders" (arXiv:1903.12436), equations 9
    and 11. The norm is estimated as in ``Contractive``; it is that of the decoder's linear output. Weights are on the
    scale of errors summed over an image.
    """

    code_weight: NonNegative
    gradient_weight: NonNegative
    projections: Count | None

    schedulable = ("code_weight", "gradient_weight")

    def draw(self, shapes: Shapes, generator: Generator) -> Tensor | None:
        """Standard normal numbers [B,projections,*output]."""
        return _projections(self.projections, shapes.outputs, generator)

    def penalties(self, run: Pass) -> Terms:
        """Penalties ``code_norm`` and ``decoder_gradient``."""
        norms = squared_jacobian(run.decoder, at_least_float32(run.code), run.draw)
        return [
            Penalty("code_norm", half_square(run.code), self.code_weight, per_image=True),
            Penalty("decoder_gradient", norms.mean(), self.gradient_weight, per_image=True),
        ]


def squared_jacobian(function: Callable[[Tensor], Tensor], inputs: Tensor, draw: Tensor | None) -> Tensor:
    """|d outputs / d inputs|_F^2 of each row [B], also where gradients are off.

    inputs[B,...] -> function -> outputs[B,...], rows independent. An estimate from ``draw`` [B,n,*outputs], or exact.
    """
    import torch

    training = torch.is_grad_enabled()
    with torch.enable_grad():
        if not inputs.requires_grad:
            inputs = inputs.detach().requires_grad_()
        outputs = function(inputs)
        total = outputs.new_zeros(len(inputs), dtype=inputs.dtype)
        if draw is not None:
            directions, share = [part.to(outputs.dtype) for part in draw.unbind(1)], 1 / draw.shape[1]
            for direction in directions:
                (gradient,) = torch.autograd.grad(outputs, inputs, direction, retain_graph=True, create_graph=training)
                total = total + share * gradient.square().flatten(1).sum(1)
            return total
        values = math.prod(outputs.shape[1:])
        for units in torch.arange(values, device=outputs.device).split(UNITS_AT_ONCE):
            each = torch.zeros(len(units), values, dtype=outputs.dtype, device=outputs.device)
            each = (
                each.scatter(1, units[:, None], 1.0).view(len(units), 1, *outputs.shape[1:]).expand(-1, *outputs.shape)
            )
            (gradient,) = torch.autograd.grad(
                outputs, inputs, each, retain_graph=True, create_graph=training, is_grads_batched=True
            )
            total = total + gradient.square().flatten(2).sum((0, 2))
    return total if training else total.detach()


def _projections(count: int | None, shape: Shape, generator: Generator) -> Tensor | None:
    """Standard normal numbers [B,count,...] for outputs of that shape [B,...]; None for an exact norm."""
    import torch

    if count is None:
        return None
    return torch.randn((shape[0], count, *shape[1:]), generator=generator, device=generator.device)
