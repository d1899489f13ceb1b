"""An autoencoder and its loss: encoder -> sparsity -> latent -> decoder, one pass, and what is minimized."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import torch
from torch import Generator, Tensor, nn

from aerun.base.activation import activation
from aerun.contracts import Latent, Loss, Pass, Penalty, Shape, Sparsity, Terms
from aerun.core.inputs import as_batch, as_codes
from aerun.model.modules import Tied

if TYPE_CHECKING:
    from aerun.core.inputs import Images

BATCH = 1000  # images at once outside of training
Constrain = Callable[[Any, Tensor, Any], tuple[Tensor, Terms]]


class Result(NamedTuple):
    """One pass: ``inputs`` as the encoder sees them, ``features`` (the encoder's linear output), ``code``, ``logits``
    (the decoder's linear output), ``prediction`` (after the output activation; compares with standardized targets),
    ``reconstruction`` (the same in the data's own units), and the ``terms`` of sparsity and latent.

    For a latent that draws k codes of each image logits, prediction and reconstruction are [B,k,...], and ``code`` is
    the first."""

    inputs: Tensor
    features: Tensor
    code: Tensor
    logits: Tensor
    prediction: Tensor
    reconstruction: Tensor
    terms: Terms


class Standardise(nn.Module):
    """(x - mean) / deviation and its inverse; nothing at all where no statistics are given."""

    mean: Tensor | None
    deviation: Tensor | None

    def __init__(self, mean: Tensor | None = None, deviation: Tensor | None = None) -> None:
        super().__init__()
        # Copies: inputs and targets may have the same statistics, but a checkpoint holds no tensor twice.
        self.register_buffer("mean", None if mean is None else mean.clone())
        self.register_buffer("deviation", None if deviation is None else deviation.clone())

    def forward(self, x: Tensor) -> Tensor:
        return x if self.mean is None or self.deviation is None else (x - self.mean) / self.deviation

    def inverse(self, x: Tensor) -> Tensor:
        """The data's own units again."""
        return x if self.mean is None or self.deviation is None else x * self.deviation + self.mean


class Autoencoder(nn.Module):
    """An encoder, what constrains its code, and a decoder, for images of ``input_shape`` (without the batch).

    ``encode``, ``decode`` and ``reconstruct`` take and give the data's own units, [0,1] for images; they run in
    evaluation mode without gradients, in batches, in the precision of the weights: after ``half()`` or ``double()`` in
    that. An autoencoder can be pickled, copied and passed to ``torch.save``.

    ``cuts`` are the codec's (see there). ``fixed`` names the parameters that the model itself never trains,
    ``frozen`` the modules that stay in evaluation mode.
    ``whole_batch``, in a run of several processes, applies a sparsity or latent that is not ``rowwise`` to the rows of
    all of them.
    """

    frozen: tuple[str, ...] = ()

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        input_shape: Shape,
        output_shape: Shape,
        code_shape: Shape,
        sparsity: Sparsity,
        latent: Latent,
        output_activation: str,
        standardise_input: Standardise | None = None,
        standardise_target: Standardise | None = None,
        cuts: tuple[tuple[int, int], ...] | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.input_shape, self.output_shape, self.code_shape = input_shape, output_shape, code_shape
        self.sparsity, self.latent = sparsity, latent
        self.output_activation = activation(output_activation)
        self.standardise_input = standardise_input or Standardise()
        self.standardise_target = standardise_target or Standardise()
        self.cuts = cuts
        self.fixed: frozenset[str] = frozenset()
        self.whole_batch: Constrain | None = None

    @property
    def penalizing(self) -> list[Sparsity | Latent]:
        """Sparsity and latent, if they override ``penalties``."""
        parts: tuple[tuple[Any, Any], ...] = ((self.sparsity, Sparsity), (self.latent, Latent))
        return [part for part, contract in parts if type(part).penalties is not contract.penalties]

    def train(self, mode: bool = True) -> Self:
        """As torch's, but for modules that are frozen."""
        super().train(mode)
        for name, module in self.named_modules() if self.frozen else ():
            if name in self.frozen:
                module.training = False
        return self

    def draw(self, batch_size: int, generator: Generator) -> Tensor | None:
        """The random numbers that one stochastic pass over a batch needs, or None."""
        return self.latent.draw((batch_size, *self.code_shape), generator)

    def forward(self, images: Tensor, draw: Tensor | None = None) -> Result:
        """images[B,*input_shape] in the data's units; without a draw the pass is deterministic."""
        inputs = self.standardise_input(images)
        features = self.encoder(inputs)
        constrained, terms = self._constrain(self.sparsity, features, self._is_training(self.sparsity))
        code, more = self._constrain(self.latent, constrained, draw)
        logits = self._decoded(code)
        prediction = self.output_activation(logits.to(images.dtype))  # under autocast the logits are bfloat16
        reconstruction = self.standardise_target.inverse(prediction)
        first = code if code.dim() == 1 + len(self.code_shape) else code[:, 0]
        return Result(inputs, features, first, logits, prediction, reconstruction, [*terms, *more])

    def _is_training(self, part: Any) -> bool:
        """Whether a part trains: as the whole does, unless it is a module and frozen."""
        return part.training if isinstance(part, nn.Module) else self.training

    def _constrain(self, part: Any, features: Tensor, other: Any) -> tuple[Tensor, Terms]:
        """The sparsity or the latent, applied to the rows that it must see."""
        if self.whole_batch is None or part.rowwise or not self.training:
            constrained: tuple[Tensor, Terms] = part(features, other)
            return constrained
        return self.whole_batch(part, features, other)

    def _decoded(self, code: Tensor) -> Tensor:
        """code[B,...] or, of k samples, [B,k,...] -> logits of the same leading dimensions."""
        code = code.to(self.dtype)
        if code.dim() == 1 + len(self.code_shape):
            return self.decoder(code)
        return self.decoder(code.flatten(0, 1)).unflatten(0, code.shape[:2])

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **keys: Any) -> Any:
        """As torch's. Tied layers that have weights of their own there are untied first."""
        untie(self, state_dict)
        return super().load_state_dict(state_dict, *args, **keys)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """In which the parameters are, and the model computes."""
        return next(self.parameters()).dtype

    def encode(self, images: Images) -> Tensor:
        """images[N,*input_shape] -> codes[N,*code_shape] (posterior means for a Gaussian latent).

        ``images`` are floating-point in the data's own units, or uint8, or PIL images: see ``as_batch``. ValueError for
        those whose meaning is not certain.
        """
        return self._in_batches(self._code, as_batch(images, self.input_shape))

    def posterior(self, images: Images) -> tuple[Tensor, Tensor]:
        """Images, as for ``encode`` -> means and log-variances [N,*code_shape] of a Gaussian latent's codes. ValueError
        for a latent without such a posterior."""
        features = self._in_batches(self._features, as_batch(images, self.input_shape))
        found = self.latent.posterior(features)
        if found is None:
            raise ValueError("this model's latent has no Gaussian posterior")
        return found

    def decode(self, codes: Tensor | np.ndarray) -> Tensor:
        """codes[N,*code_shape] -> images[N,*output_shape]."""
        return self._in_batches(self._picture, as_codes(codes, self.code_shape))

    def reconstruct(self, images: Images) -> Tensor:
        """Images, as for ``encode`` -> reconstructions[N,*output_shape]."""
        return self._in_batches(lambda batch: self._picture(self._code(batch)), as_batch(images, self.input_shape))

    def _code(self, images: Tensor) -> Tensor:
        return self.latent(self._features(images), None)[0].to(self.dtype)

    def _features(self, images: Tensor) -> Tensor:
        return self.sparsity(self.encoder(self.standardise_input(images)), False)[0]

    def _picture(self, code: Tensor) -> Tensor:
        return self.standardise_target.inverse(self.output_activation(self.decoder(code).to(self.dtype)))

    @torch.no_grad()
    def _in_batches(self, function: Callable[[Tensor], Tensor], data: Tensor) -> Tensor:
        """``function`` of data[N,...], in evaluation mode; uint8 becomes [0,1]."""
        was_training = self.training
        self.eval()
        try:
            chunks = [function(self._own(chunk)) for chunk in data.split(BATCH)]
        finally:
            self.train(was_training)
        return torch.cat(chunks) if chunks else function(self._own(data))

    def _own(self, chunk: Tensor) -> Tensor:
        """The chunk on the model's device, in its precision."""
        values = chunk.to(self.device, self.dtype)
        return values / 255 if chunk.dtype == torch.uint8 else values


def untie(autoencoder: Autoencoder, among: Collection[str] | None = None) -> None:
    """Give tied layers of the decoder weights of their own, equal to what they have used: all of them, or those that
    have one ``among`` these names of parameters."""
    for parent, path in [(module, name) for name, module in autoencoder.decoder.named_modules(prefix="decoder")]:
        for name, layer in parent.named_children():
            if isinstance(layer, Tied) and (among is None or f"{path}.{name}.weight" in among):
                setattr(parent, name, layer.untied())


def objective(result: Result, targets: Tensor, autoencoder: Autoencoder, loss: Loss) -> dict[str, Tensor]:
    """The scalar ``loss`` and its unweighted terms, by name, for targets[B,...] in the data's own units.

    ``reconstruction`` is reduced as ``loss.reduction`` says. A penalty in nats per image is scaled likewise, but
    reported per image, together with ``reconstruction_nats``. Diagnostics are reported and not part of the loss.
    """
    prediction = result.logits if loss.takes_logits else result.prediction
    wanted = autoencoder.standardise_target(targets)
    for penalty in result.terms:
        if isinstance(penalty, Penalty) and penalty.samples is not None:
            return _importance_weighted(prediction, wanted, penalty, penalty.samples, loss)
    reconstruction = loss(prediction, wanted)
    total, terms = reconstruction, {"reconstruction": reconstruction}
    scale = loss.scale(targets[0].numel())
    seen = Pass(*result[:5], wanted, autoencoder.encoder, autoencoder.decoder)
    more = (term for part in autoencoder.penalizing for term in part.penalties(seen))
    for term in (*result.terms, *more):
        terms[term.name] = term.value
        if isinstance(term, Penalty):
            total = total + term.weight * (scale if term.per_image else 1.0) * term.value
            if term.per_image:
                terms["reconstruction_nats"] = reconstruction / scale
    return {"loss": total, **terms}


def _importance_weighted(
    prediction: Tensor, targets: Tensor, penalty: Penalty, ratios: Tensor, loss: Loss
) -> dict[str, Tensor]:
    """-log 1/k sum_i p(x|z_i) p(z_i) / q(z_i|x), from predictions[B,k,...], targets[B,...] and log q/p [B,k].

    The mean over images is ``bound_nats``; the loss is scaled as a reconstruction error is.
    """
    errors = loss.nats(prediction, targets.unsqueeze(1))
    bound = math.log(ratios.shape[1]) - (-errors - ratios).logsumexp(1).mean()
    scale, nats = loss.scale(targets[0].numel()), errors.mean()
    terms = {"reconstruction": nats * scale, penalty.name: penalty.value, "reconstruction_nats": nats}
    return {"loss": bound * scale, **terms, "bound_nats": bound}
