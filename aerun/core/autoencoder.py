"""The autoencoder, encoder -> sparsity -> latent -> decoder, and the objective that training minimizes."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Collection, Mapping
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import numpy as np
import torch
from torch import Generator, Tensor, nn

from aerun.base.activation import activation
from aerun.contracts import Latent, Loss, Pass, Penalty, Regularizer, Shape, Shapes, Sparsity, Terms
from aerun.core.image_inputs import as_batch, as_codes, as_labels, name_range
from aerun.latent import Deterministic
from aerun.model.conditional import NEEDS_LABELS
from aerun.model.modules import Tied

if TYPE_CHECKING:
    from aerun.core.image_inputs import Images, Labels

BATCH = 1000  # images, outside of training
log = logging.getLogger(__name__)
# What a pass gets in addition to images, by name, each with the rows of the batch: the random numbers of the latent and
# of ``regularizer.NAME``, the ``second_view``, another corruption of the images, and the ``labels`` of a conditional
# model.
Extras = Mapping[str, Tensor]
LATENT, SECOND_VIEW, LABELS = "latent", "second_view", "labels"


class Result(NamedTuple):
    """One pass: ``inputs`` as the encoder sees them, ``features`` (the encoder's linear output), ``code``, ``logits``
    (the decoder's linear output), ``prediction`` (after the output activation, to be compared with standardized
    targets), ``reconstruction`` (the prediction in the units of the data), and the ``terms`` of sparsity and latent.

    For a latent that draws k codes of each image, logits, prediction and reconstruction are [B,k,...], and ``code`` is
    the first code.
    """

    inputs: Tensor
    features: Tensor
    code: Tensor
    logits: Tensor
    prediction: Tensor
    reconstruction: Tensor
    terms: Terms


class WholeBatch(Protocol):
    """The minibatch of a run with several processes, of which each has some rows."""

    def __call__(self, part: Any, features: Tensor, other: Any) -> tuple[Tensor, Terms]:
        """Apply a part to the rows of all processes: the code of the local rows, and terms over all rows."""

    def gather(self, local: Tensor) -> Tensor:
        """The rows of all processes, from those of each."""


class Standardize(nn.Module):
    """(x - mean) / deviation and its inverse; the identity without statistics."""

    mean: Tensor | None
    deviation: Tensor | None

    def __init__(self, mean: Tensor | None = None, deviation: Tensor | None = None) -> None:
        super().__init__()
        # Copies: inputs and targets may have the same statistics, but a checkpoint must not contain a tensor twice.
        self.register_buffer("mean", None if mean is None else mean.clone())
        self.register_buffer("deviation", None if deviation is None else deviation.clone())

    def forward(self, x: Tensor) -> Tensor:
        return x if self.mean is None or self.deviation is None else (x - self.mean) / self.deviation

    def inverse(self, x: Tensor) -> Tensor:
        """Standardized values in the units of the data."""
        return x if self.mean is None or self.deviation is None else x * self.deviation + self.mean


class Autoencoder(nn.Module):
    """An encoder, a sparsity, a latent and a decoder, for images of ``input_shape`` (without the batch).

    ``encode``, ``decode`` and ``reconstruct`` use the units of the data, [0,1] for images. They run in batches, in
    evaluation mode, without gradients, and in the precision of the weights, also after ``half()`` or ``double()``. An
    autoencoder can be pickled, copied and passed to ``torch.save``.

    ``cuts``: see ``Codec``. ``fixed``: names of the parameters that the model itself never trains. ``frozen``: names of
    the modules that stay in evaluation mode. ``whole_batch``: with several processes, applies a sparsity or latent that
    is not ``rowwise`` to the rows of all processes. ``expects_unit_range``: warn, once, of floating-point inputs
    outside [0,1], because the model was trained on images within. ``any_size``: it also takes images of other heights
    and widths (see ``Codec``), batch by batch. ``while_training``: by ``sparsity``, ``latent`` and names of
    regularizers, the copies that training uses, whose numbers follow a schedule.

    A conditional model has a ``condition`` (see ``Codec``). It needs the label of each image: ``labels`` of the methods
    below, [N] or one for all, ``LABELS`` of a pass, or ``given``.
    """

    frozen: tuple[str, ...] = ()
    expects_unit_range: bool = False
    any_size: bool = False

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
        standardise_input: Standardize | None = None,
        standardise_target: Standardize | None = None,
        cuts: tuple[tuple[int, int], ...] | None = None,
        regularizers: Mapping[str, Any] | None = None,
        condition: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.decoder, self.condition = encoder, decoder, condition
        self.input_shape, self.output_shape, self.code_shape = input_shape, output_shape, code_shape
        self.sparsity, self.latent = sparsity, latent
        self.output_activation = activation(output_activation)
        self.standardise_input = standardise_input or Standardize()
        self.standardise_target = standardise_target or Standardize()
        self.cuts = cuts
        self.regularizers = dict(regularizers or {})
        modules = {name: part for name, part in self.regularizers.items() if isinstance(part, nn.Module)}
        if modules:
            self.regularizer = nn.ModuleDict(modules)
        self.fixed: frozenset[str] = frozenset()
        self.whole_batch: WholeBatch | None = None
        self.while_training: Mapping[str, Any] = {}

    def train(self, mode: bool = True) -> Self:
        """Set the training mode of all modules except frozen ones."""
        super().train(mode)
        for name, module in self.named_modules() if self.frozen else ():
            if name in self.frozen:
                module.training = False
        return self

    def draw(self, batch_size: int, generator: Generator) -> Tensor | None:
        """The latent's random numbers for one stochastic pass over a batch; None if it needs none."""
        return self.latent.draw((batch_size, *self.code_shape), generator)

    def draw_extras(self, batch_size: int, at: Callable[[str], Generator]) -> dict[str, Tensor]:
        """All random numbers for one pass over a batch, by name; each comes from the generator of its name."""
        shapes = Shapes(*((batch_size, *shape) for shape in (self.input_shape, self.code_shape, self.output_shape)))
        found: dict[str, Tensor | None] = {}
        if type(self.latent).draw is not Latent.draw:
            found[LATENT] = self.latent.draw(shapes.code, at(LATENT))
        for name, part in self.regularizers.items():
            if type(part).draw is not Regularizer.draw:
                found[f"regularizer.{name}"] = part.draw(shapes, at(f"regularizer.{name}"))
        return {name: draw for name, draw in found.items() if draw is not None}

    @property
    def two_views(self) -> bool:
        """Whether a pass needs a second corruption of each image, ``SECOND_VIEW``."""
        return any(part.two_views for part in self.regularizers.values())

    def view_noise(self, noise: Any) -> Any:
        """The corruption that makes the second view: that of the regularizer which asks for it, or else ``noise``."""
        own = (part.views for part in self.regularizers.values() if part.two_views)
        return next((views for views in own if views is not None), noise)

    @property
    def classes(self) -> int | None:
        """The number of labels that a conditional model takes; None for other models."""
        found: int | None = None if self.condition is None else self.condition.classes  # type: ignore[assignment]
        return found

    def given(self, labels: Tensor | None) -> Autoencoder:
        """The model for one batch of images with these labels [B], or [1] for any number of images: it shares the
        weights, and takes images and codes as other models do. A model that is not conditional returns itself.
        ValueError without labels."""
        if self.condition is None:
            return self
        (encoder_bias,), (decoder_bias,) = self._biases(None if labels is None else labels.to(self.device))
        model = copy.copy(self)
        model._modules = dict(self._modules)
        model.encoder, model.decoder = self.encoder.given(encoder_bias), self.decoder.given(decoder_bias)  # type: ignore[operator]
        model.condition = None
        return model

    def _biases(self, labels: Tensor | None) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """What encoder and decoder take in addition to their input."""
        if self.condition is None:
            return (), ()
        if labels is None:
            raise ValueError(NEEDS_LABELS)
        encoder, decoder = self.condition(labels)
        return (encoder,), (decoder,)

    def forward(self, images: Tensor, extras: Extras | Tensor | None = None) -> Result:
        """images[B,*input_shape] in the units of the data. Without extras the pass is deterministic; a tensor is the
        latent's ``draw``. A conditional model needs ``LABELS``."""
        given: Extras = {LATENT: extras} if isinstance(extras, Tensor) else extras or {}
        draw, (encoder_bias, decoder_bias) = given.get(LATENT), self._biases(given.get(LABELS))
        inputs = self.standardise_input(images)
        features = self.encoder(inputs, *encoder_bias)
        constrained, terms = self._constrain(self.active("sparsity"), features, self._is_training(self.sparsity))
        code, latent_terms = self._constrain(self.active("latent"), constrained, draw)
        if code.dtype is not features.dtype and not torch.is_autocast_enabled(code.device.type):
            code = code.to(features.dtype)  # a latent computes in at least float32
        logits = self._decode_samples(code, *decoder_bias)
        prediction = self.output_activation(logits.to(images.dtype))  # under autocast the logits are bfloat16
        reconstruction = self.standardise_target.inverse(prediction)
        first = code if code.dim() == 1 + len(self.code_shape) else code[:, 0]
        return Result(inputs, features, first, logits, prediction, reconstruction, [*terms, *latent_terms])

    def active(self, name: str) -> Any:
        """The sparsity, the latent, or the regularizer of that name, as the present pass uses it."""
        part = {"sparsity": self.sparsity, "latent": self.latent, **self.regularizers}[name]
        if not self.training or name not in self.while_training:
            return part
        scheduled = self.while_training[name]
        if isinstance(part, nn.Module):
            scheduled.training = part.training
        return scheduled

    def _is_training(self, part: Any) -> bool:
        """The training mode of a part: its own if it is a module, which may be frozen, otherwise the model's."""
        return part.training if isinstance(part, nn.Module) else self.training

    def _constrain(self, part: Any, features: Tensor, other: Any) -> tuple[Tensor, Terms]:
        """Apply the sparsity or the latent, to the rows of all processes if it is not ``rowwise``."""
        if type(part).__call__ is Deterministic.__call__:
            return features, []
        if self.whole_batch is None or part.rowwise or not self.training:
            constrained: tuple[Tensor, Terms] = part(features, other)
            return constrained
        return self.whole_batch(part, features, other)

    def gather(self, local: Tensor) -> Tensor:
        """Rows of this process -> the rows of the whole minibatch. Evaluation is in one process, which has all rows."""
        return local if self.whole_batch is None or not self.training else self.whole_batch.gather(local)

    def _decode_samples(self, code: Tensor, *bias: Tensor) -> Tensor:
        """code[B,...], or [B,k,...] with k samples -> logits with the same leading dimensions."""
        if code.dim() == 1 + len(self.code_shape):
            return self.decoder(code, *bias)
        bias = tuple(rows.repeat_interleave(code.shape[1], 0) for rows in bias)
        return self.decoder(code.flatten(0, 1), *bias).unflatten(0, code.shape[:2])

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **keys: Any) -> Any:
        """Load as torch does, after untying those layers that have their own weight in ``state_dict``."""
        untie(self, state_dict)
        return super().load_state_dict(state_dict, *args, **keys)

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the parameters, in which the model computes."""
        return next(self.parameters()).dtype

    def as_inputs(self, images: Images, taker: str = "the model") -> Tensor:
        """``images`` as a batch [N,*input_shape], see ``as_batch``. A warning names the range of floating-point images
        outside [0,1]."""
        batch = as_batch(images, self.input_shape, taker)
        self.warn_of_range(batch, taker)
        return batch

    def warn_of_range(self, images: Tensor, taker: str = "the model") -> None:
        """Name the range of floating-point images outside [0,1], if ``expects_unit_range``."""
        if self.expects_unit_range and (text := name_range(images)):
            self.expects_unit_range = False  # once: a loop over batches would repeat it
            log.warning("%s: %s", taker, text)

    def encode(self, images: Images, labels: Labels | None = None) -> Tensor:
        """images[N,*input_shape] -> codes[N,*code_shape] (posterior means for a Gaussian latent).

        ``images`` are floating-point in the units of the data, or uint8, or PIL images: see ``as_batch``. ValueError if
        their meaning is ambiguous.
        """
        return self._in_batches(lambda model, batch: model.encode_batch(batch), self.as_inputs(images), labels)

    def posterior(self, images: Images, labels: Labels | None = None) -> tuple[Tensor, Tensor]:
        """Images, as for ``encode`` -> means and log-variances [N,*code_shape] of the codes. ValueError for a latent
        without a Gaussian posterior."""
        features = self._in_batches(lambda model, batch: model._features(batch), self.as_inputs(images), labels)
        found = self.latent.posterior(features)
        if found is None:
            raise ValueError("this model's latent has no Gaussian posterior")
        return found

    def indices(self, images: Images, labels: Labels | None = None) -> Tensor:
        """Images, as for ``encode`` -> the indices [N,S,G,L] of a quantized code, see ``Latent.codebooks``. ValueError
        for another latent."""
        inputs = self.as_inputs(images)
        return self._in_batches(lambda model, batch: self.latent.indices(model._features(batch)), inputs, labels)

    def decode_indices(self, indices: Tensor, labels: Labels | None = None) -> Tensor:
        """indices[N,S,G,L] -> images[N,*output_shape], those of ``decode`` to the last bit. ValueError as above."""
        with torch.no_grad():
            return self.decode(self.latent.from_indices(indices.to(self.device)).to(self.dtype), labels)

    def decode(self, codes: Tensor | np.ndarray, labels: Labels | None = None) -> Tensor:
        """codes[N,*code_shape] -> images[N,*output_shape]."""
        return self._in_batches(
            lambda model, batch: model.decode_batch(batch), as_codes(codes, self.code_shape), labels
        )

    def reconstruct(self, images: Images, labels: Labels | None = None) -> Tensor:
        """Images, as for ``encode`` -> reconstructions[N,*output_shape]."""
        inputs = self.as_inputs(images)
        return self._in_batches(lambda model, batch: model.decode_batch(model.encode_batch(batch)), inputs, labels)

    def encode_inputs(self, inputs: Tensor) -> Tensor:
        """Inputs as the encoder sees them -> code, as in evaluation, whatever the mode, and with gradients."""
        modules = {part: part.training for part in (self.sparsity, self.latent) if isinstance(part, nn.Module)}
        try:
            for module in modules:
                module.eval()
            return self.latent(self.sparsity(self.encoder(inputs), False)[0], None)[0]
        finally:
            for module, was_training in modules.items():
                module.train(was_training)

    def encode_batch(self, images: Tensor) -> Tensor:
        """Like ``encode``, for one floating-point batch on the model's device."""
        return self.latent(self._features(images), None)[0].to(self.dtype)

    def _features(self, images: Tensor) -> Tensor:
        return self.sparsity(self.encoder(self.standardise_input(images)), False)[0]

    def decode_batch(self, code: Tensor) -> Tensor:
        """Like ``decode``, for one batch on the model's device."""
        return self.standardise_target.inverse(self.output_activation(self.decoder(code).to(self.dtype)))

    @torch.no_grad()
    def _in_batches(
        self, function: Callable[[Autoencoder, Tensor], Tensor], data: Tensor, labels: Labels | None
    ) -> Tensor:
        """Apply ``function(model, batch)`` to data[N,...] in batches, in evaluation mode; uint8 is scaled to [0,1].
        ValueError for labels that the model does not take."""
        was_training = self.training
        given = as_labels(labels, len(data), self.classes)
        each = [None] if given is None else given.to(self.device).split(BATCH)
        self.eval()
        try:
            parts = zip_longest(data.split(BATCH) or [data], each)
            return torch.cat([function(self.given(some), self._convert(chunk)) for chunk, some in parts])
        finally:
            self.train(was_training)

    def _convert(self, chunk: Tensor) -> Tensor:
        """Move the chunk to the model's device and precision."""
        values = chunk.to(self.device, self.dtype)
        return values / 255 if chunk.dtype == torch.uint8 else values


def untie(autoencoder: Autoencoder, among: Collection[str] | None = None) -> None:
    """Give tied layers of the decoder their own copy of the weight: all layers, or those whose weight is ``among``
    these names of parameters."""
    for parent, path in [(module, name) for name, module in autoencoder.decoder.named_modules(prefix="decoder")]:
        for name, layer in parent.named_children():
            if isinstance(layer, Tied) and (among is None or f"{path}.{name}.weight" in among):
                setattr(parent, name, layer.untied())


def objective(
    result: Result, targets: Tensor, autoencoder: Autoencoder, loss: Loss, extras: Extras | None = None
) -> dict[str, Tensor]:
    """The scalar ``loss`` and its unweighted terms, by name, for targets[B,...] in the units of the data.

    ``reconstruction`` is reduced by ``loss.reduction``. A penalty in nats per image is scaled accordingly in the loss,
    but reported per image, together with ``reconstruction_nats``. Diagnostics are reported, but not part of the loss.
    """
    prediction = result.logits if loss.takes_logits else result.prediction
    wanted = autoencoder.standardise_target(targets)
    scale, own = loss.scale(targets[0].numel()), result.terms
    sampled = next((term for term in own if isinstance(term, Penalty) and term.samples is not None), None)
    if sampled is not None and sampled.samples is not None:
        terms = _importance_weighted(prediction, wanted, sampled, sampled.samples, loss)
        own = []
    else:
        reconstruction = loss(prediction, wanted)
        terms = {"loss": reconstruction, "reconstruction": reconstruction}
    for term in (*own, *further_terms(result, wanted, autoencoder, loss, extras or {})):
        terms[term.name] = term.value
        if isinstance(term, Penalty):
            terms["loss"] = terms["loss"] + term.weight * (scale if term.per_image else 1.0) * term.value
            if term.per_image:
                terms["reconstruction_nats"] = terms["reconstruction"] / scale
    return terms


def further_terms(result: Result, targets: Tensor, autoencoder: Autoencoder, loss: Loss, extras: Extras) -> Terms:
    """The terms that depend on the whole pass: of regularizers, and of sparsity and latent with ``penalties``."""
    parts = ((autoencoder.active("sparsity"), Sparsity), (autoencoder.active("latent"), Latent))
    penalizing = [part for part, contract in parts if type(part).penalties is not contract.penalties]
    if not penalizing and not autoencoder.regularizers:
        return []
    autoencoder = autoencoder.given(extras.get(LABELS))
    networks = autoencoder.encoder, autoencoder.decoder, autoencoder.encode_inputs
    run = Pass(*result[:5], targets, *networks, loss, autoencoder.output_activation, autoencoder.gather)
    terms = [term for part in penalizing for term in part.penalties(run)]
    view = extras.get(SECOND_VIEW)
    run = run._replace(second_view=None if view is None else autoencoder.standardise_input(view))
    for name in autoencoder.regularizers:
        terms += autoencoder.active(name).penalties(run._replace(draw=extras.get(f"regularizer.{name}")))
    return terms


def _importance_weighted(
    prediction: Tensor, targets: Tensor, penalty: Penalty, ratios: Tensor, loss: Loss
) -> dict[str, Tensor]:
    """-log 1/k sum_i p(x|z_i) p(z_i) / q(z_i|x), from predictions[B,k,...], targets[B,...] and log q/p [B,k].

    The mean over images is ``bound_nats``; the loss is scaled like a reconstruction error.
    """
    errors = loss.nats(prediction, targets.unsqueeze(1))
    bound = math.log(ratios.shape[1]) - (-errors - ratios).logsumexp(1).mean()
    scale, nats = loss.scale(targets[0].numel()), errors.mean()
    terms = {"reconstruction": nats * scale, penalty.name: penalty.value, "reconstruction_nats": nats}
    return {"loss": bound * scale, **terms, "bound_nats": bound}
