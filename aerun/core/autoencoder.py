"""The sandwich: encoder -> sparsity -> latent -> decoder, and what one pass through it gives."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor, nn

from aerun.base.activation import activation
from aerun.contracts import Penalty

Shape = tuple[int, ...]
Sparsity = Callable[[Tensor, bool], tuple[Tensor, list[Penalty]]]
BATCH = 1000


class Result(NamedTuple):
    """One pass: ``logits`` is the decoder's linear output, ``prediction`` follows the output activation and
    compares with (standardised) targets, ``reconstruction`` is the same in the data's own units.

    Of a latent that draws k codes of each image these three are [B,k,...], and ``code`` is the first."""

    code: Tensor
    logits: Tensor
    prediction: Tensor
    reconstruction: Tensor
    penalties: list[Penalty]


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
    evaluation mode without gradients, on tensors or arrays, in batches. ``cuts`` are the codec's (see there). ``fixed``
    names the parameters that the model itself holds, whatever else is frozen for a while.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        input_shape: Shape,
        output_shape: Shape,
        code_shape: Shape,
        sparsity: Sparsity,
        latent: Any,
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

    def draw(self, batch_size: int, generator: Generator) -> Tensor | None:
        """The random numbers that one stochastic pass over a batch needs, or None."""
        draw: Tensor | None = self.latent.draw((batch_size, *self.code_shape), generator)
        return draw

    def forward(self, images: Tensor, draw: Tensor | None = None) -> Result:
        """images[B,*input_shape] in the data's units; without a draw the pass is deterministic."""
        features = self.encoder(self.standardise_input(images))
        features, penalties = self.sparsity(features, self.training)
        code, more = self.latent(features, draw)
        logits = self._decoded(code)
        prediction = self.output_activation(logits.float())
        reconstruction = self.standardise_target.inverse(prediction)
        return Result(
            code if code.dim() == 1 + len(self.code_shape) else code[:, 0],
            logits,
            prediction,
            reconstruction,
            penalties + more,
        )

    def _decoded(self, code: Tensor) -> Tensor:
        """code[B,...] or, of k samples, [B,k,...] -> logits of the same leading dimensions."""
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

    def encode(self, images: Tensor | np.ndarray) -> Tensor:
        """images[N,*input_shape] -> codes[N,*code_shape] (posterior means for a Gaussian latent)."""
        return self._batched(lambda batch: self._code(batch), images, self.input_shape)

    def posterior(self, images: Tensor | np.ndarray) -> tuple[Tensor, Tensor]:
        """images[N,*input_shape] -> means and log-variances [N,*code_shape] of a Gaussian latent's codes."""
        means, log_variances = self._batched(self._features, images, self.input_shape).float().chunk(2, dim=1)
        return means, log_variances

    def decode(self, codes: Tensor | np.ndarray) -> Tensor:
        """codes[N,*code_shape] -> images[N,*output_shape]."""
        return self._batched(self._picture, codes, self.code_shape)

    def reconstruct(self, images: Tensor | np.ndarray) -> Tensor:
        """images[N,*input_shape] -> reconstructions[N,*output_shape]."""
        return self._batched(lambda batch: self._picture(self._code(batch)), images, self.input_shape)

    def _code(self, images: Tensor) -> Tensor:
        code: Tensor = self.latent(self._features(images), None)[0]
        return code

    def _features(self, images: Tensor) -> Tensor:
        return self.sparsity(self.encoder(self.standardise_input(images)), False)[0]

    def _picture(self, code: Tensor) -> Tensor:
        return self.standardise_target.inverse(self.output_activation(self.decoder(code).float()))

    @torch.no_grad()
    def _batched(self, function: Callable[[Tensor], Tensor], data: Tensor | np.ndarray, shape: Shape) -> Tensor:
        data = torch.as_tensor(data)
        if tuple(data.shape[1:]) != shape:
            raise ValueError(f"expected a batch of shape [N, {', '.join(map(str, shape))}], got {list(data.shape)}")
        if not data.is_floating_point():
            raise ValueError(f"expected floating-point values, images in [0,1], got {data.dtype}: divide by 255")
        was_training = self.training
        self.eval()
        try:
            chunks = [function(chunk.to(self.device, torch.float32)) for chunk in data.split(BATCH)]
        finally:
            self.train(was_training)
        return torch.cat(chunks) if chunks else function(data.to(self.device, torch.float32))


def untie(autoencoder: Autoencoder, among: Collection[str] | None = None) -> None:
    """Give tied layers of the decoder weights of their own, equal to what they have used: all of them, or those that
    have one ``among`` these names of parameters."""
    for parent, path in [(module, name) for name, module in autoencoder.decoder.named_modules(prefix="decoder")]:
        for name, layer in parent.named_children():
            if hasattr(layer, "untied") and (among is None or f"{path}.{name}.weight" in among):
                setattr(parent, name, layer.untied())
